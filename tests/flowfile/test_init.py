"""Flow files: every fault with file, line, column, path and mend, all at once; never an exception."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivrguard.flowfile import load_all, read, restored

BANK = (Path(__file__).parents[2] / "flows/bank.yaml").read_text()


def test_a_version_is_what_both_files_say(files):
    """The same bytes, the same version; a changed word is another one, also in the prompts."""
    versions = [
        files.reading(files.small_text).flow,
        files.reading(files.small_text).flow,
        files.reading(files.small_text + "# x\n").flow,
    ]
    versions.append(files.reading(files.small_text, files.words + b"# x\n").flow)
    first, same, other, said = (flow.version for flow in versions if flow is not None)

    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == same
    assert len({first, other, said}) == 3


def test_a_flow_carries_what_it_was_read_from(files):
    """Whoever has its text has the flow, in its very version: every file, to the letter, in every language."""
    other = files.words.replace(b"Goodbye", "Adiós, señor".encode())
    text = files.small_text + 'languages: [{language: es-US, key: "2"}]\r\n# añil\n'
    flow = files.reading(text, es_US=other).flow
    assert flow.files == {"": text, "en-US": files.words.decode(), "es-US": other.decode()}

    again = restored(flow.files)

    assert (again, again.files) == (flow, flow.files)
    assert again.catalogue("es-US").prompts != again.prompts


@pytest.mark.parametrize("lost", ["", "en-US", "es-US"])
def test_without_one_of_its_files_there_is_no_flow(files, lost):
    """Or with one of them changed: another version, or none."""
    text = files.small_text + 'languages: [{language: es-US, key: "2"}]\n'
    flow = files.reading(text).flow
    assert restored({tag: said for tag, said in flow.files.items() if tag != lost}) is None
    changed = restored({**flow.files, lost: flow.files[lost] + "\n# x\n"})
    assert changed.version != flow.version


def test_what_is_shown_of_a_flow_is_not_its_files(files):
    """A log line with a flow in it would be a book."""
    assert "numbers: [" not in repr(files.reading(files.small_text).flow)


def test_a_fault_prints_as_compilers_print_it(files):
    """`file:line:column: path: message`, with the mend."""
    text = files.bank_text.replace('digits: "3", require: two_factor', 'digits: "3", require: two_factr')
    loaded = read("flows/bank.yaml", text.encode(), lambda _: files.words)
    line = 1 + text[: text.index("two_factr")].count("\n")

    assert [
        f"flows/bank.yaml:{line}:41: rules[2].require: there is no level 'two_factr'; did you mean 'two_factor'?"
    ] == [str(fault) for fault in loaded.faults]


def test_all_faults_come_at_once_in_the_order_of_the_file(files):
    """Shapes and meanings together; nobody runs `check` ten times."""
    text = files.small(
        numbers="numbers: [8005550100]",
        identify="identify: {ask: account_number, digits: {min: 12, max: 6}}",
        factors="factors: {pin: {kind: pin, digits: 3}, code: {kind: sms_code, valid: 10}}",
        default="default: {require: on, colour: red}",
    )

    assert files.faults(text) == [
        (
            "2:11 numbers[0]: here is '8005550100'; what is wanted: a number dialled: "
            '"+18005550100", sip:name@domain, client:name or "*"'
        ),
        "4:41 identify.digits: `min` is more than `max`: no number of keys would do; swap them",
        "5:36 factors.pin.digits: a PIN of 3 digits: use 4 or more",
        "5:70 factors.code.valid: here is '10'; what is wanted: a duration from 30s to 1d, such as 90s, 10m, 24h",
        "10:20 default.require: there is no level 'on'; did you mean 'one'?",
        "10:24 default.colour: unknown key 'colour'; known: allow, bridge, fresh, how, intent, own_code, require, reverify, within",
    ]


def test_a_place_that_is_not_there_is_reported_at_its_nearest_parent(files):
    """A key that is missing has no line; what it is missing from has."""
    assert (
        files.only(files.small(default=""))
        == "1:1 default: this key is missing; add `default: {require: one_factor}`"
    )
    assert files.only(files.small(identify="identify: {ask: account_number, digits: {min: 6}}")) == (
        "4:41 identify.digits.max: this key is missing; add `max: 12`"
    )


def test_doubts_are_told_when_there_is_no_other_fault_of_reading(files):
    """They block nothing; and beside a fault they might only follow from it."""
    doubtful = files.small_text + "lockout: {lifetime: 0}\n"

    assert [str(doubt)[:40] for doubt in files.reading(doubtful).doubts] == [
        "flows/f.yaml:11:21: lockout.lifetime: NIST"[:40]
    ]
    assert files.reading(doubtful).flow is not None
    assert files.reading(doubtful + "x: y\n").doubts == ()
    assert files.reading(doubtful.replace("require: two}", "require: tow}")).doubts != ()


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
def test_nothing_is_reported_that_only_follows_from_another_fault(files, change, expected):
    """Whoever mends the first line should not have wondered about ten others."""
    lines = files.small_text.splitlines()
    for start, line in change.items():
        lines = [line if old.startswith(start) else old for old in lines]

    assert [str(fault).split(": ")[1] for fault in files.reading("\n".join(lines)).faults] == expected


def test_a_broken_rule_is_still_asked_for_its_level(files):
    """A condition that cannot be read does not hide a name that dangles."""
    found = files.faults(files.with_rule("{path: x, require: tow, within: 1s}"))

    assert [one.split(" ")[1] for one in found] == [
        "rules[0].path:",
        "rules[0].require:",
        "rules[0].within:",
    ]


def test_a_version_is_what_every_file_says(files):
    """Each language that a flow names is part of it; the same two files the other way round are another flow."""
    text = files.small_text + "languages: [{language: es}]\n"
    other = files.words + b"# x\n"
    loaded = [
        files.reading(text),
        files.reading(text, es=other),
        files.reading(text, other, es=files.words),
        files.reading(text, other, es=other),
    ]
    versions = {one.flow.version for one in loaded}

    assert len(versions) == len(loaded)


@pytest.mark.parametrize(
    ("change", "more", "expected"),
    [
        # an entry that no rule covers, while a rule cannot be read: it may be the very one
        ({"  - {path": "  - {path: x, require: two}"}, 'sensitive: ["/x"]\n', ["rules[0].path"]),
        (
            {"levels": "levels: {one: pin, two: {al: [pin, code]}}"},
            'sensitive: ["/x"]\n',
            ["levels.two.al"],
        ),
        # a PIN that cannot be read is one all the same
        (
            {"factors": "factors: {pin: {kind: pn}, code: {kind: sms_code}}"},
            "pin_change: {path: /p, require: two, within: 5m, then: /x}\n",
            ["factors.pin.kind"],
        ),
        # how long the questions take depends on what cannot be read
        (
            {
                "factors": "factors: {pin: {kind: pin, digits: 8}, code: {kind: sms}}",
                "  - {path": "  - {path: /x, require: two, within: 30s}",
            },
            "",
            ["factors.code.kind"],
        ),
        # an entry that cannot be read keeps its position, and nothing is said of it
        ({}, "sensitive: [x, /y]\n", ["sensitive[0]", "sensitive[1]"]),
        # the words of a language that is not named
        ({}, "languages: [{key: '2'}]\n", ["languages[0].language"]),
    ],
)
def test_nothing_is_reported_that_only_rests_on_another_section(files, change, more, expected):
    """What is sensitive, how long questions take and a change of PIN rest on rules, levels and factors."""
    lines = files.small_text.splitlines()
    for start, line in change.items():
        lines = [line if old.startswith(start) else old for old in lines]
    loaded = files.reading("\n".join(lines) + "\n" + more)

    assert [str(fault).split(": ")[1] for fault in loaded.faults] == expected


@pytest.fixture
def folder(files, tmp_path):
    """A folder with the small flow and its prompts."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/en-US.yaml").write_bytes(files.words)
    (tmp_path / "small.yaml").write_text(files.small_text)
    return tmp_path


