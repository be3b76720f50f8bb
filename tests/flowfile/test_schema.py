"""The JSON Schema: it knows the format that the reader reads, every key of it, and says what each is for."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.flow import PLACEHOLDERS, PROMPTS
from ivrguard.core.rules import TARGET_KINDS
from ivrguard.flowfile import forms
from ivrguard.flowfile.schema import prompts_schema, schema

FLOWS = Path(__file__).parents[2] / "flows"


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: `no` is a word."""

    yaml_implicit_resolvers: ClassVar = {}


for tag, form, first in (
    ("bool", "true|false", "tf"),
    ("int", "[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", "null|~|", "n~\0"),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{form})$"), list(first))


def loaded(text):
    return yaml.load(text, Loader=Core)


FLOW, WORDS = jsonschema.Draft202012Validator(schema()), jsonschema.Draft202012Validator(prompts_schema())
RICH = loaded((FLOWS / "bank.yaml").read_text())
RICH["rules"].insert(
    2, {"path": "/later/**", "hours": "mon-fri 08:00-18:00", "method": "POST", "require": "two_factor"}
)
RICH["factors"]["code"] |= {
    "via": "verify",
    "sends": {"per_call": 3, "per_number": "9 in 1d", "per_prefix": "99 in 1h"},
    "lookup": {"sim_swap": "72h", "forwarding": "refuse", "line_types": ["mobile"], "unknown": "send"},
}
RICH |= {
    "voice": "Polly.Joanna",
    "timezone": "America/New_York",
    "tries": 2,
    "token_valid": "5m",
    "languages": [{"language": "es-US", "key": "2", "voice": "Polly.Lupe"}],
    "sensitive": ["/wire/**", {"enqueue": "wire-desk"}],
    "pin_change": {"path": "/change-pin", "require": "two_factor", "within": "5m", "then": "/menu"},
    "recording": "pause",
    "ceiling": {"guess_chance_per_year": 0.5},
    "sense": {"spray": "30 in 12h", "many_numbers": "off", "flood": "600 in 1m", "raise": "two_factor"},
    "threats": {"phrases": ["There's a bomb", "blow it up"]},
}
RICH["lockout"]["on_locked"] = {"dial": "+18005550199"}


def at(document, place):
    for step in place:
        document = document[step]
    return document


def changed(place, value):
    """The rich flow with something else at a place."""
    document = copy.deepcopy(RICH)
    at(document, place[:-1])[place[-1]] = value
    return document


def properties(node, name=""):
    """Every key that the schema names, wherever, with its own schema: (mapping's name, key, schema)."""
    if isinstance(node, dict):
        for key, entry in node.get("properties", {}).items():
            if isinstance(entry, dict):
                yield name, key, entry
        for key, entry in node.items():
            yield from properties(entry, key)
    elif isinstance(node, list):
        for entry in node:
            yield from properties(entry, name)


# ── itself ───────────────────────────────────────────────────────────────────────────────────────────────


def mappings(node):
    """Every schema of a mapping with keys of its own, wherever."""
    for entry in node.values() if isinstance(node, dict) else node:
        if isinstance(entry, dict | list):
            yield from mappings(entry)
    if isinstance(node, dict) and node.get("type") == "object" and "properties" in node:
        yield node


@pytest.mark.parametrize("made", [schema, prompts_schema])
def test_it_is_a_schema_of_its_dialect(made):
    """And every mapping is closed, but those whose keys are names of the admin's own."""
    jsonschema.Draft202012Validator.check_schema(made())
    found = list(mappings(made()))

    assert len(found) > 10
    assert [one for one in found if one["additionalProperties"] is not False] == []


@pytest.mark.parametrize("made", [schema, prompts_schema])
def test_every_key_says_what_it_is_for(made):
    """In words, with an example that it takes itself; a duration names its units and bounds."""
    whole = made()
    for _, key, entry in properties(whole):
        assert "Example: " in entry["description"] or entry["description"].endswith("."), key
        if entry.get("pattern") == f"^(?:{forms.DURATION.pattern})$":
            assert "(s, m, h or d) from" in entry["description"], key
        if made is schema:
            assert entry["examples"], key
        for example in entry.get("examples", ()):
            judge = jsonschema.Draft202012Validator({**entry, "$defs": whole.get("$defs", {})})
            assert judge.is_valid(example), (key, example)


