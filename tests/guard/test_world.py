"""The flows in force: by dialled number, by version, by name."""

from dataclasses import replace
from typing import Any

import pytest

from ivrguard.core.call import Call
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.guard import Flows

Centre = Any


def call_of(name: str, version: str) -> Call:
    """A call that began with this version of this flow."""
    return Call("CA1", "AC1", name, version, ANONYMOUS, "+18005550100", attested=False, began_ms=0)


def test_a_number_leads_to_its_flow_and_every_other_one_to_the_star(centre: Centre, flow: Flow):
    """The number's own flow before the one for all; without a star, other numbers belong to nobody."""
    bank = centre.mounted(flow)
    rest = centre.mounted(replace(flow, name="rest", numbers=("*",)))

    both, one = Flows((bank, rest)), Flows((bank,))

    assert [both.dialled(number) for number in ("+18005550100", "+18005550111", "")] == [bank, rest, rest]
    assert one.dialled("+18005550111") is None
    assert (both.all(), both.first()) == ((bank, rest), bank)
    assert (Flows(()).all(), Flows(()).first()) == ((), None)


def test_a_call_keeps_the_version_it_began_with(centre: Centre, flow: Flow):
    """While both are in force; after a restart with another file, the flow of that name; otherwise none."""
    old, new = centre.mounted(replace(flow, version="1")), centre.mounted(replace(flow, version="2"))

    both, after = Flows((old, new)), Flows((new,))

    assert both.of(call_of("bank", "1")) is old
    assert both.of(call_of("bank", "2")) is new
    assert after.of(call_of("bank", "1")) is new
    assert after.of(call_of("shop", "1")) is None


def test_a_nonce_is_128_bits_and_fits_a_url(centre: Centre):
    """32 hex digits, drawn from the chance handed in, never the same twice."""
    world = centre.world()

    drawn = {world.nonce() for _ in range(100)}

    assert len(drawn) == 100
    assert {len(nonce) for nonce in drawn} == {32}
    assert set("".join(drawn)) <= set("0123456789abcdef")


def test_a_world_shows_no_keys(centre: Centre):
    """Its repr holds neither the keys nor anything of theirs."""
    assert "Keyring(" not in repr(replace(centre.world(), store=None, directory=None, codes=None, judges={}))


def test_what_cannot_be_opened_is_a_fault_that_says_what_to_mend(centre: Centre):
    """Of another key, of another purpose, or no seal at all; nothing of what it holds is shown."""
    world = centre.world()
    sealed = world.keys.seal(b"secret", "cookies/CA1")

    assert world.unseal(sealed, "cookies/CA1") == b"secret"
    for bad, purpose in ((sealed, "cookies/CA2"), (f"k7.{sealed[3:]}", "cookies/CA1"), ("", "cookies/CA1")):
        with pytest.raises(Fault, match="an old sealing key must stay") as raised:
            world.unseal(bad, purpose)
        assert sealed[3:] not in str(raised.value)
