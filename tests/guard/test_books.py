"""What a turn reads and writes: names of values, what of them changed, for how long it is kept."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core import lockout
from ivrguard.core.call import Books, Call, ledger_ids
from ivrguard.core.caller import ANONYMOUS, Address, address_of
from ivrguard.core.flow import Flow
from ivrguard.core.handoff import Alias, Leg
from ivrguard.guard import books
from ivrguard.keyring import Keyring
from ivrguard.ports import Key

Centre = Any

OWNER = address_of("+15551230001")
NOW = 1_790_000_000_000
NUMBER_LEDGER = f"number/{OWNER.value}"
POOL_PIN = "123456789/pin/pool"
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


def call_of(account: str = "123456789", caller: Address = OWNER, **more: Any) -> Call:
    """A call that speaks for an account."""
    call = Call("CA" + "1" * 32, "AC1", "bank", "1", caller, "+18005550100", attested=False, began_ms=NOW)
    return replace(call, account=account, **{"known": True, "to": "num_1", "to_prefix": "1", **more})


def leg_of(*carriers: str) -> Leg:
    """A hand-over whose token travels so."""
    return Leg(
        id="2" * 32,
        call="CA" + "1" * 32,
        account="123456789",
        queues=("enqueue:support",),
        carriers=carriers,
        intent="agent",
        acr=("one_factor",),
        amr=("pin",),
        auth_ms=NOW,
        issued_ms=NOW,
        expires_ms=NOW + 600_000,
    )


# ── what an agent took ───────────────────────────────────────────────────────────────────────────────────


def test_what_an_agent_took_is_a_list_in_order_without_the_old_and_bounded(monkeypatch: pytest.MonkeyPatch):
    """A call that he takes once more comes last; what is a day old is gone; of too many, those that he took first."""
    monkeypatch.setattr(books, "HOLDING_MAX", 3)
    put = books.holding_put("ann", None, "CA1", NOW)
    assert (put.key, put.value, put.expires_ms) == (Key("holding", "ann"), (("CA1", NOW),), NOW + DAY_MS)
    put = books.holding_put("ann", put.value, "CA2", NOW + 1)
    put = books.holding_put("ann", put.value, "CA1", NOW + 2)
    assert put.value == (("CA2", NOW + 1), ("CA1", NOW + 2))
    for nth in range(3, 5):
        put = books.holding_put("ann", put.value, f"CA{nth}", NOW + nth)
    assert put.value == (("CA1", NOW + 2), ("CA3", NOW + 3), ("CA4", NOW + 4))
    assert books.holding_put("ann", put.value, "CA9", NOW + DAY_MS + 3).value == (
        ("CA4", NOW + 4),
        ("CA9", NOW + DAY_MS + 3),
    )


def test_looks_are_told_apart_by_agent_and_call_and_refusals_by_agent_alone():
    """Whoever asks for a thousand calls that are not his is one line a minute, not a thousand."""
    names = {books.looked_key(agent, sid).id for agent in ("ann", "agent:ann") for sid in ("CA1", "CA2", "")}
    assert len(names) == 6
    assert books.looked_key("ann", "").id == "refused/ann"


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_presented_names_its_leg_in_one_way(keys: Keyring):
    """A token in any case, a code, a CallSid; everything else names nothing. No name holds a secret."""
    token, code, sid = "CA0123456789ABCDEFGHJKMNPQ", "12345678", "CA" + "0a" * 16

    named = {each: books.alias_key(keys, each) for each in (token, token.lower(), code, sid)}

    assert [key.id.partition(":")[0] for key in named.values()] == ["token", "token", "code", "call"]
    assert named[token] == named[token.lower()]
    assert [each for each in (token, token.lower(), code) if each in named[each].id] == []
    assert named[sid] == Key("alias", f"call:{sid}")


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "1234567",
        "123456789",
        "١٢٣٤٥٦٧٨",
        "CA",
        "CA" + "g" * 32,
        "I" * 26,
        "0" * 25,
        "0" * 27,
        "ß" * 26,
        "é" * 8,
    ],
)
def test_what_has_no_form_names_nothing(keys: Keyring, presented: str):
    """So it is not looked up at all."""
    assert books.alias_key(keys, presented) is None


@given(st.text(max_size=64))
def test_whatever_is_presented_is_a_name_or_none(keys: Keyring, presented: str):
    """Nobody can make the look-up fail."""
    name = books.alias_key(keys, presented)
    assert name is None or name.id.partition(":")[0] in {"token", "code", "call"}


def test_tokens_and_codes_are_derived_and_differ(keys: Keyring):
    """The same for one leg each time, another for another; 26 characters of base 32, eight digits."""
    legs = [f"{number:032x}" for number in range(200)]

    tokens = [books.token_of(keys, leg) for leg in legs]
    codes = [books.code_of(keys, leg, nth) for leg in legs for nth in range(3)]

    assert tokens == [books.token_of(keys, leg) for leg in legs]
    assert (len(set(tokens)), {len(token) for token in tokens}) == (200, {26})
    assert set("".join(tokens)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert ({len(code) for code in codes}, "".join(codes).isdigit()) == ({8}, True)
    assert len(set(codes)) == 600


def test_a_desk_is_filed_under_the_digest_of_its_key():
    """The key itself is nowhere."""
    assert "open sesame" not in books.desk_key("open sesame").id


# ── what a turn reads ────────────────────────────────────────────────────────────────────────────────────


def test_a_call_without_an_account_reads_nothing_more(flow: Flow):
    """And its books are empty."""
    call = call_of("")
    assert list(books.account_keys(flow, call)) == []
    assert books.books_of(flow, call, {}) == Books()


TRUSTED = (lockout.Trusted(OWNER.value, NOW),)
SENDS = {"123456789/pool": (NOW,), "number/num_1/pool": (NOW,), "prefix/1/proved": (NOW,)}


def test_the_books_of_an_account(flow: Flow):
    """Ledgers by id, what was sent and spent, whether the number is trusted; what is not there is nothing."""
    call = call_of()
    empty = dict.fromkeys(books.account_keys(flow, call))
    ledger = lockout.Ledger(run=1)
    full = empty | {
        books.ledger_key(POOL_PIN): ledger,
        **{books.sends_key(name): times for name, times in SENDS.items()},
        books.spent_key(call.account): 7,
        books.trust_key(call.account): TRUSTED,
    }

    assert books.books_of(flow, call, empty) == Books()
    assert books.books_of(flow, call, full) == Books({POOL_PIN: ledger}, SENDS, 7, trusted=TRUSTED)
    assert {key.id for key in empty if key.kind == "ledger"} == set(ledger_ids(flow, call))


def test_a_withheld_number_has_no_ledger_of_its_own(flow: Flow):
    """One bucket for all of them would let any twenty failures lock all of them out."""
    keys = books.account_keys(flow, call_of(caller=ANONYMOUS))
    assert [key for key in keys if key.kind == "ledger" and key.id.startswith("number")] == []


# ── what a turn writes ───────────────────────────────────────────────────────────────────────────────────


def tried(count: int) -> lockout.Ledger:
    """A ledger with so many failures at once."""
    return lockout.Ledger(tuple(lockout.Attempt(str(n), NOW) for n in range(count)), run=count)


def test_what_did_not_change_is_not_written(flow: Flow):
    """A turn of a verified caller writes the call alone."""
    same = Books({POOL_PIN: tried(2)}, SENDS, 7, trusted=TRUSTED)
    assert list(books.puts_of(flow, call_of(), same, same, NOW)) == []


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_known_accounts_ledger_never_expires(flow: Flow, known: bool):
    """An unknown one's may be swept once neither window nor lock reaches so far; a number's as well."""
    after = Books({POOL_PIN: tried(1), NUMBER_LEDGER: tried(1)})

    puts = {put.key.id: put for put in books.puts_of(flow, call_of(known=known), Books(), after, NOW)}

    account, number = flow.locks.account, flow.locks.caller_number
    assert puts[POOL_PIN].expires_ms == (None if known else NOW + account.horizon_s() * 1000)
    assert puts[NUMBER_LEDGER].expires_ms == NOW + number.horizon_s() * 1000
    assert (puts[POOL_PIN].rank, puts[NUMBER_LEDGER].rank) == (None, None)


@pytest.mark.parametrize(
    ("ledger", "rank"),
    [
        (tried(4), None),
        (tried(5), NOW + 1800 * 1000),
        (replace(tried(5), steps=1), NOW + 7200 * 1000),
        (replace(tried(1), run=100), books.NEVER_MS),
    ],
    ids=["open", "locked", "locked for longer", "disabled"],
)
def test_a_locked_ledger_is_ranked_by_its_end(flow: Flow, ledger: lockout.Ledger, rank: int | None):
    """So that an operator's list needs no scan; what no time ends comes last."""
    [put] = books.puts_of(flow, call_of(), Books(), Books({POOL_PIN: ledger}), NOW)
    assert put.rank == rank


