"""
Who lives here: the accounts with their secrets, the flow in its versions, and what each version wants, by heart.

Laws of this file
 1. What a flow wants of a path stands here twice: in the flow's text, which the guard reads, and in `WANTS`, which only
    the oracle reads. No code of the guard's connects the two.
 2. Each version says its own words, so that whoever hears a call knows which version it has.
 3. Every secret is one of a kind: a PIN, a code or a token found where it should not be tells whose it is.
"""

import base64
import hashlib
import hmac
import random
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from ivrguard import flowfile
from ivrguard.keyring import Keyring

ISSUER = "https://guard.example"
IVR = "https://ivr.example"
NUMBER = "+18005550100"
ACCOUNT_SID = "AC" + "5e" * 16
AUTH_TOKEN = "what-twilio-signs-with"
BEGAN_MS = 1_790_000_000_000
ATTESTED = "TN-Validation-Passed-A"

FLOWS = Path(__file__).parents[2] / "flows"
MARKS = {"one": "", "two": "Now. ", "bad": "Bad. "}
"""What each version puts before each of its prompts. The bad one has a fault, so nobody must ever hear it."""


# ── the flow ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Want:
    """What a path or a transfer wants: how many factors (0: anyone may), how young, proved anew, for this intent."""

    factors: int
    within_s: int | None = None
    anew: bool = False
    intent: str = ""
    own_code: bool = False


OPEN, USUAL = Want(0), Want(1, 300)
WIRE = Want(2, 300, intent="wire", own_code=True)
AGENT = Want(2, anew=True, intent="agent")
WANTS = {
    "one": {"/hours": OPEN, "/wait": OPEN, "/menu 3": WIRE, "/wire": WIRE, "/wire/*": WIRE, "*": USUAL},
    "two": {"/wait": OPEN, "/menu 3": WIRE, "/wire": WIRE, "/wire/*": WIRE, "/balance": Want(2, 120), "*": USUAL},
}  # fmt: skip
OPEN_TRANSFERS = {"enqueue:fraud-line"}
FAILURES, WITHIN_MS, LOCK_MS = 5, 3_600_000, (1_800_000, 7_200_000, 86_400_000)
LIFETIME = 100
NUMBER_FAILURES, NUMBER_LOCK_MS = 20, (3_600_000,)
TOKEN_MS, CODE_MS = 600_000, 600_000
TRIES = 3


def wanted(version: str, path: str, digits: str | None) -> Want:
    """What this version wants of a request."""
    table = WANTS[version]
    folder = path.rpartition("/")[0]
    for name in (f"{path} {digits}", path, f"{folder}/*"):
        if name in table:
            return table[name]
    return table["*"]


@cache
def texts(version: str) -> tuple[str, str]:
    """A version's flow file and prompts."""
    text = (FLOWS / "bank.yaml").read_text()
    for old, new in (
        ("https://ivr.bank.example/voice", f"{IVR}/voice"),
        ("https://media.bank.example", "https://media.example"),
    ):
        assert old in text
        text = text.replace(old, new)
    hours = "  - {path: /hours, allow: anyone}"
    assert hours in text
    match version:
        case "two":
            text = text.replace(hours, "  - {path: /balance, require: two_factor, within: 2m}\n #")
        case "bad":
            text = text.replace(hours, f'{hours}\n  - {{path: "/**", require: two_factr}}')
            text = text.replace("path: /wait", 'path: "/**"')
    prompts = yaml.safe_load((FLOWS / "prompts" / "en-US.yaml").read_text())
    kept = ("ask.", "intent.", "no_intent", "sms_text", "sms_warning", "sms_pin")
    marked = {
        name: said if name.startswith(kept) else MARKS[version] + said for name, said in prompts.items()
    }
    return text, yaml.safe_dump(marked, allow_unicode=True)


@cache
def loaded(version: str) -> flowfile.LoadedAll:
    """What comes of reading a version: the flow, or its faults."""
    text, prompts = texts(version)
    one = flowfile.read("bank.yaml", text.encode(), lambda _: prompts.encode())
    return flowfile.LoadedAll((one.flow,) if one.flow else (), one.faults, one.doubts)


@cache
def hashes() -> dict[str, str]:
    """The guard's own name of each version that it may put in force."""
    return {loaded(version).flows[0].version: version for version in WANTS}


QUESTIONS = ("identify_or_known", "identify", "pin", "sms_code", "totp")


@cache
def questions() -> dict[str, tuple[str, str]]:
    """What is said -> (version, the question that it is)."""
    found: dict[str, tuple[str, str]] = {}
    for version in MARKS:
        prompts = yaml.safe_load(texts(version)[1])
        for name in QUESTIONS:
            for said in (name, f"{name}.short"):
                digits = "8" if name == "pin" else "6"
                words = prompts[said].format(ask="account number", digits=digits)
                found[words] = (version, name.removesuffix("_or_known"))
    return found


@cache
def refusals() -> frozenset[str]:
    """What is said when the guard ends a call that it has decided about."""
    return frozenset(
        yaml.safe_load(texts(version)[1])[name] for version in WANTS for name in ("refused", "goodbye")
    )


# ── the keys ─────────────────────────────────────────────────────────────────────────────────────────────


def keyring() -> Keyring:
    """The same in every run. The older pepper still has PINs."""
    one, two, three, four, five = (bytes([number]) * 32 for number in range(1, 6))
    return Keyring(
        sealing={"k1": one}, peppers={"p2": five, "p1": two}, naming={"n1": three}, signing={"s1": four}
    )


# ── the people ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Person:
    """One account, and who owns it. `inbox`: the codes that came to his phone. `app`: his app's secret, or none."""

    account: str
    number: str
    pin: str = field(repr=False)
    app: bytes | None = field(repr=False)
    has_phone: bool = True
    old_pepper: bool = False
    inbox: list[tuple[float, str]] = field(default_factory=list)

    def totp(self, step: int) -> str:
        """What his app shows in a step (RFC 6238), worked out here."""
        assert self.app is not None
        digest = hmac.digest(self.app, struct.pack(">Q", step), hashlib.sha1)
        place = digest[-1] & 15
        return f"{(int.from_bytes(digest[place : place + 4]) & 0x7FFFFFFF) % 10**6:06}"

    @property
    def app_secret(self) -> str:
        assert self.app is not None
        return base64.b32encode(self.app).decode()


@dataclass
class Town:
    """Everybody, and every secret there is."""

    people: list[Person]
    by_account: dict[str, Person] = field(default_factory=dict)
    by_number: dict[str, Person] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.by_account = {one.account: one for one in self.people}
        self.by_number = {one.number: one for one in self.people}
        self.secrets |= {one.pin for one in self.people}

    @staticmethod
    def of(chance: random.Random, count: int) -> "Town":
        """So many people, each with an account, a phone, a PIN; half of them with an app as well."""
        pins = chance.sample(range(24_000_000, 98_000_000), count)
        return Town(
            [
                Person(
                    account=f"{700_000_000 + 13 * nth}",
                    number=f"+1555{2_000_000 + 7 * nth}",
                    pin=str(pins[nth]),
                    app=chance.randbytes(20) if nth % 2 else None,
                    has_phone=nth % 8 != 7,
                    old_pepper=nth % 5 == 0,
                )
                for nth in range(count)
            ]
        )

    def claimed(self, keys: str, caller: str) -> str:
        """Which account the keys name, as the guard keeps it: one that nobody has stands for itself."""
        if keys != "1":
            return keys
        person = self.by_number.get(caller)
        return person.account if person is not None else f"number:{caller}"
