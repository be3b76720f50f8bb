"""Flow files: every fault with file, line, column, path and mend, all at once; never an exception."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import PROMPTS, Factor, Flow, Identify, Locks, Sends, Upstream
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import ANYONE, Demand, Hours, How, Rule, Target
from ivrguard.flowfile import DEPTH_MAX, ENTRIES_MAX, NODES_MAX, SIZE_BYTES_MAX, load, load_all, read

ROOT = Path(__file__).parent.parent
BANK = (ROOT / "flows/bank.yaml").read_text()
PROMPTS_FILE = (ROOT / "flows/prompts/en-US.yaml").read_bytes()

SMALL = """\
flow: small
numbers: ["+18005550100"]
upstream: {url: http://localhost:5000/voice}
identify: {ask: account_number, digits: {min: 6, max: 12}}
factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code}}
levels: {one: pin, two: {all: [pin, code]}}
rules:
  - {path: /x, require: two}
  - {transfer: any, require: two, reverify: one}
default: {require: one}
"""


def reading(text, prompts=PROMPTS_FILE):
    data = text if isinstance(text, bytes) else text.encode()
    return read("flows/f.yaml", data, lambda _language: prompts)


def faults(text, prompts=PROMPTS_FILE):
    """Every fault as `line:column path: message`, without the file."""
    loaded = reading(text, prompts)
    assert (loaded.flow is None) is bool(loaded.faults)
    return [str(fault).removeprefix("flows/f.yaml:").replace(": ", " ", 1) for fault in loaded.faults]


def only(text, prompts=PROMPTS_FILE):
    found = faults(text, prompts)
    assert len(found) == 1, found
    return found[0]


def small(**changes):
    """The small flow with some of its lines replaced: key -> the whole line, "" to take it out."""
    lines = SMALL.splitlines()
    for key, line in changes.items():
        at = next(number for number, old in enumerate(lines) if old.startswith(f"{key}:"))
        lines[at : at + 1] = [line] if line else []
    return "\n".join(lines) + "\n"


def with_rule(rule):
    return SMALL.replace("  - {path: /x, require: two}\n", f"  - {rule}\n  - {{path: /x, require: two}}\n")


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_loads_without_fault_and_doubt():
    """What we ship as an example is one, in every part of the format."""
    loaded = load(ROOT / "flows/bank.yaml")

    assert loaded.faults == loaded.doubts == ()
    assert loaded.flow is not None
    assert loaded.flow == Flow(
        name="bank",
        version=loaded.flow.version,
        numbers=("+18005550100",),
        upstream=Upstream("https://ivr.bank.example/voice", ("https://media.bank.example",)),
        identify=Identify("account_number", 6, 12, offer_known_number=True),
        factors={
            "pin": Factor(Kind.PIN, 8),
            "code": Factor(Kind.SMS_CODE, 6, 600, Sends(2, 5, 3600)),
            "app": Factor(Kind.TOTP, 6),
        },
        levels={
            "one_factor": AnyOf(("pin", "code", "app")),
            "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
        },
        rules=(
            Rule(ANYONE, path="/hours"),
            Rule(ANYONE, path="/wait"),
            Rule(Demand("two_factor", 300, "wire"), path="/menu", digits="3"),
            Rule(Demand("two_factor", 300, "wire"), path="/wire/**"),
            Rule(ANYONE, transfer=Target("enqueue", "fraud-line")),
            Rule(
                Demand("two_factor", None, "agent", "one_factor", 0, How.BEFORE_CONNECT),
                transfer=Target("*", "*"),
            ),
        ),
        default=Demand("one_factor"),
        locks=Locks(Lockout(5, 3600, (1800, 7200, 86400), 100), Lockout(20, 3600, (3600,)), True, None),
        language="en-US",
        prompts=loaded.flow.prompts,
    )
    assert set(PROMPTS) <= loaded.flow.prompts.keys()


def test_what_is_left_out_has_the_defaults_of_the_core():
    """The file adds no defaults of its own."""
    flow = reading(SMALL).flow

    assert flow is not None
    made = Flow(
        name="small",
        version=flow.version,
        numbers=("+18005550100",),
        upstream=Upstream("http://localhost:5000/voice"),
        identify=Identify("account_number", 6, 12),
        factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6)},
        levels={"one": "pin", "two": AllOf(("pin", "code"))},
        rules=(
            Rule(Demand("two"), path="/x"),
            Rule(Demand("two", reverify="one"), transfer=Target("*", "*")),
        ),
        default=Demand("one"),
        prompts=flow.prompts,
    )
    assert made == flow


def test_every_key_has_its_effect():
    """None of them is read and forgotten."""
    text = small(
        numbers='numbers: ["SIP:Help@Bank.EXAMPLE;transport=tls", "client:desk", "*"]',
        upstream="upstream: {url: https://ivr.example, also: ['https://A.example/', 'http://[::1]:80']}",
        identify="identify: {ask: account_number, digits: {min: 2, max: 3}, known_number: ignore}",
        factors="factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code, digits: 7, valid: 90s, "
        "sends: {per_call: 3, per_account: 7 in 2d}}}",
        levels="levels: {one: pin, two: {all: [pin, {any: [code]}]}}",
        default="default: {require: one, within: 1m, intent: wire}",
    )
    text += (
        "language: de\nvoice: Polly.Vicki\ntimezone: Europe/Berlin\ntries: 2\ntoken_valid: 5m\n"
        "lockout: {failures: 4, within: 2h, lock: [1s, 3d], lifetime: 50, trusted_lane: false, "
        'caller_number: {failures: 9, within: 3h, lock: [4h]}, on_locked: {dial: "+18005550199"}}\n'
    )
    text = text.replace(
        "{path: /x, require: two}",
        '{path: "/**/x", digits: "?*", method: GET, dialled: "+1*", hours: "fri-mon,wed 22:00-24:00", allow: anyone}',
    ).replace("transfer: any, require: two", "transfer: {sip: 'a b'}, require: two, fresh: 0s, within: 2m")
    loaded = reading(text)

    assert loaded.faults == ()
    flow = loaded.flow
    assert flow is not None
    assert flow.numbers == ("sip:Help@bank.example", "client:desk", "*")
    assert flow.upstream == Upstream("https://ivr.example", ("https://a.example", "http://[::1]:80"))
    assert flow.identify == Identify("account_number", 2, 3)
    assert flow.factors["code"] == Factor(Kind.SMS_CODE, 7, 90, Sends(3, 7, 172_800))
    assert flow.levels["two"] == AllOf(("pin", AnyOf(("code",))))
    assert flow.default == Demand("one", 60, "wire")
    assert flow.rules == (
        Rule(ANYONE, "/**/x", "?*", "GET", "+1*", None, Hours(frozenset({4, 5, 6, 0, 2}), 1320, 1440)),
        Rule(Demand("two", 120, "", "one", 0), transfer=Target("sip", "a b")),
    )
    assert flow.locks == Locks(
        Lockout(4, 7200, (1, 259_200), 50), Lockout(9, 10_800, (14_400,)), False, "+18005550199"
    )
    said = (flow.language, flow.voice, flow.timezone, flow.tries, flow.token_valid_s)
    assert said == ("de", "Polly.Vicki", "Europe/Berlin", 2, 300)


def test_the_limit_per_caller_number_can_be_taken_out():
    """It is doubted, and done."""
    loaded = reading(SMALL + "lockout: {caller_number: off, on_locked: refuse}\n")

    assert loaded.flow is not None
    assert loaded.flow.locks.caller_number is None
    assert "one number may guess" in str(loaded.doubts[0])


def test_words_stay_words():
    """YAML's own reading would make False of `no` and a number of `0123`."""
    flow = reading(SMALL.replace("one: pin, two:", "no: pin, two:").replace(": one}", ": no}")).flow

    assert flow is not None
    assert flow.levels["no"] == "pin"
    assert flow.default == Demand("no")


