"""
OCSF events, held against a JSON Schema of the attributes that are used, written from OCSF 1.4.0's own definitions:
what each class requires, which names there are, and which numbers an enumeration has (https://schema.ocsf.io/1.4.0/).
"""

import json

import jsonschema
import pytest

from ivrguard.core.audit import Entry, link
from ivrguard.exports import ocsf
from ivrguard.exports.events import MEANINGS

TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}


def enum(*names, other=True):
    """Numbers from 0 (Unknown) on, as captions; 99 is Other."""
    return {0: "Unknown", **dict(enumerate(names, 1)), **({99: "Other"} if other else {})}


SEVERITY = enum("Informational", "Low", "Medium", "High", "Critical", "Fatal")
STATUS = enum("Success", "Failure")
ACTIVITIES = {
    3001: enum(
        *(
            "Create",
            "Enable",
            "Password Change",
            "Password Reset",
            "Disable",
            "Delete",
            "Attach Policy",
            "Detach Policy",
        ),
        *("Lock", "MFA Factor Enable", "MFA Factor Disable", "Unlock"),
    ),
    3002: enum("Logon", "Logoff", "Authentication Ticket", "Service Ticket Request", "Service Ticket Renew"),
    3003: enum("Assign Privileges", "Assign Groups"),
    3004: enum("Create", "Read", "Update", "Delete"),
    0: enum(),
}
CAPTIONS = {
    3001: "Account Change",
    3002: "Authentication",
    3003: "Authorize Session",
    3004: "Entity Management",
    0: "Base Event",
}


def shape(properties, required=(), **more):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


USER = shape(
    {"uid": TEXT, "name": TEXT, "type_id": {"enum": [0, 1, 2, 3, 99]}, "type": TEXT},
    anyOf=[{"required": ["uid"]}, {"required": ["name"]}],
)
METADATA = shape(
    {
        "version": {"const": "1.4.0"},
        "product": shape({"name": TEXT, "vendor_name": TEXT}, ["name", "vendor_name"]),
        "uid": TEXT,
        "sequence": COUNT,
        "event_code": TEXT,
        "log_name": TEXT,
        "original_time": TEXT,
    },
    ["version", "product"],
)
BASE = {
    "activity_id": COUNT,
    "activity_name": TEXT,
    "category_uid": {"enum": [0, 3]},
    "category_name": TEXT,
    "class_uid": {"enum": [*CAPTIONS]},
    "class_name": TEXT,
    "type_uid": COUNT,
    "type_name": TEXT,
    "severity_id": {"enum": [*SEVERITY]},
    "severity": TEXT,
    "status_id": {"enum": [*STATUS]},
    "status": TEXT,
    "status_detail": {"type": "string"},
    "time": {"type": "integer", "minimum": 1_000_000_000_000},
    "message": TEXT,
    "metadata": METADATA,
    "unmapped": {"type": "object"},
}
BASE_REQUIRED = ["activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata"]
IAM = {"actor": shape({"user": USER})}
SESSION = shape({"uid": TEXT})
OF_CLASS = {
    0: shape(BASE, BASE_REQUIRED),
    3001: shape({**BASE, **IAM, "user": USER}, [*BASE_REQUIRED, "user"]),
    3002: shape(
        {**BASE, **IAM, "user": USER, "session": SESSION, "service": shape({"name": TEXT}, ["name"])},
        [*BASE_REQUIRED, "user", "service"],  # at least one of service and dst_endpoint
    ),
    3003: shape(
        {
            **BASE,
            **IAM,
            "user": USER,
            "session": SESSION,
            "privileges": {"type": "array", "items": TEXT, "minItems": 1},
        },
        [*BASE_REQUIRED, "user", "privileges"],  # at least one of privileges and group
    ),
    3004: shape(
        {**BASE, **IAM, "entity": shape({"name": TEXT, "type": TEXT}, ["name"])}, [*BASE_REQUIRED, "entity"]
    ),
}


