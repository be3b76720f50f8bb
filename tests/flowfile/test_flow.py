"""The keys of a flow file: what each makes of the flow, and what may not stand under it."""

from pathlib import Path

import pytest

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import (
    PROMPTS,
    Catalogue,
    Factor,
    Flow,
    Identify,
    Locks,
    PinChange,
    Recording,
    Sends,
    Upstream,
    Via,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Lookup, Unknown
from ivrguard.core.rules import ANYONE, Demand, Hours, How, Rule, Target
from ivrguard.core.sense import Sense
from ivrguard.flowfile import load, read

ROOT = Path(__file__).parents[2]


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
            Rule(Demand("two_factor", 300, "wire", own_code=True), path="/menu", digits="3"),
            Rule(Demand("two_factor", 300, "wire", own_code=True), path="/wire/**"),
            Rule(ANYONE, transfer=Target("enqueue", "fraud-line")),
            Rule(
                Demand("two_factor", None, "agent", "one_factor", 0, How.BEFORE_CONNECT),
                transfer=Target("*", "*"),
            ),
        ),
        default=Demand("one_factor", 300),
        sensitive=("/wire/**",),
        ceiling=0.01,
        locks=Locks(Lockout(5, 3600, (1800, 7200, 86400), 100), Lockout(20, 3600, (3600,)), True, None),
        language="en-US",
        prompts=loaded.flow.prompts,
        sense=Sense(raise_to="two_factor"),
    )
    assert set(PROMPTS) <= loaded.flow.prompts.keys()


def test_what_is_left_out_has_the_defaults_of_the_core(files):
    """The file adds no defaults of its own."""
    flow = files.reading(files.small_text).flow

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