def test_a_version_is_what_both_files_say():
    """The same bytes, the same version; a changed word is another one, also in the prompts."""
    versions = [reading(SMALL).flow, reading(SMALL).flow, reading(SMALL + "# x\n").flow]
    versions.append(reading(SMALL, PROMPTS_FILE + b"# x\n").flow)
    first, same, other, said = (flow.version for flow in versions if flow is not None)

    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == same
    assert len({first, other, said}) == 3


# ── faults of meaning, with their places ─────────────────────────────────────────────────────────────────


def test_a_fault_prints_as_compilers_print_it():
    """`file:line:column: path: message`, with the mend."""
    text = BANK.replace('digits: "3", require: two_factor', 'digits: "3", require: two_factr')
    loaded = read("flows/bank.yaml", text.encode(), lambda _: PROMPTS_FILE)
    line = 1 + text[: text.index("two_factr")].count("\n")

    assert [
        f"flows/bank.yaml:{line}:41: rules[2].require: there is no level 'two_factr'; did you mean 'two_factor'?"
    ] == [str(fault) for fault in loaded.faults]


def test_all_faults_come_at_once_in_the_order_of_the_file():
    """Shapes and meanings together; nobody runs `check` ten times."""
    text = small(
        numbers="numbers: [8005550100]",
        identify="identify: {ask: account_number, digits: {min: 12, max: 6}}",
        factors="factors: {pin: {kind: pin, digits: 3}, code: {kind: sms_code, valid: 10}}",
        default="default: {require: on, colour: red}",
    )

    assert faults(text) == [
        (
            "2:11 numbers[0]: here is '8005550100'; what is wanted: a number dialled: "
            '"+18005550100", sip:name@domain, client:name or "*"'
        ),
        "4:41 identify.digits: `min` is more than `max`: no number of keys would do; swap them",
        "5:36 factors.pin.digits: a PIN of 3 digits: use 4 or more",
        "5:70 factors.code.valid: here is '10'; what is wanted: a duration from 30s to 1d, such as 90s, 10m, 24h",
        "10:20 default.require: there is no level 'on'; did you mean 'one'?",
        "10:24 default.colour: unknown key 'colour'; known: allow, fresh, how, intent, require, reverify, within",
    ]