def test_a_folder_is_every_yaml_file_in_it(files, folder):
    """Prompts lie deeper and are no flows."""
    other = files.small_text.replace("flow: small", "flow: other").replace("0100", "0101")
    (folder / "other.yaml").write_text(other)
    (folder / "README.md").write_text("#")
    loaded = load_all(folder)

    assert loaded.faults == loaded.doubts == ()
    assert [flow.name for flow in loaded.flows] == ["other", "small"]


def test_a_number_and_a_name_belong_to_one_flow(files, folder):
    """Otherwise the order of files would decide who answers. The fault names both places."""
    (folder / "a.yaml").write_text(files.small_text + "tries: x\n")
    loaded = load_all(folder)

    assert [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults] == [
        "a.yaml:11:8: tries: here is 'x'; what is wanted: a number from 1 to 10",
        f"small.yaml:1:7: flow: the name 'small' is claimed at {folder}/a.yaml:1:7 too; one flow only",
        (
            f"small.yaml:2:11: numbers[0]: the number '+18005550100' is claimed at {folder}/a.yaml:2:11 too; "
            "one flow only"
        ),
    ]


def test_a_fault_that_two_flows_share_is_told_once(files, folder):
    """One language, one file, one fault."""
    (folder / "other.yaml").write_text(files.small_text.replace("small", "other").replace("0100", "0101"))
    (folder / "prompts/en-US.yaml").write_bytes(files.words + b"x: y\n")

    assert len(load_all(folder).faults) == 1
    assert load_all(folder).flows == ()