def test_prompts_are_those_of_the_guard():
    """Each is needed."""
    assert [*prompts_schema()["properties"]] == [*PROMPTS] == prompts_schema()["required"]


# ── the reader knows no other format ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", sorted(FLOWS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_flows_keep_to_it(path):
    """As an editor would say."""
    assert [error.message for error in FLOW.iter_errors(loaded(path.read_text()))] == []


@pytest.mark.parametrize("path", sorted(FLOWS.glob("prompts/*.yaml")), ids=lambda path: path.name)
def test_the_example_prompts_keep_to_it(path):
    """The same."""
    assert [error.message for error in WORDS.iter_errors(loaded(path.read_text()))] == []


def test_a_flow_with_every_key_is_one_for_both(files):
    """Nothing that the reader knows is missing, and the flow that the others here are bent from is whole."""
    document = changed(("rules", 2, "dialled"), "+1*")
    found = files.reading(json.dumps(document))

    assert [error.message for error in FLOW.iter_errors(document)] == []
    assert found.faults == ()


VARIANTS = [
    (("numbers",), ["sip:a@b.example", "client:desk", "*"]),
    (("levels", "one_factor"), "pin"),
    (("levels", "no"), {"all": ["pin", {"any": ["code", "app"]}]}),
    (("factors", "code"), {"kind": "sms_code"}),
    (("rules", 0), {"hours": "fri-mon,wed 22:00-24:00", "require": "two_factor"}),
    (("rules", 0), {"digits": 0, "require": "two_factor"}),
    (("rules", 0), {"path": "//media.bank.example/**", "allow": "anyone"}),
    (("lockout", "caller_number"), "off"),
    (("lockout", "on_locked"), "refuse"),
    (("languages", 0), {"language": "fr", "key": 2}),
    (("upstream", "url"), "http://localhost:5000"),
]


@pytest.mark.parametrize(("place", "value"), VARIANTS)
def test_what_both_accept(files, place, value):
    """In the spellings that people use."""
    document = changed(place, value)

    assert [error.message for error in FLOW.iter_errors(document)] == []
    assert files.reading(json.dumps(document)).faults == ()