def test_a_place_that_is_not_there_is_reported_at_its_nearest_parent():
    """A key that is missing has no line; what it is missing from has."""
    assert only(small(default="")) == "1:1 default: this key is missing; add `default: {require: one_factor}`"
    assert only(small(identify="identify: {ask: account_number, digits: {min: 6}}")) == (
        "4:41 identify.digits.max: this key is missing; add `max: 12`"
    )


def test_doubts_are_told_when_there_is_no_other_fault_of_reading():
    """They block nothing; and beside a fault they might only follow from it."""
    doubtful = SMALL + "lockout: {lifetime: 0}\n"

    assert [str(doubt)[:40] for doubt in reading(doubtful).doubts] == [
        "flows/f.yaml:11:21: lockout.lifetime: NIST"[:40]
    ]
    assert reading(doubtful).flow is not None
    assert reading(doubtful + "x: y\n").doubts == ()
    assert reading(doubtful.replace("require: two}", "require: tow}")).doubts != ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # a section that cannot be read: nothing is said about the names in it
        ({"levels": "levelz: {one: pin, two: {all: [pin, code]}}"}, ["levels", "levelz"]),
        ({"factors": "factors: [pin]"}, ["factors"]),
        # a factor whose kind cannot be read: its name is there all the same, and its kind is nobody else's
        ({"factors": "factors: {pin: {kind: pn}, code: {kind: sms_code}}"}, ["factors.pin.kind"]),
        ({"factors": "factors: {pin: {digits: 8}, code: {kind: sms_code}}"}, ["factors.pin.kind"]),
        ({"factors": "factors: {pin: 8, code: {kind: sms_code}}"}, ["factors.pin"]),
        (
            {"factors": "factors: {code: {kind: sms}, pin: {kind: pin, digits: 8}}"},
            ["factors.code.kind"],
        ),
        # a level that cannot be read is a level
        ({"levels": "levels: {one: pin, two: {al: [pin, code]}}"}, ["levels.two.al"]),
        ({"levels": "levels: {one: [pin], two: {all: [pin, code]}}"}, ["levels.one"]),
        ({"levels": "levels: {one: pin, two: {all: []}}"}, ["levels.two.all"]),
        ({"levels": "levels: {one: pin, two: {all: [pin], any: [code]}}"}, ["levels.two"]),
        ({"levels": "levels: {one: pin, two: {}}"}, ["levels.two"]),
        # a rule whose condition cannot be read hides no other, and is hidden by none
        ({"  - {path": "  - {pth: /x, require: two}"}, ["rules[0].pth"]),
        ({"  - {path": "  - {path: x, require: two}\n  - {path: /y, require: two}"}, ["rules[0].path"]),
        ({"  - {transfer": "  - {trnsfer: any, require: two, reverify: one}"}, ["rules[1].trnsfer"]),
        ({"  - {transfer": "  - {transfer: all, require: two, reverify: one}"}, ["rules[1].transfer"]),
        ({"  - {path": "  - /x"}, ["rules[0]"]),
        ({"default": "default: one"}, ["default"]),
    ],
)
def test_nothing_is_reported_that_only_follows_from_another_fault(change, expected):
    """Whoever mends the first line should not have wondered about ten others."""
    lines = SMALL.splitlines()
    for start, line in change.items():
        lines = [line if old.startswith(start) else old for old in lines]

    assert [str(fault).split(": ")[1] for fault in reading("\n".join(lines)).faults] == expected


