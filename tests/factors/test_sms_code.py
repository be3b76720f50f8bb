"""Codes by message: derived, bound to everything they were asked for, even, and gone in ten minutes."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.factors.sms_code import SmsCodeJudge
from ivrguard.keyring import Keyring
from ivrguard.ports import Challenge, Credential, Right, Wrong

NOW_MS = 1_790_000_000_000
PHONE = Credential(Kind.SMS_CODE, number="+18005550142")
ASKED = Challenge("c0ffee", "ACME4711", "CA" + "0" * 32, "wire", digits=6, issued_ms=NOW_MS, valid_s=600)


def judge(naming_key: bytes = b"n" * 32) -> SmsCodeJudge:
    keys = Keyring(
        sealing={"k1": b"k" * 32},
        peppers={"p1": b"p" * 32},
        naming={"n1": naming_key},
        signing={"s1": b"s" * 32},
    )
    return SmsCodeJudge(keys)


JUDGE = judge()
CHALLENGES = st.builds(
    Challenge,
    id=st.text(max_size=9),
    account=st.text(max_size=9),
    call=st.text(max_size=9),
    intent=st.text(max_size=9),
    digits=st.just(10),
    issued_ms=st.integers(0, 2**50),
    valid_s=st.integers(0, 600),
)


async def test_the_code_sent_is_right() -> None:
    """The digits made are the digits judged right, and the same again when the message is sent again."""
    assert await JUDGE.judge(PHONE, JUDGE.code(ASKED), ASKED, NOW_MS + 30_000) == Right()
    assert judge().code(ASKED) == JUDGE.code(ASKED)


async def test_a_code_outlives_its_naming_key_for_ten_minutes_and_no_other_is_good() -> None:
    """
    A code sent before a rotation is right after it, and says the same when it is sent again; one asked for afterwards
    comes from the new key. Never are two codes right for one challenge: that would be twice the chance.
    """
    of_old = replace(ASKED, naming="n1")
    rotated = Keyring(
        sealing={"k1": b"k" * 32},
        peppers={"p1": b"p" * 32},
        naming={"n2": b"m" * 32, "n1": b"n" * 32},
        signing={"s1": b"s" * 32},
    )
    after, gone = SmsCodeJudge(rotated), judge(b"m" * 32)
    assert JUDGE.code(of_old) == after.code(of_old)
    assert await after.judge(PHONE, JUDGE.code(of_old), of_old, NOW_MS) == Right()
    assert await after.judge(PHONE, after.code(replace(ASKED, naming="n2")), of_old, NOW_MS) == Wrong()
    assert await after.judge(PHONE, JUDGE.code(of_old), replace(ASKED, naming="n2"), NOW_MS) == Wrong()
    assert await gone.judge(PHONE, JUDGE.code(of_old), of_old, NOW_MS) == Wrong()


@pytest.mark.parametrize("digits", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦"])
async def test_anything_else_is_wrong(digits: str) -> None:
    """Fewer, more or other keys are wrong, whatever they are."""
    assert await JUDGE.judge(PHONE, digits, ASKED, NOW_MS) == Wrong()


async def test_one_digit_off_is_wrong() -> None:
    """Each neighbour of the right code is wrong."""
    code = JUDGE.code(ASKED)
    for place in range(6):
        other = f"{code[:place]}{(int(code[place]) + 1) % 10}{code[place + 1 :]}"
        assert await JUDGE.judge(PHONE, other, ASKED, NOW_MS) == Wrong()


@pytest.mark.parametrize(
    ("after_ms", "verdict"),
    [
        (-2_001, Wrong()),
        (-2_000, Right()),
        (0, Right()),
        (600_000, Right()),
        (600_001, Wrong()),
        (86_400_000, Wrong()),
    ],
)
async def test_a_code_has_its_time(after_ms: int, verdict: Right | Wrong) -> None:
    """From its issue, less two clocks' skew, to the end of its ten minutes, both included."""
    assert await JUDGE.judge(PHONE, JUDGE.code(ASKED), ASKED, NOW_MS + after_ms) == verdict


async def test_who_has_no_phone_on_file_or_was_sent_nothing_is_wrong() -> None:
    """Unknown, locked or never asked: wrong, even with the digits that would be right."""
    code = JUDGE.code(ASKED)
    nothing = JUDGE.code(Challenge("-", "-", "-", "-", digits=6, issued_ms=0, valid_s=0))
    assert await JUDGE.judge(None, code, ASKED, NOW_MS) == Wrong()
    assert await JUDGE.judge(PHONE, code, None, NOW_MS) == Wrong()
    assert await JUDGE.judge(PHONE, nothing, None, 0) == Wrong()
    assert await JUDGE.judge(None, nothing, None, 0) == Wrong()


@pytest.mark.parametrize(
    ("credential", "challenge"), [(PHONE, ASKED), (None, ASKED), (PHONE, None), (None, None)]
)
async def test_every_answer_costs_one_derivation(
    credential: Credential | None, challenge: Challenge | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known or not, asked or not: the same work, so the time tells nothing."""
    derived: list[str] = []
    derive = Keyring.derive

    def counted(keys: Keyring, what: str, value: str) -> bytes:
        derived.append(what)
        return derive(keys, what, value)

    monkeypatch.setattr(Keyring, "derive", counted)
    await JUDGE.judge(credential, "123456", challenge, NOW_MS)
    assert derived == ["sms_code"]


@given(CHALLENGES, CHALLENGES)
def test_a_code_is_for_one_challenge(one: Challenge, other: Challenge) -> None:
    """Two challenges that differ anywhere have two codes (10 digits: by chance alike once in 10^10)."""
    assert (JUDGE.code(one) == JUDGE.code(other)) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, id="c0ffef"),
        replace(ASKED, account="ACME4712"),
        replace(ASKED, call="CA" + "1" * 32),
        replace(ASKED, intent="balance"),
        replace(ASKED, digits=7),
        replace(ASKED, issued_ms=NOW_MS + 1),
        replace(ASKED, valid_s=601),
        replace(ASKED, account="ACME4711wire", intent=""),
    ],
)
async def test_each_field_is_bound(other: Challenge) -> None:
    """A code for another account, call, intent or time is wrong here."""
    assert await JUDGE.judge(PHONE, JUDGE.code(other), ASKED, NOW_MS) == Wrong()


def test_another_key_gives_another_code() -> None:
    """Who reads the store, and so the challenge, cannot work out the code."""
    assert judge(b"m" * 32).code(ASKED) != JUDGE.code(ASKED)


def test_codes_are_even() -> None:
    """Each digit is as likely in each place: 6,000 codes, within five standard deviations of a tenth."""
    codes = [JUDGE.code(replace(ASKED, id=str(number))) for number in range(6_000)]
    for place in range(6):
        counts = Counter(code[place] for code in codes)
        assert set(counts) == set("0123456789")
        assert all(abs(count - 600) < 5 * (6_000 * 0.1 * 0.9) ** 0.5 for count in counts.values())


@given(st.integers(1, 10), st.integers(0, 2**40))
def test_a_code_has_all_its_digits(digits: int, number: int) -> None:
    """Leading zeros are digits too."""
    code = JUDGE.code(replace(ASKED, id=str(number), digits=digits))
    assert len(code) == digits
    assert code.isascii()
    assert code.isdigit()