BROKEN = [
    (("colour",), "red"),
    (("flow",), "1st"),
    (("numbers",), []),
    (("numbers", 0), "8005550100"),
    (("upstream", "url"), "ivr.example"),
    (("upstream", "url"), "https://u@ivr.example/"),
    (("upstream", "also"), ["https://a.example/x"]),
    (("language",), "en_US"),
    (("languages", 0), {"key": "2"}),
    (("languages", 0, "key"), 12),
    (("tries",), 0),
    (("tries",), 11),
    (("token_valid",), 10),
    (("identify", "ask"), "a name"),
    (("identify", "digits"), {"min": 6}),
    (("identify", "digits", "max"), 33),
    (("factors",), {}),
    (("factors", "pin"), {"kind": "pin"}),
    (("factors", "pin", "digits"), 3),
    (("factors", "pin", "valid"), "5m"),
    (("factors", "code", "digits"), 5),
    (("factors", "code", "via"), "letter"),
    (("factors", "code", "sends", "per_prefix"), "lots"),
    (("factors", "code", "lookup"), {"unknown": "send"}),
    (("factors", "code", "lookup", "line_types"), ["mobil"]),
    (("factors", "app", "digits"), 6),
    (("factors", "app", "kind"), "hotp"),
    (("levels", "2nd"), "pin"),
    (("levels", "one_factor"), {"any": []}),
    (("levels", "one_factor"), {"any": ["pin"], "all": ["code"]}),
    (("rules",), []),
    (("rules", 0), {"path": "/a"}),
    (("rules", 0), {"require": "one_factor"}),
    (("rules", 0), {"path": "/a", "allow": "anyone", "require": "one_factor"}),
    (("rules", 0), {"path": "/a", "allow": "everyone"}),
    (("rules", 0), {"path": "/a", "allow": "anyone", "within": "5m"}),
    (("rules", 0), {"path": "/a", "require": "one_factor", "reverify": "one_factor"}),
    (("rules", 0), {"transfer": "any", "require": "one_factor", "fresh": "5m"}),
    (("rules", 0), {"own_code": True, "path": "/a", "require": "one_factor"}),
    (("rules", 0), {"own_code": True, "intent": "a", "path": "/a", "allow": "anyone"}),
    (("default", "own_code"), True),
    (("rules", 0), {"transfer": "any", "allow": "anyone", "reverify": "one_factor"}),
    (("rules", 0, "path"), "a"),
    (("rules", 0, "path"), "/a/"),
    (("rules", 0, "path"), "/a/../b"),
    (("rules", 0, "path"), "/*/*/*/*/*"),
    (("rules", 0, "digits"), "three"),
    (("rules", 0, "method"), "PUT"),
    (("rules", 0, "hours"), "08:00-18:00"),
    (("rules", 0, "hours"), "mon 08:60-18:00"),
    (("rules", 0, "transfer"), "all"),
    (("rules", 0, "transfer"), {"queu": "a"}),
    (("rules", 0, "transfer"), {"sip": "a", "client": "b"}),
    (("rules", 0, "transfer"), {}),
    (("rules", 0, "transfer"), {"enqueue": "any"}),
    (("default",), "one_factor"),
    (("default", "reverify"), "one_factor"),
    (("sensitive", 0), "wire"),
    (("sensitive", 0), {"enqueue": "any"}),
    (("pin_change",), {"path": "/p", "require": "two_factor"}),
    (("pin_change", "path"), "/p/*"),
    (("recording",), "stop"),
    (("ceiling",), {}),
    (("ceiling", "guess_chance_per_year"), 0),
    (("ceiling", "guess_chance_per_year"), 1),
    (("lockout", "failures"), 0),
    (("lockout", "lock"), []),
    (("lockout", "lock"), ["30"]),
    (("lockout", "trusted_lane"), "yes"),
    (("lockout", "caller_number"), "none"),
    (("lockout", "caller_number", "lifetime"), 5),
    (("lockout", "on_locked"), {}),
    (("lockout", "on_locked", "dial"), "client:a"),
]


@pytest.mark.parametrize(("place", "value"), BROKEN, ids=lambda value: json.dumps(value)[:40])
def test_what_both_refuse(files, place, value):
    """One fault each, which an editor shows as `check` does."""
    document = changed(place, value)

    assert not FLOW.is_valid(document)
    assert files.reading(json.dumps(document)).faults != ()


PLACES = sorted(
    {
        place[:length]
        for place in (
            *(tuple(place) for place, _ in BROKEN),
            ("factors", "code", "lookup", "sim_swap"),
            ("factors", "code", "lookup", "forwarding"),
            ("factors", "code", "sends", "per_call"),
            ("factors", "code", "valid"),
            ("levels", "two_factor", "all", 1),
            ("rules", 2, "hours"),
            ("rules", 3, "intent"),
            ("rules", 5, "transfer", "enqueue"),
            ("rules", 6, "reverify"),
            ("rules", 6, "how"),
            ("languages", 0, "voice"),
            ("lockout", "lifetime"),
            ("lockout", "within"),
        )
        for length in range(1, len(place) + 1)
    },
    key=repr,
)
ODD = st.sampled_from(
    [
        *(
            "",
            "any",
            "pin",
            "one_factor",
            "/a",
            "/a/**",
            "5m",
            "0s",
            "5 in 1h",
            "refuse",
            "anyone",
            "GET",
            "a b",
        ),
        *(
            "https://a.example",
            "https://a.example/x",
            "+18005550123",
            "*",
            "mon-fri 08:00-18:00",
            "en-GB",
            "off",
        ),
        *([], {}, ["pin"], {"any": ["pin"]}, {"enqueue": "a"}, {"path": "/a", "allow": "anyone"}, ["5m"]),
    ]
)