def check(event):
    """The event fits its class, and what must go together goes together."""
    jsonschema.validate(event, OF_CLASS[event["class_uid"]])
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["category_uid"] == event["class_uid"] // 1000
    assert event["class_name"] == CAPTIONS[event["class_uid"]]
    assert event["severity"] == SEVERITY[event["severity_id"]]
    assert event["status"] == STATUS[event["status_id"]]
    captions = ACTIVITIES[event["class_uid"]]
    if event["activity_id"] == 99:  # a name of the source's own, that OCSF has no number for
        assert event["activity_name"] not in {*captions.values()} - {"Other"}
    else:
        assert event["activity_name"] == captions[event["activity_id"]]
    assert event["type_name"] == f"{event['class_name']}: {event['activity_name']}"


def test_every_event_fits_its_class(chain, chain_name):
    """One line each; those without a row of their own, and those of a caller who has not named an account, too."""
    seen = set()
    for before, linked in chain:
        line = ocsf.entry_line(chain_name, before, linked)
        assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
        event = json.loads(line)
        check(event)
        seen.add(event["metadata"]["event_code"])
    assert seen >= MEANINGS.keys()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda event: event.pop("user"), "'user' is a required property"),
        (lambda event: event.update(time="2026-11-27"), "is not of type 'integer'"),
        (lambda event: event.update(user={"type_id": 1}), "is not valid under any of the given schemas"),
        (lambda event: event.update(caller="+15551230001"), "Additional properties are not allowed"),
        (lambda event: event.update(status_id=3), "is not one of"),
        (lambda event: event["metadata"].pop("version"), "'version' is a required property"),
    ],
)
def test_the_schema_would_see_a_fault(chain, chain_name, change, why):
    """A schema that nothing can turn red would show nothing."""
    event = json.loads(ocsf.entry_line(chain_name, *chain[5]))
    change(event)
    with pytest.raises(jsonschema.ValidationError, match=why):
        check(event)


def test_a_wrong_pin_as_a_siem_gets_it():
    """Class, activity, type and status by their numbers; the account as a keyed hash; what is ours under `unmapped`."""
    detail = (("factor", "pin"), ("lane", "pool"))
    one = link(9, "0" * 64, Entry(1_795_813_101_680, "authn_login_fail", "CA1", "acc_x", "wrong", detail))
    event = json.loads(ocsf.entry_line("e6", "0" * 64, one))
    numbers = ("category_uid", "class_uid", "activity_id", "type_uid", "severity_id", "status_id", "time")
    assert [event[name] for name in numbers] == [3, 3002, 1, 300201, 3, 2, 1_795_813_101_680]
    assert event["status_detail"] == "wrong"
    assert event["user"] == {"uid": "acc_x", "type_id": 1, "type": "User"}
    assert event["session"] == {"uid": "CA1"}
    assert (event["metadata"]["uid"], event["metadata"]["sequence"]) == ("e6:9", 9)
    assert event["unmapped"] == {
        "chain": "e6",
        "hash": one.hash,
        "previous_hash": "0" * 64,
        "call": "CA1",
        "account": "acc_x",
        "detail": {"factor": "pin", "lane": "pool"},
    }


def test_what_a_person_did_names_the_person():
    """An unlock, a desk that was given a key: who did it is the actor, what it was done to is user or entity."""
    unlock = Entry(1_795_813_101_680, "authn_login_unlock", "", "acc_x", "unlocked", (("by", "ann"),))
    desk = Entry(1_795_813_101_680, "desk_created", reason="added", detail=(("desk", "front"),))
    first, second = (
        json.loads(ocsf.entry_line("e6", "0" * 64, link(1, "0" * 64, one))) for one in (unlock, desk)
    )
    assert (first["actor"], first["type_uid"]) == ({"user": {"name": "ann"}}, 300112)
    assert (second["entity"], second["type_uid"]) == ({"type": "desk", "name": "front"}, 300401)