def test_every_key_has_its_effect(files):
    """None of them is read and forgotten."""
    text = files.small(
        numbers='numbers: ["SIP:Help@Bank.EXAMPLE;transport=tls", "client:desk", "*"]',
        upstream="upstream: {url: https://ivr.example, also: ['https://A.example/', 'http://[::1]:80']}",
        identify="identify: {ask: account_number, digits: {min: 2, max: 3}, known_number: ignore}",
        factors="factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code, digits: 7, valid: 90s, "
        "sends: {per_call: 3, per_account: 7 in 2d}}}",
        levels="levels: {one: pin, two: {all: [pin, {any: [code]}]}}",
        default="default: {require: one, within: 1m, intent: wire, own_code: true}",
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
    loaded = files.reading(text)

    assert loaded.faults == ()
    flow = loaded.flow
    assert flow is not None
    assert flow.numbers == ("sip:Help@bank.example", "client:desk", "*")
    assert flow.upstream == Upstream("https://ivr.example", ("https://a.example", "http://[::1]:80"))
    assert flow.identify == Identify("account_number", 2, 3)
    assert flow.factors["code"] == Factor(Kind.SMS_CODE, 7, 90, Sends(3, 7, 172_800))
    assert flow.levels["two"] == AllOf(("pin", AnyOf(("code",))))
    assert flow.default == Demand("one", 60, "wire", own_code=True)
    assert flow.rules == (
        Rule(ANYONE, "/**/x", "?*", "GET", "+1*", None, Hours(frozenset({4, 5, 6, 0, 2}), 1320, 1440)),
        Rule(Demand("two", 120, "", "one", 0), transfer=Target("sip", "a b")),
    )
    assert flow.locks == Locks(
        Lockout(4, 7200, (1, 259_200), 50), Lockout(9, 10_800, (14_400,)), False, "+18005550199"
    )
    said = (flow.language, flow.voice, flow.timezone, flow.tries, flow.token_valid_s)
    assert said == ("de", "Polly.Vicki", "Europe/Berlin", 2, 300)


def test_the_limit_per_caller_number_can_be_taken_out(files):
    """It is doubted, and done."""
    loaded = files.reading(files.small_text + "lockout: {caller_number: off, on_locked: refuse}\n")

    assert loaded.flow is not None
    assert loaded.flow.locks.caller_number is None
    assert "one number may guess" in str(loaded.doubts[0])


def test_words_stay_words(files):
    """YAML's own reading would make False of `no` and a number of `0123`."""
    flow = files.reading(
        files.small_text.replace("one: pin, two:", "no: pin, two:").replace(": one}", ": no}")
    ).flow

    assert flow is not None
    assert flow.levels["no"] == "pin"
    assert flow.default == Demand("no")


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
        (
            "{path: /a, require: two, own_code: true}",
            "rules[0].own_code: a code's message says the `intent`, and there is none here; name one",
        ),
        (
            "{path: /a, allow: anyone, own_code: true}",
            "rules[0].own_code: this has no effect beside `allow: anyone`; take it out",
        ),
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
def test_rules_say_what_they_mean(files, rule, expected):
    """One fault each, at its key, in words that show the mend."""
    assert files.only(files.with_rule(rule)).partition(" ")[2].startswith(expected)


@pytest.mark.parametrize(
    "hours",
    [
        "08:00-18:00", "mon 08:00", "mon 8:00-18:00", "mon 08:00-24:01", "mon 24:00-08:00", "mon 08:60-09:00",
        "mon 08:00-09:60", "mon 08:00-08:00", "mon-fri,xyz 08:00-18:00", "mo-fr 08:00-18:00", "mon- 08:00-18:00",
        "mon-fri 08:00-00:00", "",
    ],
)  # fmt: skip
def test_hours_that_never_hold_or_cannot_be_read(files, hours):
    """Days by their names, times from 00:00 to 24:00, and an end that is not the beginning."""
    assert "what is wanted: days and times" in files.only(
        files.with_rule(f'{{hours: "{hours}", require: two}}')
    )


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("mon-fri 08:00-18:00", Hours(frozenset({0, 1, 2, 3, 4}), 480, 1080)),
        ("sat,sun 00:00-24:00", Hours(frozenset({5, 6}), 0, 1440)),
        ("fri 22:00-06:00", Hours(frozenset({4}), 1320, 360)),
        ("sun-sun 09:30-10:15", Hours(frozenset({6}), 570, 615)),
    ],
)
def test_hours_that_are_read(files, hours, expected):
    """Days may go round the week, times over midnight."""
    flow = files.reading(files.with_rule(f'{{hours: "{hours}", require: two}}')).flow

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
            {"identify": "identify: {ask: your name, digits: {min: 6, max: 12}}"},
            "4:17 identify.ask: here is 'your name'; what is wanted: a name begins with a letter",
        ),
        (
            {"identify": "identify: {ask: order_number, digits: {min: 6, max: 12}}"},
            "4:17 identify.ask: prompts/en-US.yaml has no 'ask.order_number': a caller would not hear",
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
def test_parts_that_cannot_be_read(files, change, expected):
    """What is there, and what is wanted instead."""
    assert any(one.startswith(expected) for one in files.faults(files.small(**change))), files.faults(
        files.small(**change)
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
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
def test_further_keys_that_cannot_be_read(files, line, expected):
    """Each of the keys that may be left out."""
    assert files.only(f"{files.small_text}{line}\n").partition(" ")[2].startswith(expected)


def test_an_ivr_that_is_reached_in_clear_is_doubted(files):
    """What callers key and say travels there. On this machine itself it may."""
    clear = files.reading(files.small_text.replace("http://localhost:5000", "http://ivr.bank.example"))

    assert [str(doubt) for doubt in clear.doubts] == [
        "flows/f.yaml:3:17: upstream.url: what callers key and say would go unencrypted; use https"
    ]
    assert files.reading(files.small_text).doubts == ()


def test_the_keys_of_codes_have_their_effect(files):
    """Who sends a code, how often, and to what numbers."""
    code = (
        "code: {kind: sms_code, via: verify, sends: {per_call: 3, per_account: 7 in 2d, per_number: 1000 in 1h, "
        "per_prefix: 1 in 1s}, lookup: {sim_swap: 72h, forwarding: refuse, line_types: [mobile, personal], "
        "unknown: send}}"
    )
    flow = files.flow(files.small_text.replace("code: {kind: sms_code}", code))

    assert flow.factors["code"] == Factor(
        Kind.SMS_CODE,
        6,
        600,
        Sends(3, 7, 172_800, 1000, 3600, 1, 1),
        Via.VERIFY,
        Lookup(259_200, True, ("mobile", "personal"), Unknown.SEND),
    )


def test_a_lookup_of_one_thing_is_one(files):
    """What is not named is not looked at."""
    flow = files.flow(files.small_text.replace("kind: sms_code", "kind: sms_code, lookup: {sim_swap: 1h}"))

    assert flow.factors["code"].lookup == Lookup(3600, False, (), Unknown.WITHHOLD)


def test_what_is_worth_protecting_and_the_change_of_a_pin_are_read(files):
    """The remaining keys of a flow."""
    flow = files.flow(
        files.with_rule("{transfer: {enqueue: desk}, require: two}")
        + 'sensitive: ["/x", {enqueue: desk}]\n'
        + "ceiling: {guess_chance_per_year: 0.01}\n"
        + "pin_change: {path: /change-pin, require: two, within: 5m, then: /menu}\n"
        + "recording: must_pause\n"
    )

    assert flow.sensitive == ("/x", Target("enqueue", "desk"))
    assert flow.ceiling == 0.01
    assert flow.pin_change == PinChange("/change-pin", Demand("two", 300), "/menu")
    assert flow.recording is Recording.MUST_PAUSE


@pytest.mark.parametrize(("text", "chance"), [("0.5", 0.5), (".25", 0.25), ("1e-2", 0.01)])
def test_chances(files, text, chance):
    """As people write them."""
    flow = files.flow(files.small_text + f"ceiling: {{guess_chance_per_year: {text}}}\n")

    assert flow.ceiling == chance


def test_languages_are_read_with_their_words(files):
    """Each has a file of its own, a voice and a key; without a key only accounts have it."""
    hola = files.words.replace(b"hold: One moment, please.", b"hold: Un momento.")
    text = (
        files.small_text
        + 'languages: [{language: es-US, key: "2", voice: Polly.Lupe}, {language: fr, key: 0}, {language: de}]\n'
    )
    loaded = files.reading(text, es_US=hola)

    assert loaded.faults == loaded.doubts == ()
    es, fr, de = loaded.flow.languages
    assert es == Catalogue("es-US", es.prompts, "Polly.Lupe", {}, "2")
    assert es.prompts["hold"] == "Un momento."
    assert (fr.language, fr.key, fr.voice) == ("fr", "0", "")
    assert (de.language, de.key) == ("de", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("languages: []", "languages: the list is empty"),
        ("languages: es", "languages: here is 'es'; what is wanted: a list of languages"),
        ("languages: [es]", "languages[0]: here is 'es'; what is wanted: a mapping with the keys language, key"),
        ("languages: [{language: en_US}]", "languages[0].language: here is 'en_US'"),
        ("languages: [{language: es, key: 22}]", "languages[0].key: here is '22'; what is wanted: one key"),
        ("languages: [{language: es, key: '#'}]", "languages[0].key: here is '#'"),
        ("languages: [{language: es, voice: a b}]", "languages[0].voice: here is 'a b'"),
        ("languages: [{language: en-US}]", "languages[0].language: 'en-US' is the flow's own already"),
        ("levels2: {}", "levels2: unknown key 'levels2'; did you mean 'levels'?"),
        ("recording: stop", "recording: 'stop' is not known here; known: ignore, must_pause, pause"),
        ("ceiling: 0.001", "ceiling: here is '0.001'; what is wanted: a mapping"),
        ("ceiling: {}", "ceiling.guess_chance_per_year: this key is missing"),
        ("ceiling: {guess_chance_per_year: 0}", "ceiling.guess_chance_per_year: here is '0'; what is wanted: a"),
        ("ceiling: {guess_chance_per_year: 1.0}", "ceiling.guess_chance_per_year: here is '1.0'"),
        ("ceiling: {guess_chance_per_year: 1%}", "ceiling.guess_chance_per_year: here is '1%'"),
        ("ceiling: {guess_chance_per_year: nan}", "ceiling.guess_chance_per_year: here is 'nan'"),
        ("sensitive: []", "sensitive: the list is empty"),
        ("sensitive: [{enqueue: any}]", "sensitive[0].enqueue: here is 'any'"),
        ("sensitive: [{enqueue: a, sip: b}]", "sensitive[0]: here are 2 keys; what is wanted: a path such as"),
        ("sensitive: [[a]]", "sensitive[0]: here is a list"),
        ("sensitive: [any]", "sensitive[0]: here is 'any'; what is wanted: a path such as /wire/**, or a"),
        ("pin_change: /p", "pin_change: here is '/p'; what is wanted: a mapping"),
        ("pin_change: {path: /p, require: two, within: 5m}", "pin_change.then: this key is missing; add `then"),
        ("pin_change: {path: /p*, require: two, within: 5m, then: /x}", "pin_change.path: here is '/p*'"),
        ("pin_change: {path: //a/p, require: two, within: 5m, then: /x}", "pin_change.path: here is '//a/p'"),
        ("pin_change: {path: /p, require: 2, within: 5m, then: /x}", "pin_change.require: here is '2'"),
        ("pin_change: {path: /p, require: two, within: 5m, then: x}", "pin_change.then: here is 'x'"),
        ("pin_change: {path: /p, require: tow, within: 5m, then: /x}", "pin_change.require: there is no level"),
        ("lockout: {failures: 1001}", "lockout.failures: here is '1001'; what is wanted: a number from 1 to 1000"),
    ],
)  # fmt: skip
def test_newer_keys_that_cannot_be_read(files, line, expected):
    """What is there, and what is wanted instead."""
    assert files.only(f"{files.small_text}{line}\n").partition(" ")[2].startswith(expected)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("via: letter", "factors.code.via: 'letter' is not known here; known: messages, verify"),
        ("sends: {per_number: 1001 in 1h}", "factors.code.sends.per_number: here is '1001 in 1h'"),
        ("sends: {per_prefix: 10 per 1h}", "factors.code.sends.per_prefix: here is '10 per 1h'"),
        ("sends: {per_account: 5 in 0s}", "factors.code.sends.per_account: here is '5 in 0s'"),
        ("sends: {per_account: 5 in 366d}", "factors.code.sends.per_account: here is '5 in 366d'"),
        (
            "lookup: {sim_swap: 30m}",
            "factors.code.lookup.sim_swap: here is '30m'; what is wanted: a duration",
        ),
        ("lookup: {forwarding: yes}", "factors.code.lookup.forwarding: 'yes' is not known here"),
        ("lookup: {line_types: []}", "factors.code.lookup.line_types: the list is empty"),
        (
            "lookup: {line_types: [mobil]}",
            "factors.code.lookup.line_types[0]: 'mobil' is not known here; did",
        ),
        (
            "lookup: {unknown: send}",
            "factors.code.lookup.unknown: this has no effect where nothing is looked",
        ),
        (
            "lookup: {forwarding: ignore, unknown: send}",
            "factors.code.lookup.unknown: this has no effect where nothing is looked up",
        ),
    ],
)
def test_keys_of_codes_that_cannot_be_read(files, keys, expected):
    """The same for what a code needs."""
    text = files.small_text.replace("kind: sms_code", f"kind: sms_code, {keys}")

    assert files.only(text).partition(" ")[2].startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "kind: sms_code",
            "kind: sms",
            "factors.code.kind: 'sms' is not known here; known: pin, sms_code, totp",
        ),
        ("code: {kind: sms_code}", "code: sms", "factors.code: here is 'sms'; what is wanted: a mapping"),
        ("two: {all: [pin, code]}", "two: {al: [pin, code]}", "levels.two.al: unknown key 'al'"),
        (
            "two: {all: [pin, code]}",
            "two: {}",
            "levels.two: here are 0 keys; what is wanted: a factor's name",
        ),
    ],
)
def test_factors_and_levels_that_cannot_be_read(files, old, new, expected):
    """One fault each; what follows from it is not told."""
    assert files.only(files.small_text.replace(old, new)).partition(" ")[2].startswith(expected)