@given(
    place=st.sampled_from(PLACES),
    odd=ODD,
    number=st.integers(-1, 40),
    how=st.sampled_from(["put", "take", "add"]),
)
def test_what_it_refuses_check_refuses_too(files, place, odd, number, how):
    """An editor never marks what would go live."""
    document = copy.deepcopy(RICH)
    try:
        parent = at(document, place[:-1])
        old = parent[place[-1]]
    except (KeyError, IndexError):
        old, parent = None, document
    if how == "take" and isinstance(parent, dict):
        parent.pop(place[-1], None)
    elif how == "add" and isinstance(old, dict):
        old["within"] = odd
    else:
        bare = isinstance(old, int) and not isinstance(old, bool)
        parent[place[-1]] = number if bare else odd
    if not FLOW.is_valid(document):
        assert files.reading(json.dumps(document)).faults != ()


# ── defaults ─────────────────────────────────────────────────────────────────────────────────────────────

CODE = schema()["properties"]["factors"]["additionalProperties"]["anyOf"][1]
SECTIONS = {
    (): schema(),
    ("identify",): schema()["properties"]["identify"],
    ("factors", "code"): CODE,
    ("factors", "code", "sends"): CODE["properties"]["sends"],
    ("factors", "code", "lookup"): CODE["properties"]["lookup"],
    ("lockout",): schema()["properties"]["lockout"],
    ("rules", 1): schema()["properties"]["rules"]["items"],
}
DEFAULTS = [
    (*place, key)
    for place, section in SECTIONS.items()
    for key, entry in section["properties"].items()
    if "default" in entry
]


@pytest.mark.parametrize("place", DEFAULTS, ids=lambda place: ".".join(map(str, place)))
def test_a_default_is_what_a_flow_has_without_the_key(files, place):
    """Writing it down changes nothing."""
    document = loaded(files.small_text)
    document["factors"]["code"] |= {"sends": {}, "lookup": {"sim_swap": "1h"}}
    document["lockout"] = {}
    before = files.flow(json.dumps(document))
    at(document, place[:-1])[place[-1]] = SECTIONS[place[:-1]]["properties"][place[-1]]["default"]
    after = files.flow(json.dumps(document))

    assert replace(after, version=before.version) == before


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("hold", "Wait.", True),
        ("hold", {"say": "Wait.", "play": "https://media.bank.example/a.mp3"}, True),
        ("intent.loan", "a loan", True),
        ("ask.order_number", "order number", True),
        ("identify", "Your {ask}, please.", True),
        ("pin", "Your {digits} digits.", True),
        ("hold", "", False),
        ("hold", ["Wait."], False),
        ("hold", "a" * 601, False),
        ("hold", "Wait {digits}.", False),
        ("pin", "Your {digit} PIN.", False),
        ("pin", "Your {digits PIN.", False),
        ("hold", {"say": "Wait."}, False),
        ("hold", {"say": "Wait.", "play": "ftp://media.bank.example/a.mp3"}, False),
        ("whisper", "The code.", False),
        ("whisper", {"say": "{code}", "play": "https://media.bank.example/a.mp3"}, False),
        ("sms_text", {"say": "{code}", "play": "https://media.bank.example/a.mp3"}, False),
        ("intent.loan", {"say": "a loan", "play": "https://media.bank.example/a.mp3"}, False),
        ("intent.a loan", "a loan", False),
        ("ask.a number", "a number", False),
        ("hold", "Wait, {ask}.", False),
        ("holdd", "Wait.", False),
        ("hold", None, False),
    ],
)
def test_prompts_that_both_accept_and_refuse(files, name, value, good):
    """The same words, the same audio, the same braces. None: the prompt is not there."""
    words = loaded(files.words)
    words[name] = value
    if value is None:
        del words[name]

    assert WORDS.is_valid(words) is good
    assert (files.reading(files.small_text, json.dumps(words).encode()).faults == ()) is good


# ── what admins read ─────────────────────────────────────────────────────────────────────────────────────


README = (FLOWS / "README.md").read_text()
LISTS = {"languages"}
"""Lists whose entries have keys of their own."""


def keys_of(node, needed=(), prefix=""):
    """Each key of a mapping and of those in it, as the tables call it, with its schema and whether it is needed."""
    for key, entry in node["properties"].items():
        name, inner = f"{prefix}{key}", entry.get("items", entry) if key in LISTS else entry
        if key in {"rules", "default", "lockout", "sense"}:
            yield (
                (f"{name}.*" if key in {"lockout", "sense"} else name),
                entry,
                key in node.get("required", ()),
            )
        elif "properties" in inner and name != "identify.digits":
            if key in LISTS:
                yield name, entry, False
            yield from keys_of(inner, prefix=f"{name}[]." if key in LISTS else f"{name}.")
        else:
            named = f"{name}.<name>" if "propertyNames" in entry else name
            yield (
                named,
                entry["additionalProperties"] if named != name else entry,
                key in node.get("required", ()),
            )