def test_a_broken_rule_is_still_asked_for_its_level():
    """A condition that cannot be read does not hide a name that dangles."""
    found = faults(with_rule("{path: x, require: tow, within: 1s}"))

    assert [one.split(" ")[1] for one in found] == [
        "rules[0].path:",
        "rules[0].require:",
        "rules[0].within:",
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "{require: two}",
            "rules[0]: a rule needs a condition (path, digits, method, dialled, transfer, hours)",
        ),
        ("{path: /a}", "rules[0]: write either `allow: anyone` or `require: <level>`"),
        ("{path: /a, allow: anyone, require: two}", "rules[0]: write either `allow: anyone` or `require"),
        (
            "{path: /a, allow: everyone}",
            "rules[0].allow: 'everyone' is not known here; known: anyone",
        ),
        (
            "{path: /a, allow: anyone, within: 5m}",
            "rules[0].within: this has no effect beside `allow: anyone`",
        ),
        ("{path: /a, require: two, fresh: 5m}", "rules[0].fresh: this has no effect without `reverify`"),
        ("{path: /a, require: two, how: before_connect}", "rules[0].how: this has no effect without"),
        (
            "{transfer: any, require: two, reverify: one, how: blind}",
            "rules[0].how: 'blind' is not known here",
        ),
        ("{path: a, require: two}", "rules[0].path: here is 'a'; what is wanted: a path from the root"),
        ("{path: /a/, require: two}", "rules[0].path: here is '/a/'"),
        ("{path: /a/../b, require: two}", "rules[0].path: here is '/a/../b'"),
        ("{path: /a/., require: two}", "rules[0].path: here is '/a/.'"),
        ("{path: /a%20b, require: two}", "rules[0].path: here is '/a%20b'"),
        ("{path: '/a?b=c', require: two}", "rules[0].path: here is '/a?b=c'"),
        ("{path: '/a#b', require: two}", "rules[0].path: here is '/a#b'"),
        ("{path: '/*/*/*/*/*', require: two}", "rules[0].path: here is '/*/*/*/*/*'"),
        (f"{{path: /{'a' * 200}, require: two}}", f"rules[0].path: here is '/{'a' * 59}…'"),
        ("{path: , require: two}", "rules[0].path: here is nothing; what is wanted: a path"),
        ("{path: [/a], require: two}", "rules[0].path: here is a list; what is wanted: a path"),
        ("{path: {a: b}, require: two}", "rules[0].path: here is a mapping; what is wanted: a path"),
        ("{digits: three, require: two}", "rules[0].digits: here is 'three'; what is wanted: keys"),
        ("{method: PUT, require: two}", "rules[0].method: 'PUT' is not known here"),
        ("{dialled: '+1 800', require: two}", "rules[0].dialled: here is '+1 800'"),
        ("{path: /a, require: 2nd}", "rules[0].require: here is '2nd'; what is wanted: the name of a level"),
        ("{path: /a, require: two, intent: a wire}", "rules[0].intent: here is 'a wire'"),
        ("{path: /a, require: two, within: 0s}", "rules[0].within: here is '0s'"),
        (
            "{path: /a, require: two, within: 5 m}",
            "rules[0].within: here is '5 m'; what is wanted: a duration",
        ),
        ("{transfer: all, require: two}", "rules[0].transfer: here is 'all'; what is wanted: `any`, or one"),
        ("{transfer: {enqueue: any}, require: two}", "rules[0].transfer.enqueue: here is 'any'"),
        (
            "{transfer: {queu: a}, require: two}",
            "rules[0].transfer.queu: unknown key 'queu'; did you mean 'queue'?",
        ),
        ("{transfer: {sip: a, client: b}, require: two}", "rules[0].transfer: here are 2 keys"),
        ("{transfer: {}, require: two}", "rules[0].transfer: here are 0 keys"),
    ],
)
def test_rules_say_what_they_mean(rule, expected):
    """One fault each, at its key, in words that show the mend."""
    assert only(with_rule(rule)).partition(" ")[2].startswith(expected)