def test_so_many_languages_and_no_more(files):
    """Each is a file to be read."""
    many = ", ".join(f"{{language: en-{at}}}" for at in range(100, 121))
    found = files.faults(files.small_text + f"languages: [{many}]\n")

    assert found == ["11:12 languages: 21 entries; at most 20 are read"]


def test_a_language_without_a_file_is_a_fault_at_its_place(files):
    """Named where the flow names it; what it would say is not asked for."""

    def prompts(language):
        if language == "es":
            raise FileNotFoundError(2, "No such file or directory")
        return files.words

    text = files.small_text + "languages:\n  - {language: es}\n"
    loaded = read("flows/f.yaml", text.encode(), prompts)

    assert [str(fault) for fault in loaded.faults] == [
        (
            "flows/f.yaml:12:16: languages[0].language: flows/prompts/es.yaml cannot be read: "
            "No such file or directory; add it, or name another language"
        )
    ]


def test_a_prompt_missing_in_another_language_is_a_fault_at_its_place(files):
    """File and key are named."""
    short = files.words.replace(b"\nhold: One moment, please.", b"")
    loaded = files.reading(files.small_text + "languages:\n  - {language: es}\n", es=short)

    assert [str(fault) for fault in loaded.faults] == [
        "flows/f.yaml:12:16: languages[0].language: prompts/es.yaml has no 'hold'; add it"
    ]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_time_zones_that_there_are(files, zone):
    """Those of the time zone database."""
    assert files.flow(files.small_text + f"timezone: {zone}\n").timezone == zone