def factor_keys():
    """Those of factors, each with the kind that it belongs to."""
    forms_ = schema()["properties"]["factors"]["additionalProperties"]["anyOf"]
    for form, kind in zip(forms_, ("pin", "sms_code", "totp"), strict=True):
        for name, entry, needed in keys_of(form):
            if name != "kind":
                yield f"{name}` of a{'n' * (kind == 'sms_code')} `{kind}", entry, needed


PARTS = schema()["properties"]
SECTIONS_OF_README = {
    "## Keys": [*keys_of(schema())],
    "### Factors": [("kind", {"enum": ["pin", "sms_code", "totp"]}, True), *factor_keys()],
    "### Rules": [*keys_of(PARTS["rules"]["items"])],
    "### Lockout": [*keys_of(PARTS["lockout"], prefix="")],
    "### Attacks": [*keys_of(PARTS["sense"], prefix="")],
}
EVERY_KEY = [(section, *row) for section, rows in SECTIONS_OF_README.items() for row in rows]


def row_of(section, name):
    """The cells of a key's row in its section's table: default, what it says, example."""
    text = README.split(f"{section}\n", 1)[1]
    text = re.split(rf"^#{{1,{section.count('#')}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(found) == 1, (section, name)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", found[0])[2:-1]]


def test_the_tables_hold_every_key_of_the_schema():
    """What is looked at below is all there is: each key that the schema has somewhere has a row, or is in a row's example."""
    rows = {part for _, name, _, _ in EVERY_KEY for part in re.split(r"[.`\[\]<>* ]+", name)}
    inside = {"min", "max", "any", "all", "dial", "kind", "lockout", "sense"}
    names = {key for mapping, key, _ in properties(schema()) if key not in TARGET_KINDS}

    assert len(EVERY_KEY) > 50
    assert names - rows - inside == set()
    assert {key for key in inside if f"{key}:" not in README and f"`{key}" not in README} == set()


@pytest.mark.parametrize(
    ("section", "name", "entry", "needed"), EVERY_KEY, ids=[" ".join(one[:2]) for one in EVERY_KEY]
)
def test_the_readme_for_admins_explains_every_key(section, name, entry, needed):
    """In a row with its default, which is the code's; what it may be, in its unit; and an example that is one."""
    default, says, example = row_of(section, name)
    judge = jsonschema.Draft202012Validator({**entry, "$defs": schema()["$defs"]})

    assert says
    assert default.startswith("**needed**") or not needed
    if "default" in entry:
        assert loaded(default.strip("`")) == entry["default"], default
    else:
        assert default
        assert needed or not default.startswith("`")
    for bound in ("minimum", "maximum"):
        assert bound not in entry or str(entry[bound]) in re.findall("[0-9]+", says), (bound, entry[bound])
    if span := re.search(r"from (\w+) to (\w+)", entry.get("description", "")):
        assert (
            entry.get("pattern") != f"^(?:{forms.DURATION.pattern})$" or f"({span[1]} to {span[2]})" in says
        )
    assert example.startswith("`")
    value = loaded(example.strip("`"))
    assert [error.message for error in judge.iter_errors(value)] == [], example


def test_the_readme_for_admins_explains_every_prompt():
    """And an example of one that is played is one."""
    for name in PROMPTS:
        filled = row_of("## Prompts", name)[1]
        assert set(re.findall(r"\{(\w+)\}", filled)) == set(PLACEHOLDERS.get(name, ())), name
    (block,) = re.findall(r"```yaml\n(pin: .*?)```", README, re.DOTALL)
    example = loaded(block)
    assert [
        error.message
        for error in WORDS.iter_errors({**loaded((FLOWS / "prompts/en-US.yaml").read_text()), **example})
    ] == []
    assert any("play" in value for value in example.values())