def test_a_numbers_ledger_is_judged_by_the_numbers_rule(flow: Flow):
    """Twenty failures lock it, not five; without such a rule it is not there to be written."""
    ranks = []
    for count in (5, 20):
        [put] = books.puts_of(flow, call_of(), Books(), Books({NUMBER_LEDGER: tried(count)}), NOW)
        ranks.append(put.rank)

    assert ranks == [None, NOW + 3600 * 1000]


def test_what_else_is_kept_of_an_account(flow: Flow):
    """Codes sent as long as they count, the step used for a day, a number's trust for four hundred."""
    call = call_of()
    after = Books({}, SENDS, 7, trusted=TRUSTED)

    puts = {put.key: (put.value, put.expires_ms) for put in books.puts_of(flow, call, Books(), after, NOW)}

    assert puts == {
        books.sends_key("123456789/pool"): ((NOW,), NOW + HOUR_MS),
        books.sends_key("number/num_1/pool"): ((NOW,), NOW + DAY_MS),
        books.sends_key("prefix/1/proved"): ((NOW,), NOW + HOUR_MS),
        books.spent_key(call.account): (7, NOW + DAY_MS),
        books.trust_key(call.account): (TRUSTED, NOW + 400 * DAY_MS),
    }


@pytest.mark.parametrize(
    ("carriers", "names"),
    [
        (("task",), ["token"]),
        (("parameter", "sip"), ["token"]),
        (("whisper",), ["code"]),
        (("call",), ["call"]),
        (("call", "parameter", "whisper"), ["call", "code", "token"]),
    ],
)
def test_a_leg_is_filed_under_the_names_its_carriers_need(
    keys: Keyring, carriers: tuple[str, ...], names: list[str]
):
    """And under no other: a token that nobody was handed redeems nothing. All are read beforehand."""
    leg = leg_of(*carriers)

    filed, *aliases = books.leg_puts(keys, leg, {}, NOW)

    assert (filed.key, filed.value) == (books.leg_key(leg.id), leg)
    assert sorted(put.key.id.partition(":")[0] for put in aliases) == names
    assert {put.value for put in aliases} == {Alias(leg.id, leg.expires_ms)}
    assert {put.key for put in (filed, *aliases)} <= set(books.leg_keys(keys, call_of(), leg.id))


