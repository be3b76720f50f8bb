"""An attack as a value: it can be played against any flow unless it says why not."""

from ivrguard.phone.redteam.attack import Attack, Outcome, Verdict


async def test_an_attack_lacks_nothing_unless_it_says_so(flow_with):
    async def play(_):
        pass

    attack = Attack("x", "says", "source", play)
    assert attack.lacks(flow_with("bank")) == ""
    assert Outcome(attack, Verdict.HELD).holes == ()