@pytest.mark.parametrize(
    "hours",
    [
        "08:00-18:00", "mon 08:00", "mon 8:00-18:00", "mon 08:00-24:01", "mon 24:00-08:00", "mon 08:60-09:00",
        "mon 08:00-09:60", "mon 08:00-08:00", "mon-fri,xyz 08:00-18:00", "mo-fr 08:00-18:00", "mon- 08:00-18:00",
        "mon-fri 08:00-00:00", "",
    ],
)  # fmt: skip
def test_hours_that_never_hold_or_cannot_be_read(hours):
    """Days by their names, times from 00:00 to 24:00, and an end that is not the beginning."""
    assert "what is wanted: days and times" in only(with_rule(f'{{hours: "{hours}", require: two}}'))


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("mon-fri 08:00-18:00", Hours(frozenset({0, 1, 2, 3, 4}), 480, 1080)),
        ("sat,sun 00:00-24:00", Hours(frozenset({5, 6}), 0, 1440)),
        ("fri 22:00-06:00", Hours(frozenset({4}), 1320, 360)),
        ("sun-sun 09:30-10:15", Hours(frozenset({6}), 570, 615)),
    ],
)
def test_hours_that_are_read(hours, expected):
    """Days may go round the week, times over midnight."""
    flow = reading(with_rule(f'{{hours: "{hours}", require: two}}')).flow

    assert flow is not None
    assert expected == flow.rules[0].hours


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flow": "flow: 1st"}, "1:7 flow: here is '1st'; what is wanted: a name begins with a letter"),
        ({"numbers": "numbers: []"}, "2:10 numbers: the list is empty"),
        (
            {"numbers": "numbers: +18005550100"},
            "2:10 numbers: here is '+18005550100'; what is wanted: a list",
        ),
        ({"numbers": "numbers: ['sip:a@B', 'sips:a@b:5061']"}, "2:22 numbers[1]: 'sip:a@b' stands twice"),
        ({"numbers": "numbers: [anonymous]"}, "2:11 numbers[0]: here is 'anonymous'"),
        ({"upstream": "upstream: {also: [https://a.example]}"}, "3:11 upstream.url: this key is missing"),
        ({"upstream": "upstream: {url: ivr.example}"}, "3:17 upstream.url: here is 'ivr.example'"),
        ({"upstream": "upstream: {url: 'ftp://a.example'}"}, "3:17 upstream.url: here is 'ftp://a.example'"),
        ({"upstream": "upstream: {url: 'https:///voice'}"}, "3:17 upstream.url: here is 'https:///voice'"),
        ({"upstream": "upstream: {url: 'https://u:p@a.example'}"}, "3:17 upstream.url: here is"),
        ({"upstream": "upstream: {url: 'https://a.example/?x'}"}, "3:17 upstream.url: here is"),
        ({"upstream": "upstream: {url: 'https://a.example/#x'}"}, "3:17 upstream.url: here is"),
        ({"upstream": "upstream: {url: 'https://a.example:port'}"}, "3:17 upstream.url: here is"),
        ({"upstream": "upstream: {url: 'https://[::1'}"}, "3:17 upstream.url: here is 'https://[::1'"),
        ({"upstream": "upstream: {url: 'https://bücher.example'}"}, "3:17 upstream.url: here is"),
        (
            {"upstream": "upstream: {url: 'https://a.example', also: ['https://b.example/x']}"},
            "3:45 upstream.also[0]: here is 'https://b.example/x'; what is wanted: an origin without path",
        ),
        (
            {"identify": "identify: {ask: name, digits: {min: 6, max: 12}}"},
            "4:17 identify.ask: 'name' is not",
        ),
        (
            {"identify": "identify: {ask: account_number, digits: 8}"},
            "4:41 identify.digits: here is '8'; what",
        ),
        (
            {"identify": "identify: {ask: account_number, digits: {min: 0, max: 12}}"},
            "4:47 identify.digits.min: here is '0'; what is wanted: a number from 1 to 32",
        ),
        (
            {"factors": "factors: {pin: {kind: pin}, code: {kind: sms_code}}"},
            "5:16 factors.pin.digits: this key is missing; add `digits: 8`",
        ),
        (
            {"factors": "factors: {pin: {kind: pin, digits: 8, valid: 5m}, code: {kind: sms_code}}"},
            "5:39 factors.pin.valid: unknown key 'valid'; known: digits, kind",
        ),
        (
            {"factors": "factors: {pin: {kind: pin, digits: ８}, code: {kind: sms_code}}"},
            "5:36 factors.pin.digits: here is '８'",
        ),
        (
            {"factors": "factors: {pin: {kind: pin, digits: 8}, code: {kind: totp, digits: 8}}"},
            "5:59 factors.code.digits: unknown key 'digits'",
        ),
        (
            {
                "factors": "factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code, sends: "
                "{per_account: 0 in 1h}}}"
            },
            "5:84 factors.code.sends.per_account: here is '0 in 1h'; what is wanted: so many in a time",
        ),
        (
            {"levels": "levels: {one: pin, two: {all: [pin, code]}, 3rd: pin}"},
            "6:45 levels.3rd: '3rd' is no name; a name begins with a letter",
        ),
        ({"rules": "ruls:"}, "7:1 ruls: unknown key 'ruls'; did you mean 'rules'?"),
    ],
)
def test_parts_that_cannot_be_read(change, expected):
    """What is there, and what is wanted instead."""
    assert any(one.startswith(expected) for one in faults(small(**change))), faults(small(**change))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ceiling: {guess_chance_per_year: 0.001}", "ceiling: a ceiling on the guess budget is not supported"),
        ("tries: 0", "tries: here is '0'; what is wanted: a number from 1 to 10"),
        ("tries: 1000000000000", "tries: here is '1000000000000'; what is wanted: a number from 1 to 10"),
        ("token_valid: 59s", "token_valid: here is '59s'; what is wanted: a duration from 1m to 1d"),
        ("voice: Polly Joanna", "voice: here is 'Polly Joanna'"),
        ("timezone: Europe/Berln", "timezone: there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?"),
        ("timezone: nowhere at all", "timezone: there is no time zone 'nowhere at all'; write one such as"),
        (f"timezone: {'x' * 90}", f"timezone: there is no time zone '{'x' * 60}…'; write one such as"),
        ("timezone: [UTC]", "timezone: here is a list; what is wanted: a time zone"),
        ("lockout: {failures: five}", "lockout.failures: here is 'five'; what is wanted: a number from 1"),
        ("lockout: {lock: 30m}", "lockout.lock: here is '30m'; what is wanted: a list of durations"),
        ("lockout: {lock: []}", "lockout.lock: the list is empty"),
        ("lockout: {lock: [30]}", "lockout.lock[0]: here is '30'; what is wanted: a duration from 1s to 365d"),
        ("lockout: {trusted_lane: yes}", "lockout.trusted_lane: 'yes' is not known here; known: false, true"),
        ("lockout: {caller_number: none}", "lockout.caller_number: here is 'none'; what is wanted: a mapping"),
        ("lockout: {caller_number: {lifetime: 5}}", "lockout.caller_number.lifetime: unknown key 'lifetime'"),
        ("lockout: {on_locked: hang_up}", "lockout.on_locked: here is 'hang_up'; what is wanted: refuse, or"),
        ("lockout: {on_locked: {dial: client:a}}", "lockout.on_locked.dial: here is 'client:a'; what is wanted"),
        ("lockout: {on_locked: {}}", 'lockout.on_locked.dial: this key is missing; add `dial: "+18005550199"`'),
        ("language: en_US", "language: here is 'en_US'; what is wanted: a language tag"),
        ("language: ../../etc/passwd", "language: here is '../../etc/passwd'"),
    ],
)  # fmt: skip
def test_further_keys_that_cannot_be_read(line, expected):
    """Each of the keys that may be left out."""
    assert only(f"{SMALL}{line}\n").partition(" ")[2].startswith(expected)


