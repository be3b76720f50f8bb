"""
The bank's own system as the directory: the same work for everybody, a guess sent once, one spelling of each account, and
every failure a refusal.
"""

import re
from collections.abc import Awaitable, Callable

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import DirectoryFault
from ivrguard.directory.bank import Bank
from ivrguard.directory.breaker import Breaker
from ivrguard.directory.http import HttpDirectory, HttpPinJudge, HttpPins
from ivrguard.directory.messages import CHANGE, LOOKUP, VERIFY
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import Clock
from ivrguard.ports import Account, Credential, Right, Wrong

START_MS = 1_800_000_000_000
PIN, OWNER, OTHER = "24681357", "+15551230001", "+15551230002"
REFERENCE = "5f0c3e9a7b1d42688c2f6e0d9a4b7c15"
A_PIN = Credential(Kind.PIN, secret=REFERENCE, key_id="remote")

Becomes = Callable[[Awaitable[object]], Awaitable[object]]


class Own:
    """The guard's own tables, and what was looked up in them."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = {one.id: one for one in accounts}
        self.asked: list[str] = []

    async def by_id(self, account_id: str) -> Account | None:
        self.asked.append(account_id)
        return self.accounts.get(account_id)

    async def by_number(self, number: str) -> Account | None:
        raise AssertionError


def of(bank: Bank, *ours: Account) -> HttpDirectory:
    return HttpDirectory(bank, Own(*ours))


async def verdict(bank: Bank, credential: Credential | None, digits: str = PIN) -> object:
    return await HttpPinJudge(bank).judge(credential, digits, None, START_MS)


async def pin_of(bank: Bank, account: str = "123456") -> Credential | None:
    found = await of(bank).by_id(account)
    return found.credential(Kind.PIN) if found else None


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_comes_back_with_what_it_has(bank: Bank, system: AccountSystem) -> None:
    """Numbers, language, where codes go; and for its PIN a reference, never a hash."""
    reference = system.add("123456", pin=PIN, numbers=(OWNER,), sms_number=OTHER, language="es-US")
    credentials = (
        Credential(Kind.PIN, secret=reference, key_id="remote"),
        Credential(Kind.SMS_CODE, number=OTHER),
    )
    expected = Account("123456", (OWNER,), credentials, language="es-US")
    assert await of(bank).by_id("123456") == expected
    assert await of(bank).by_number(OWNER) == expected
    assert reference not in repr(expected)


@pytest.mark.parametrize(
    ("account", "kinds"),
    [
        ("123456", [Kind.PIN, Kind.SMS_CODE]),
        ("222222", []),
        ("999999", None),
        ("number:+15551239999", None),  # what a caller's number is called that is on nobody's file
        ("0" * 64, None),
    ],
)
async def test_accounts_by_id(
    bank: Bank, system: AccountSystem, account: str, kinds: list[Kind] | None
) -> None:
    """What does not exist is asked for like anything else."""
    found = await of(bank).by_id(account)
    assert (found and [one.kind for one in found.credentials]) == kinds
    assert [asked.said for asked in system.asked] == [{"account": account}]


@pytest.mark.parametrize(
    ("number", "account", "asked"),
    [
        (OWNER, "123456", 1),
        ("+15551239999", None, 1),
        ("+15551230004", None, 1),  # two have it: it names nobody
        ("anonymous", None, 0),
        ("sip:ada@pbx.example", None, 0),
        ("", None, 0),
    ],
)
async def test_accounts_by_number(
    bank: Bank, system: AccountSystem, number: str, account: str | None, asked: int
) -> None:
    """One account, or nobody; what is no number is on nobody's file, and the caller knows it."""
    found = await of(bank).by_number(number)
    assert (found and found.id) == account
    assert [one.said for one in system.asked] == [{"number": number}] * asked


@pytest.mark.parametrize("account", ["", "0" * 65])
async def test_what_can_be_no_id_is_not_asked_for(bank: Bank, system: AccountSystem, account: str) -> None:
    assert await of(bank).by_id(account) is None
    assert system.asked == []


async def test_apps_stay_with_the_guard(bank: Bank) -> None:
    """Of our own tables, the app (TOTP) of an account that the bank knows; no PIN and no number. Unknown: looked up too."""
    app = Credential(Kind.TOTP, secret="sealed", key_id="k1")
    ours = (Credential(Kind.PIN, secret="$argon2id$"), app, Credential(Kind.SMS_CODE, number="+15550000000"))
    own = Own(Account("222222", ("+15550000000",), ours), Account("999999", (), ours))
    directory = HttpDirectory(bank, own)
    found = await directory.by_id("222222")
    assert found == Account("222222", ("+15551230003",), (app,))
    assert (await pin_of(bank)) is not None
    assert [await directory.by_id("999999"), await directory.by_number("+15551239999")] == [None, None]
    assert await directory.by_number(OWNER) == await of(bank).by_number(OWNER)
    assert own.asked == ["222222", "999999", "-", "123456"]


