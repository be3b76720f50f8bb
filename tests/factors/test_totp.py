"""Authenticator apps: the RFC's own vectors, one step aside, the step told, the secret sealed."""

from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import DirectoryFault
from ivrguard.factors.totp import TotpJudge, new_secret, provisioning_uri
from ivrguard.keyring import Keyring
from ivrguard.ports import Credential, Right, Wrong

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""The secret of RFC 6238, appendix B: "12345678901234567890"."""


def keys(**sealing: bytes) -> Keyring:
    return Keyring(
        sealing=sealing or {"k1": b"k" * 32},
        peppers={"p1": b"p" * 32},
        naming={"n1": b"n" * 32},
        signing={"s1": b"s" * 32},
    )


JUDGE = TotpJudge(keys())
APP = JUDGE.enrol(SECRET)


@pytest.mark.parametrize(
    ("second", "digits"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
async def test_the_vectors_of_the_rfc(second: int, digits: str) -> None:
    """RFC 6238, appendix B, SHA-1 (its last six digits): right, and for the step it says."""
    assert await JUDGE.judge(APP, digits, None, second * 1000) == Right(step=second // 30)


@pytest.mark.parametrize(
    ("after_s", "verdict"),
    [
        (-31, Wrong()),
        (-30, Right(step=1000)),
        (0, Right(step=1000)),
        (29, Right(step=1000)),
        (59, Right(step=1000)),
        (60, Wrong()),
    ],
)
async def test_one_step_aside_counts(after_s: int, verdict: Right | Wrong) -> None:
    """A code is right in its own step, the one before and the one after; the step told is its own."""
    digits = pyotp.TOTP(SECRET).at(30_000)
    assert await JUDGE.judge(APP, digits, None, (30_000 + after_s) * 1000) == verdict


async def test_of_two_steps_with_one_code_the_later_is_told() -> None:
    """Otherwise the same digits could be used again for the later step; such a pair comes once in a million."""
    app = pyotp.TOTP(SECRET)
    assert (app.generate_otp(910_737), app.generate_otp(910_738)) == ("911617", "911617")
    assert await JUDGE.judge(APP, "911617", None, 910_737 * 30_000) == Right(step=910_738)


@pytest.mark.parametrize("digits", ["", "000000", "28708", "2870820", "abcdef", "٢٨٧٠٨٢"])
async def test_anything_else_is_wrong(digits: str) -> None:
    """Whatever was keyed, it is wrong and not an error."""
    assert await JUDGE.judge(APP, digits, None, 59_000) == Wrong()


async def test_who_has_no_app_is_wrong_even_with_the_decoys_code() -> None:
    """Unknown, locked, not enrolled: always wrong."""
    decoy = keys().unseal(JUDGE._decoy, "totp").decode()
    assert await JUDGE.judge(None, pyotp.TOTP(decoy).at(59), None, 59_000) == Wrong()
    assert await JUDGE.judge(None, "287082", None, 59_000) == Wrong()


DAMAGED = {
    "another key": TotpJudge(keys(k2=b"x" * 32)).enrol(SECRET).secret,
    "another purpose": keys().seal(SECRET.encode(), "held"),
    "not base32": keys().seal(b"\xff1!", "totp"),
    "too short": keys().seal(b"AAAA", "totp"),
    "nothing": "",
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_secret_that_cannot_be_opened_is_said_aloud(name: str) -> None:
    """The operator reads what to mend, without the secret; the caller is not told wrong for our fault."""
    with pytest.raises(DirectoryFault, match=r"^an app's secret cannot be opened"):
        await JUDGE.judge(Credential(Kind.TOTP, DAMAGED[name]), "287082", None, 59_000)


@pytest.mark.parametrize("name", ["right", "wrong", "unknown", "damaged"])
async def test_every_answer_costs_three_codes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not: the same three steps are worked out, so the time tells nothing."""
    steps: list[int] = []
    generate = pyotp.TOTP.generate_otp

    def counted(app: pyotp.TOTP, step: int) -> str:
        steps.append(step)
        return generate(app, step)

    monkeypatch.setattr(pyotp.TOTP, "generate_otp", counted)
    credential = {"unknown": None, "damaged": Credential(Kind.TOTP, "k1.AAAA")}.get(name, APP)
    try:
        await JUDGE.judge(credential, "287082" if name == "right" else "000000", None, 59_000)
    except DirectoryFault:
        assert name == "damaged"
    assert steps == [0, 1, 2]


async def test_the_secret_is_sealed_and_shown_nowhere() -> None:
    """The store holds no secret in the clear, and a repr not even the sealed one; a rotated key still opens it."""
    assert APP.secret.startswith("k1.")
    assert (APP.kind, APP.number) == (Kind.TOTP, "")
    assert APP.secret not in repr(APP)
    rotated = TotpJudge(keys(k2=b"x" * 32, k1=b"k" * 32))
    assert await rotated.judge(APP, "287082", None, 59_000) == Right(step=1)


@pytest.mark.parametrize(
    "written",
    ["gezd gnbv gy3t qojq gezd gnbv gy3t qojq", "GEZD-GNBV-GY3T-QOJQ-GEZDGNBVGY3TQOJQ", SECRET + "===="],
)
async def test_a_secret_may_be_written_as_people_write_it(written: str) -> None:
    """Blanks, dashes, small letters and padding do not matter."""
    assert await JUDGE.judge(JUDGE.enrol(written), "287082", None, 59_000) == Right(step=1)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "0 bytes: use 16 or more"),
        ("GEZDGNBVGY3TQOJQ", "10 bytes: use 16 or more"),
        ("SECRET10", "is base32"),
        ("ÄÖÜ", "is base32"),
    ],
)
def test_a_secret_that_is_none_is_refused(written: str, why: str) -> None:
    """Not base32, or too short; the error does not show it."""
    with pytest.raises(ValueError, match=why) as fault:
        JUDGE.enrol(written)
    assert not written or written not in str(fault.value)


@pytest.mark.parametrize(
    ("written", "holds"),
    [(SECRET, True), (SECRET.lower() + "====", True), (SECRET[:-1] + "A", False), ("", False), ("Ä", False)],
)
def test_a_credential_holds_one_secret(written: str, holds: bool) -> None:
    """However it is written: what is imported again is recognized."""
    assert JUDGE.holds(APP, written) is holds


@pytest.mark.parametrize("name", DAMAGED)
def test_a_credential_that_cannot_be_opened_holds_nothing(name: str) -> None:
    """Whoever has the secret enrols it anew."""
    assert not JUDGE.holds(Credential(Kind.TOTP, DAMAGED[name]), SECRET)


@given(st.binary(min_size=20, max_size=20), st.integers(30, 2**31))
async def test_a_new_secret_works_at_any_time(chance: bytes, second: int) -> None:
    """What an app shows for a new secret is right at that very time."""
    secret = new_secret(lambda n: chance[:n])
    digits = pyotp.TOTP(secret).at(second)
    verdict = await JUDGE.judge(JUDGE.enrol(secret), digits, None, second * 1000)
    assert isinstance(verdict, Right)


def test_the_text_for_the_qr_code() -> None:
    """What an authenticator app expects to read."""
    uri = urlsplit(provisioning_uri(SECRET, account="4711", issuer="Example Bank"))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Example%20Bank:4711")
    query = parse_qs(uri.query)
    assert (query["secret"], query["issuer"]) == ([SECRET], ["Example Bank"])