def test_an_ivr_that_is_reached_in_clear_is_doubted():
    """What callers key and say travels there. On this machine itself it may."""
    clear = reading(SMALL.replace("http://localhost:5000", "http://ivr.bank.example"))

    assert [str(doubt) for doubt in clear.doubts] == [
        "flows/f.yaml:3:17: upstream.url: what callers key and say would go unencrypted; use https"
    ]
    assert reading(SMALL).doubts == ()


# ── YAML, strictly ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1 the file is empty"),
        ("# nothing\n", "1:1 the file is empty"),
        ("flow", "1:1 here is 'flow'; what is wanted: a mapping, with a key at the start of each line"),
        ("- flow\n", "1:1 here is a list; what is wanted: a mapping"),
        ("flow: [a\n", "2:1 this is not YAML: "),
        ("a: b: c\n", "1:5 this is not YAML: "),
        ("%YAML 9.9\n---\na: b\n", "1:1 this is not YAML: "),
        ("flow: a\n---\nflow: b\n", "2:1 a second document begins here; one file, one document"),
        ("a:\n\tb: c\n", "2:1 a tab in the indentation; use blanks"),
        ("a:\n  \tb: c\n", "2:3 a tab in the indentation"),
        (b"a: b\nc: \xff\n", "2:4 this is not UTF-8; save the file as UTF-8"),
        (b"a: \xc3\xa4\xff\n", "1:5 this is not UTF-8"),
        ("a: b\nc: \x07\n", "2:4 the character U+0007 may not stand in a flow"),
        ("a: b\rc: d\n", "1:5 the character U+000D may not stand in a flow"),
        ("a: b\u2028c: d\n", "1:5 the character U+2028 may not stand in a flow"),
        ("? {a: b}\n: c\n", "1:3 a key must be a word"),
        ("? [a]\n: c\n", "1:3 a key must be a word"),
        ("[" * (DEPTH_MAX + 2), "1:14"),
        ("[" + "a," * NODES_MAX + "a]", f"1:{2 * NODES_MAX}"),
        ("a" * (SIZE_BYTES_MAX + 1), "1:1 the file is larger than 256 kB; is it a flow?"),
    ],
)  # fmt: skip
def test_files_that_are_no_flow(text, expected):
    """One place, and what is wrong there."""
    assert only(text).startswith(expected)


def test_deep_and_large_files_are_named_as_what_they_are():
    """Bounds are part of the message."""
    assert "more than 12 levels deep" in only("[" * 10_000)
    assert "more than 20000 nodes" in only("[" + "a," * NODES_MAX + "a]")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("flow: small", "flow: &a small", "1:7 flow: anchors (&) and aliases (*) are not read"),
        ("digits: 8", "digits: *a", "5:36 factors.pin.digits: anchors (&) and aliases (*) are not read"),
        ("flow: small", "flow: !!str small", "1:7 flow: tags (!) are not read"),
        ("upstream: {", "upstream: !ivr {", "3:11 upstream: tags (!) are not read"),
        ("upstream: {", "upstream: &a {", "3:11 upstream: anchors (&)"),
        ("levels: {one", "levels: {*a : pin, one", "6:10 levels: anchors (&)"),
        ("flow: small", 'flow: "sma\\x07ll"', "1:7 flow: there is an invisible character in this text"),
        ("flow: small", "flow: sma\u200bll", "1:7 flow: there is an invisible character"),
        ("flow: small\n", "flow: small\nflow: big\n", "2:1 flow: this key stands twice, first at 1:1; take one out"),
        ("min: 6, ", "min: 6, min: 7, ", "4:50 identify.digits.min: this key stands twice, first at 4:42"),
    ],
)  # fmt: skip
def test_what_yaml_could_do_besides(old, new, expected):
    """No anchors, tags, doubled keys and invisible characters; each is reported where it stands."""
    assert faults(SMALL.replace(old, new))[0].startswith(expected)


def test_a_merge_key_is_a_key_like_any_other():
    """`<<` merges nothing."""
    assert "factors.pin.<<: unknown key '<<'" in only(SMALL.replace("digits: 8", "digits: 8, <<: {a: b}"))


def test_windows_line_ends_and_a_byte_order_mark_are_no_fault():
    """Editors write them; places stay where editors see them."""
    data = b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").replace("require: one}", "require: on}").encode()

    assert only(data) == "10:20 default.require: there is no level 'on'; did you mean 'one'?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'ä😀': 1, b: *c}", "1:14 b: anchors (&)"),
        ("'ä😀': {a: [}\n", "1:12 this is not YAML"),
        ('"ä😀": \x07\n', "1:7 the character U+0007"),
        ("{", "1:2 this is not YAML"),
        ("a: '\n", "2:1 this is not YAML"),
    ],
)
def test_places_count_characters_and_lie_in_the_file(text, expected):
    """Not bytes, not halves of characters, and no line behind the last one."""
    assert [one[: len(expected)] for one in faults(text) if one.startswith(expected)] == [expected]