def told(**changed: object) -> dict[str, object]:
    """An account as the protocol has it, but for `changed`."""
    usual = {"id": "123456", "numbers": [OWNER], "language": "", "pin": REFERENCE, "sms_number": None}
    return {"account": usual | changed}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (told(), True),
        (told(id="123457"), False),
        (told(id="0123456"), False),
        (told(more=1) | {"more": 1}, True),
    ],
    ids=["right", "another", "another spelling", "with keys of its own"],
)
async def test_an_account_is_the_one_that_was_asked_for(lies: Callable, said: object, found: bool) -> None:
    """Two spellings of one account would be two lockout counters."""
    liar = await lies(said)
    expected = Account("123456", (OWNER,), (A_PIN,)) if found else None
    assert await of(liar.bank).by_id("123456") == expected


@pytest.mark.parametrize(
    "said", [told(), told(numbers=[OTHER]), told(numbers=[])], ids=["right", "another", "none"]
)
async def test_a_number_names_an_account_that_has_it(lies: Callable, said: object) -> None:
    liar = await lies(said)
    assert (await of(liar.bank).by_number(OWNER) is not None) == (said == told())


# ── PINs ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pin_is_judged_by_the_bank(bank: Bank, system: AccountSystem) -> None:
    """Its reference and the digits, over and over, and nothing is counted here."""
    credential = await pin_of(bank)
    assert credential is not None
    assert [await verdict(bank, credential, digits) for digits in (PIN, "11111111", PIN)] == [
        Right(),
        Wrong(),
        Right(),
    ]
    assert system.asked[1].said == {"reference": credential.secret, "pin": PIN}
    assert [await verdict(bank, credential, "11111111") for _ in range(20)] == [Wrong()] * 20


async def test_known_unknown_and_locked_are_the_same_to_the_network(
    bank: Bank, system: AccountSystem
) -> None:
    """The same requests, headers, fields and sizes, and one hash each: a decoy like any reference, and never the same."""
    directory, seen, every = of(bank), [], set()
    for account, allowed in [("123456", True), ("999999", True), ("123456", False), ("222222", True)]:
        system.asked.clear()
        before = system.hashes
        found = await directory.by_id(account)
        credential = found.credential(Kind.PIN) if found and allowed else None
        await verdict(bank, credential, "13572468")
        shapes = [(one.path, one.size, list(one.said), sorted(one.headers)) for one in system.asked]
        (reference,) = (str(one.said["reference"]) for one in system.asked if "reference" in one.said)
        every.add(reference)
        seen.append((shapes, system.hashes - before, bool(re.fullmatch("[0-9a-f]{32}", reference))))
    assert seen == [seen[0]] * 4
    assert [path for path, *_ in seen[0][0]] == [LOOKUP, VERIFY]
    assert len(every) == 4


async def test_a_decoy_is_wrong_whatever_the_bank_says(lies: Callable) -> None:
    """Nothing to compare with is never right."""
    liar = await lies({"right": True})
    assert await verdict(liar.bank, None) == Wrong()
    assert await verdict(liar.bank, A_PIN) == Right()
    assert len(liar.bodies) == 2


@pytest.mark.parametrize("key_id", ["", "p1"])
async def test_a_hash_of_our_own_is_not_sent_to_the_bank(
    bank: Bank, system: AccountSystem, key_id: str
) -> None:
    """Directory and judge belong together: otherwise the hash of a PIN would leave the house."""
    with pytest.raises(DirectoryFault, match="belong together"):
        await verdict(bank, Credential(Kind.PIN, secret="$argon2id$…", key_id=key_id))
    assert system.asked == []


@pytest.mark.parametrize("said", ["true", 1, None, [True]])
async def test_right_is_true_and_nothing_else(lies: Callable, becomes: Becomes, said: object) -> None:
    """A verdict that is none: the bank may have looked, so the guess counts."""
    liar = await lies({"right": said})
    expected = "OutOfSight", f"the bank's answer to {VERIFY} is not as agreed: right (bool_type)"
    assert await becomes(verdict(liar.bank, A_PIN)) == expected