def test_what_would_be_overlooked_is_a_fault(files, folder):
    """A flow in a file of another name protects nobody."""
    (folder / "bank.yml").write_text(files.small_text)
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


def test_files_that_cannot_be_read_are_faults(files, folder):
    """The flow's own file, and the one of its language."""
    (folder / "dir.yaml").mkdir()
    (folder / "small.yaml").write_text(files.small_text + "language: fr\n")

    assert [str(fault) for fault in load_all(folder).faults] == [
        f"{folder}/dir.yaml:1:1: cannot be read: Is a directory",
        (
            f"{folder}/small.yaml:11:11: language: {folder}/prompts/fr.yaml cannot be read: "
            "No such file or directory; add it, or name another language"
        ),
    ]


def assert_whole(loaded, data, prompts):
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
def test_any_bytes_are_a_flow_or_faults_with_places(files, data):
    """Never an exception, whatever is in the file."""
    assert_whole(files.reading(data), data, files.words)


@given(data=st.binary(max_size=200) | yaml_like.map(str.encode))
def test_any_bytes_of_prompts_are_words_or_faults_with_places(files, data):
    """The same for the other file."""
    assert_whole(files.reading(files.small_text, data), files.small_text.encode(), data)


@settings(max_examples=150)
@given(at=st.integers(0, len(BANK)), length=st.integers(0, 12), new=yaml_like | st.text(max_size=3))
def test_the_example_with_anything_done_to_it_is_a_flow_or_faults_with_places(files, at, length, new):
    """Cut, pasted and mistyped as admins do."""
    try:
        data = (files.bank_text[:at] + new + files.bank_text[at + length :]).encode()
    except UnicodeEncodeError:  # half a surrogate pair is in no file
        return

    assert_whole(files.reading(data), data, files.words)


KEY = re.compile(r"(?m)(?<=[\s{])([a-z_]+):(?= |$)")
KEYS = [key for key in KEY.finditer(BANK) if "#" not in BANK[: key.start()].rpartition("\n")[2]]
FREE = {"pin", "code", "app", "one_factor", "two_factor"}


@given(key=st.sampled_from(KEYS), at=st.integers(0, 30), how=st.sampled_from(["drop", "double", "swap", "x"]))
def test_a_mistyped_key_of_the_example_is_reported_at_its_line(files, key, at, how):
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
    loaded = files.reading(files.bank_text[: key.start()] + slips[how] + files.bank_text[key.end(1) :])
    line = 1 + files.bank_text[: key.start()].count("\n")

    assert loaded.faults
    if word in FREE:
        assert line in {one.line for one in (*loaded.faults, *loaded.doubts)}
    else:
        assert line in {fault.line for fault in loaded.faults}
        assert any(f"'{slips[how]}'" in fault.message for fault in loaded.faults if fault.line == line)