def test_long_lists_are_bounded():
    """A list that is read in part is a fault."""
    rules = "".join(f"  - {{path: /{at}, require: two}}\n" for at in range(ENTRIES_MAX))
    found = faults(SMALL.replace("  - {path: /x", rules + "  - {path: /x"))

    assert found == [f"8:3 rules: {ENTRIES_MAX + 2} entries; at most {ENTRIES_MAX} are read"]


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pin: Please", "pinn: Please", "pinn: unknown key 'pinn'; did you mean 'pin'?"),
        ("intent.wire:", "intent.a wire:", "intent.a wire: unknown key 'intent.a wire'"),
        ("{code} is", "{cod} {code} is", "sms_text: there is no {cod} to fill in here; known: {code}, {intent}"),
        ("not_heard: We", "not_heard: We {digits}", "not_heard: there is no {digits} to fill in here; known: none"),
        ("code is {code}", "code is", "whisper: without {code} this says nothing; put it in"),
        ("your {digits} digit PIN", "your {digits digit PIN", "pin: a brace stands alone"),
        ("hold: One moment, please.", "hold:", "hold: here is nothing; what is wanted: words to be said"),
        ("hold: One moment, please.", "hold: [One moment]", "hold: here is a list; what is wanted: words"),
        ("hold: One moment, please.", f"hold: {'a' * 601}", f"hold: here is '{'a' * 60}…'; what is wanted: words"),
        ("hold: One moment, please.", "hold: 'One", "this is not YAML: "),
    ],
)  # fmt: skip
def test_faults_of_prompts_are_reported_in_their_own_file(old, new, expected):
    """What is filled in is what there is to fill in; nothing else is said about a language that cannot be read."""
    prompts = PROMPTS_FILE.decode().replace(old, new)
    assert prompts != PROMPTS_FILE.decode()
    found = reading(SMALL, prompts.encode())

    assert found.flow is None
    assert [fault.file for fault in found.faults] == ["flows/prompts/en-US.yaml"]
    assert str(found.faults[0]).split(" ", 1)[1].startswith(expected)


def test_a_prompt_that_is_missing_is_reported_at_the_language():
    """It is a fault of the flow that names the language."""
    prompts = re.sub(rb"(?m)^hold:.*\n", b"", PROMPTS_FILE)

    assert only(SMALL + "language: en-US\n", prompts) == (
        "11:11 language: prompts/en-US.yaml has no 'hold'; add it"
    )
    assert only(SMALL, prompts).startswith("1:1 language: ")


def test_line_breaks_in_a_prompt_are_blanks():
    """However an admin folds the text."""
    flow = reading(SMALL, PROMPTS_FILE.replace(b"hold: One moment,", b"hold: |\n  One\n   moment, ")).flow

    assert flow is not None
    assert flow.prompts["hold"] == "One moment, please."


# ── files and folders ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    """A folder with the small flow and its prompts."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/en-US.yaml").write_bytes(PROMPTS_FILE)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_a_folder_is_every_yaml_file_in_it(folder):
    """Prompts lie deeper and are no flows."""
    other = SMALL.replace("flow: small", "flow: other").replace("0100", "0101")
    (folder / "other.yaml").write_text(other)
    (folder / "README.md").write_text("#")
    loaded = load_all(folder)

    assert loaded.faults == loaded.doubts == ()
    assert [flow.name for flow in loaded.flows] == ["other", "small"]


def test_a_number_and_a_name_belong_to_one_flow(folder):
    """Otherwise the order of files would decide who answers. The fault names both places."""
    (folder / "a.yaml").write_text(SMALL + "tries: x\n")
    loaded = load_all(folder)

    assert [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults] == [
        "a.yaml:11:8: tries: here is 'x'; what is wanted: a number from 1 to 10",
        f"small.yaml:1:7: flow: the name 'small' is claimed at {folder}/a.yaml:1:7 too; one flow only",
        (
            f"small.yaml:2:11: numbers[0]: the number '+18005550100' is claimed at {folder}/a.yaml:2:11 too; "
            "one flow only"
        ),
    ]


def test_a_fault_that_two_flows_share_is_told_once(folder):
    """One language, one file, one fault."""
    (folder / "other.yaml").write_text(SMALL.replace("small", "other").replace("0100", "0101"))
    (folder / "prompts/en-US.yaml").write_bytes(PROMPTS_FILE + b"x: y\n")

    assert len(load_all(folder).faults) == 1
    assert load_all(folder).flows == ()


def test_what_would_be_overlooked_is_a_fault(folder):
    """A flow in a file of another name protects nobody."""
    (folder / "bank.yml").write_text(SMALL)
    loaded = load_all(folder)

    assert [str(fault) for fault in loaded.faults] == [
        f"{folder}/bank.yml:1:1: would be overlooked: flow files end in .yaml; rename it"
    ]
    assert len(loaded.flows) == 1