def test_a_leg_filed_again_stays_redeemed(keys: Keyring):
    """Its transfer's answer was lost and is made anew: a token that an agent used meanwhile is not whole again."""
    leg = leg_of("task")
    spent = replace(leg, redeemed_ms=NOW + 5, agent="desk-7")

    filed, *_ = books.leg_puts(keys, leg, {books.leg_key(leg.id): spent}, NOW)

    assert filed.value == spent
    assert books.leg_puts(keys, leg, {books.leg_key(leg.id): leg}, NOW)[0].value == leg


def test_a_leg_without_a_free_code_is_not_filed(keys: Keyring):
    """All three that are drawn for it belong to live legs of others."""
    leg = leg_of("whisper")
    taken = {
        books.alias_key(keys, books.code_of(keys, leg.id, nth)): Alias("other", NOW + 1)
        for nth in range(books.CODES_TRIED_MAX)
    }
    assert books.leg_puts(keys, leg, taken, NOW) is None


def test_a_code_is_taken_whichever_naming_key_filed_it(rotated: Keyring):
    """An agent types digits: two live transfers must not have the same ones, though their calls began under two keys."""
    leg, old = leg_of("whisper"), rotated.with_naming("n1")
    code = books.code_of(rotated, leg.id, 0)
    of_other = books.alias_key(old, code)
    assert of_other in set(books.leg_keys(rotated, call_of(), leg.id))
    free = books.free_code(rotated, leg, {of_other: Alias("other", NOW + 1)}, NOW)
    assert free == books.code_of(rotated, leg.id, 1)
    assert books.free_code(rotated, leg, {of_other: Alias(leg.id, NOW + 1)}, NOW) == code


def test_every_key_has_its_own_kind():
    """Two kinds never share a name."""
    made = [
        books.call_key("x"),
        books.ledger_key("x"),
        books.trust_key("x"),
        books.sends_key("x/y"),
        books.verification_key("x"),
        books.spent_key("x"),
        books.leg_key("x"),
        books.desk_key("x"),
    ]
    assert len({key.kind for key in made}) == len(made)