STATUSES = [
    *((status, "OutOfSight") for status in (201, 204, 302, 307, 400, 401, 403, 409, 422, 423, 429)),
    *((status, "OutOfSight") for status in (500, 502, 504)),
    (503, "DirectoryFault"),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_a_guess_counts_unless_the_bank_signs_that_it_did_not_look(
    lies: Callable, becomes: Becomes, status: int, kind: str
) -> None:
    """
    503 alone says that. A bank may say 401 for a wrong PIN, or 400, as OAuth has it (RFC 6749, 5.2): not to count those
    would be guesses without end. Nor does it matter what else is in it, or for whom it is: a known account and a decoy
    become the same.
    """
    liar = await lies(b"" if status == 204 else {"right": True}, status=status)
    for credential in (A_PIN, None):
        found = await becomes(verdict(liar.bank, credential))
        assert isinstance(found, tuple)
        assert (found[0], str(status) in found[1]) == (kind, True)
    looked_up = await becomes(of(liar.bank).by_id("123456"))
    assert isinstance(looked_up, tuple)
    assert looked_up[0] == "DirectoryFault"
    assert len(liar.bodies) == 3


async def test_404_is_no_such_account_and_no_such_reference(lies: Callable) -> None:
    """As null and false are: otherwise a bank that calls it so would tell callers who has an account."""
    liar = await lies({"right": True, **told()}, status=404)
    assert await of(liar.bank).by_id("123456") is None
    assert await of(liar.bank).by_number(OWNER) is None
    assert [await verdict(liar.bank, each) for each in (A_PIN, None)] == [Wrong(), Wrong()]


async def test_a_guess_is_never_asked_again(bank: Bank, system: AccountSystem, becomes: Becomes) -> None:
    """Nor a change: whatever breaks, the bank hears it once. It counts, and may have changed."""
    credential = await pin_of(bank)
    for asked in (verdict(bank, credential), HttpPins(bank).change("123456", PIN, now_ms=START_MS)):
        system.asked.clear()
        system.drop_next()
        found = await becomes(asked)
        assert isinstance(found, tuple)
        assert found[0] == "OutOfSight"
        assert "connection to the bank's system failed" in found[1]
        assert len(system.asked) == 1
        await pin_of(bank)  # keeps a connection for the next one


async def test_a_bank_that_was_ill_is_tried_with_nobodys_pin(
    system: AccountSystem, url: str, connect: Callable, clock: Clock, becomes: Becomes
) -> None:
    """
    Half-open, the first judgement asked for is not the one that goes out: a guess that gets no verdict counts, and who
    calls again and again during an outage would lock himself out. What is made up says whether the bank is well; then the
    guess follows it.
    """
    bank = connect(url, breaker=lambda: Breaker(faults_max=1))
    credential = await pin_of(bank)
    assert credential is not None
    system.fail_next(500, VERIFY)
    await becomes(verdict(bank, credential))
    for plant in (
        system.drop_next,
        lambda path: system.fail_next(500, path),
        lambda path: system.fail_next(503, path),
    ):
        plant(VERIFY)
        clock.advance(10)
        system.asked.clear()
        why = f"{VERIFY} of the bank's system failed again and again: not asked for some seconds"
        assert await becomes(verdict(bank, credential)) == ("DirectoryFault", why)
        assert [one.said["reference"] == credential.secret for one in system.asked] == [False]
    clock.advance(10)
    system.asked.clear()
    assert await verdict(bank, credential) == Right()
    assert await verdict(bank, credential, "11111111") == Wrong()
    assert [one.said["reference"] == credential.secret for one in system.asked] == [False, True, True]
    assert [one.said["pin"] for one in system.asked] == ["00000000", PIN, "11111111"]


async def test_a_caller_changes_his_pin(bank: Bank, becomes: Becomes) -> None:
    """The new one is right and the old one wrong; what the bank finds weak changes nothing, and so does a closed account."""
    pins, credential = HttpPins(bank), await pin_of(bank)
    assert not await pins.change("123456", "11111111", now_ms=START_MS)
    assert await verdict(bank, credential) == Right()
    assert await pins.change("123456", "97531864", now_ms=START_MS)
    assert [await verdict(bank, credential, digits) for digits in (PIN, "97531864")] == [Wrong(), Right()]
    expected = "DirectoryFault", "the bank's system has no account any more whose PIN was to be changed"
    assert await becomes(pins.change("999999", "97531864", now_ms=START_MS)) == expected


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ({"changed": False}, 200, "OutOfSight"),
        ({"changed": True, "reason": "weak"}, 200, "OutOfSight"),
        ({"changed": "yes"}, 200, "OutOfSight"),
        ({"changed": True}, 400, "OutOfSight"),
        ({"changed": True}, 503, "DirectoryFault"),
    ],
)
async def test_a_change_is_sure_or_it_is_not(
    lies: Callable, becomes: Becomes, said: object, status: int, kind: str
) -> None:
    """What contradicts itself may have changed the PIN; only 404 and 503 say for certain that it has not."""
    liar = await lies(said, status=status)
    found = await becomes(HttpPins(liar.bank).change("123456", PIN, now_ms=START_MS))
    assert isinstance(found, tuple)
    assert found[0] == kind


async def test_nothing_secret_or_personal_is_in_a_url_or_a_header(bank: Bank, system: AccountSystem) -> None:
    directory = of(bank)
    await directory.by_id("123456")
    await directory.by_number(OWNER)
    await verdict(bank, await pin_of(bank))
    await HttpPins(bank).change("123456", "97531864", now_ms=START_MS)
    outside = [(one.path, *one.headers.values()) for one in system.asked]
    for secret in (PIN, "97531864", "123456", OWNER, OWNER[1:], bytes(range(32)).hex()):
        assert not any(secret in text for one in outside for text in one)
    assert {one.path for one in system.asked} == {LOOKUP, VERIFY, CHANGE}
    assert {one.headers["User-Agent"] for one in system.asked} == {"ivrguard"}