def test_an_empty_or_missing_folder_is_a_fault(tmp_path):
    """A guard without a flow answers nobody."""
    assert [str(fault) for fault in load_all(tmp_path).faults] == [
        f"{tmp_path}:1:1: there is no flow (*.yaml) in this folder; add one"
    ]
    assert [str(fault) for fault in load_all(tmp_path / "no").faults] == [
        f"{tmp_path}/no:1:1: cannot be read: No such file or directory"
    ]


def test_files_that_cannot_be_read_are_faults(folder):
    """The flow's own file, and the one of its language."""
    (folder / "dir.yaml").mkdir()
    (folder / "small.yaml").write_text(SMALL + "language: fr\n")

    assert [str(fault) for fault in load_all(folder).faults] == [
        f"{folder}/dir.yaml:1:1: cannot be read: Is a directory",
        (
            f"{folder}/small.yaml:11:11: language: {folder}/prompts/fr.yaml cannot be read: "
            "No such file or directory; add it, or name another language"
        ),
    ]


# ── promises ─────────────────────────────────────────────────────────────────────────────────────────────


def assert_whole(loaded, data, prompts=PROMPTS_FILE):
    """Either a flow or faults; every place is one inside its file; every fault is one line."""
    assert (loaded.flow is None) is bool(loaded.faults)
    for fault in (*loaded.faults, *loaded.doubts):
        text = (prompts if "prompts" in fault.file else data).decode(errors="replace")
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 1
        assert str(fault).isprintable()


yaml_like = st.lists(
    st.sampled_from(
        [
            *(
                "flow",
                "levels",
                "rules",
                "a",
                "pin",
                '"3"',
                "'",
                '"',
                ": ",
                ":",
                ", ",
                "{",
                "}",
                "[",
                "]",
                "- ",
                "\n",
            ),
            *(
                "\n  ",
                "\n    ",
                "&a ",
                "*a",
                "!!str ",
                "? ",
                "| ",
                ">",
                "#",
                "---\n",
                "...\n",
                "%",
                "\t",
                "\u2028",
            ),
            *("é", "😀", "\u200b", "\\", "<<", "~", "no", "\r", "@", "`"),
        ]
    ),
    max_size=40,
).map("".join)


@given(data=st.binary(max_size=300) | yaml_like.map(str.encode))
def test_any_bytes_are_a_flow_or_faults_with_places(data):
    """Never an exception, whatever is in the file."""
    assert_whole(reading(data), data)


@given(data=st.binary(max_size=200) | yaml_like.map(str.encode))
def test_any_bytes_of_prompts_are_words_or_faults_with_places(data):
    """The same for the other file."""
    assert_whole(reading(SMALL, data), SMALL.encode(), data)


@settings(max_examples=150)
@given(at=st.integers(0, len(BANK)), length=st.integers(0, 12), new=yaml_like | st.text(max_size=3))
def test_the_example_with_anything_done_to_it_is_a_flow_or_faults_with_places(at, length, new):
    """Cut, pasted and mistyped as admins do."""
    try:
        data = (BANK[:at] + new + BANK[at + length :]).encode()
    except UnicodeEncodeError:  # half a surrogate pair is in no file
        return

    assert_whole(reading(data), data)


KEY = re.compile(r"(?m)(?<=[\s{])([a-z_]+):(?= |$)")
KEYS = [key for key in KEY.finditer(BANK) if "#" not in BANK[: key.start()].rpartition("\n")[2]]
FREE = {"pin", "code", "app", "one_factor", "two_factor"}


@given(key=st.sampled_from(KEYS), at=st.integers(0, 30), how=st.sampled_from(["drop", "double", "swap", "x"]))
def test_a_mistyped_key_of_the_example_is_reported_at_its_line(key, at, how):
    """Every single one, whatever the slip. A name of the admin's own is missed where it is used, and doubted here."""
    word = key[1]
    at %= len(word)
    slips = {
        "drop": word[:at] + word[at + 1 :],
        "double": word[:at] + word[at] + word[at:],
        "swap": word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
        "x": word[:at] + "x" + word[at + 1 :],
    }
    if slips[how] == word or not slips[how]:
        return
    loaded = reading(BANK[: key.start()] + slips[how] + BANK[key.end(1) :])
    line = 1 + BANK[: key.start()].count("\n")

    assert loaded.faults
    if word in FREE:
        assert line in {one.line for one in (*loaded.faults, *loaded.doubts)}
    else:
        assert line in {fault.line for fault in loaded.faults}
        assert any(f"'{slips[how]}'" in fault.message for fault in loaded.faults if fault.line == line)


def test_the_readme_for_admins_names_every_key():
    """A key that nobody can read about is not there."""
    said = (ROOT / "flows/README.md").read_text()
    keys = {match[1] for match in KEYS} - FREE - {"min", "max"}

    assert {key for key in keys if not re.search(rf"`[a-z_.<>]*{key}\b", said)} == set()
    assert {key for key in PROMPTS if f"| `{key}` |" not in said} == set()