@pytest.mark.parametrize("zone", ["America", "europe/berlin!", "../UTC", "a/../UTC"])
def test_time_zones_that_there_are_not(files, zone):
    """A folder of zones is none, and a path is not followed."""
    assert "there is no time zone" in files.only(files.small_text + f"timezone: {zone}\n")


def test_a_workspace_is_taskrouters(files):
    """Its SID, or nothing; whoever wrote a workflow's reads what one looks like."""
    sid = "WS0123456789abcdef0123456789abcdef"
    assert files.flow(files.small_text + f"workspace: {sid}\n").workspace == sid
    assert files.flow(files.small_text).workspace == ""
    wrong = files.small_text + f"workspace: {sid.replace('WS', 'WW')}\n"
    assert "what is wanted: the SID of a TaskRouter workspace: WS and 32 hex digits" in files.only(wrong)


def test_a_transfer_may_be_bridged(files):
    """To one kind of person; everything else is told with what to write."""
    rule = '{transfer: {number: "*"}, require: two, reverify: one, bridge: conference}'
    music = "hold_music: https://media.example/waiting.mp3\n"
    text = files.small_text.replace("{transfer: any, require: two, reverify: one}", rule) + music
    flow = files.flow(text)
    assert (flow.rules[1].demand.bridge, flow.hold_music) == (True, "https://media.example/waiting.mp3")
    assert not files.flow(files.small_text).rules[1].demand.bridge
    for wrong, said in (
        (
            text.replace('{number: "*"}', "any"),
            "rules[1].bridge: the guard can bridge a transfer to number, client or sip",
        ),
        (
            text.replace('{number: "*"}', '{workflow: "*"}'),
            "rules[1].bridge: TaskRouter dials its workers itself; take `bridge` out and name the `workspace`",
        ),
        (text.replace("bridge: conference", "bridge: queue"), "rules[1].bridge: 'queue' is not known here"),
        (
            text.replace("default: {require: one}", "default: {require: one, bridge: conference}"),
            "default.bridge: only a rule",
        ),
    ):
        assert said in files.only(wrong)
