"""What a request to Twilio's REST API is about, and what of its form means what: as tables. The door itself: tests/web."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.rules import Target
from ivrguard.telephony import rest
from ivrguard.telephony.links import Kind, Links
from ivrguard.telephony.rest import (
    Unfit,
    What,
    asked,
    carrier_of,
    carrying,
    leads,
    rewritten,
    target_of,
    well_formed,
)

AC, CA, CF = "AC" + "5e" * 16, "CA" + "0a" * 16, "CF" + "0b" * 16
BASE = f"/2010-04-01/Accounts/{AC}"
LINKS = Links("https://guard.example", "https://ivr.example/voice", ("wss://media.example",), b"k" * 32)
X = "https://ivr.example/x?a=1"


@pytest.mark.parametrize(
    ("method", "below", "what"),
    [
        ("GET", "/Calls.json?PageSize=1", What.READ),
        ("HEAD", "/Recordings/RE1.mp3", What.READ),
        ("GET", "/Calls", What.READ),
        ("POST", "/Calls.json", What.CREATE),
        ("POST", f"/Calls/{CA}.json", What.UPDATE),
        ("DELETE", f"/Calls/{CA}.json", What.OTHER),
        ("POST", f"/Calls/{CA}/Recordings/RE1.json", What.PART_OF_CALL),
        ("DELETE", f"/Calls/{CA}/Recordings/RE1.json", What.OTHER),
        ("POST", f"/Conferences/{CF}.json", What.CONFERENCE),
        ("POST", "/Conferences/My%20room/Participants.json", What.JOIN),
        ("POST", f"/Conferences/{CF}/Participants/{CA}.json", What.PARTICIPANT),
        ("DELETE", f"/Conferences/{CF}/Participants/{CA}.json", What.OTHER),
        ("POST", f"/Conferences/{CF}/Recordings/RE1.json", What.OTHER),
        ("POST", "/Queues.json", What.OTHER),
        ("DELETE", "/Queues/QU1.json", What.OTHER),
        ("POST", f"/Queues/QU1/Members/{CA}.json", What.MEMBER),
        ("POST", "/Messages.json", What.OTHER),
        ("DELETE", "/Messages/MM1/Media/ME1.json", What.OTHER),
    ],
)
def test_what_a_request_is_about(method, below, what):
    found = asked(method, BASE + below)
    assert (found.what, found.account_sid, found.target) == (what, AC, BASE + below)


@pytest.mark.parametrize(
    ("method", "below", "status", "reason"),
    [
        ("PATCH", "/Calls.json", 405, "method"),
        ("GET", "", 404, "path"),
        ("GET", "/" + "x" * 5_000, 404, "path"),
        ("POST", f"/Calls/{CA}", 404, "path"),
        ("POST", f"/Calls/{CA}.xml", 404, "path"),
        ("POST", f"/Calls/{CA};x=1.json", 404, "path"),
        ("POST", "/Calls/CA1.json", 404, "path"),
        ("DELETE", "/Calls.json", 404, "path"),
        ("POST", "/Conferences.json", 404, "path"),
        ("POST", "/Conferences/a%2Fb/Participants.json", 404, "path"),
        ("POST", "/Conferences/%ff/Participants.json", 404, "path"),
        ("POST", "/Conferences/%252e/Participants.json", 404, "path"),
        ("POST", "/Conferences/%g1/Participants.json", 404, "path"),
        ("GET", "/Calls/./x.json", 404, "path"),
        ("GET", "/Calls//x.json", 404, "path"),
        ("POST", "/Queues/QU1/Members/Front.json", 403, "member"),
        ("POST", "/Keys.json", 403, "resource"),
        ("GET", "/Keys.json", 403, "resource"),
        ("POST", "/IncomingPhoneNumbers.json", 403, "resource"),
        ("GET", "/Calls.json?a=1&_method=POST", 400, "override"),
        ("GET", "/Calls.json?X-HTTP-Method-Override=POST", 400, "override"),
        ("POST", f"/Calls/{CA}.json?Url=x", 400, "query"),
    ],
)
def test_what_is_not_offered(method, below, status, reason):
    with pytest.raises(Unfit) as unfit:
        asked(method, BASE + below)
    assert (unfit.value.status, unfit.value.reason) == (status, reason)
    body = json.loads(unfit.value.body())
    assert set(body) == {"code", "message", "more_info", "status"}
    assert body["more_info"].endswith(str(body["code"]))


@given(st.text(alphabet="/.%2eEfF;CalsAJon", max_size=40))
def test_a_path_is_written_anew_from_what_was_read(below):
    """So Twilio reads what was judged: no part of what goes out needs a second reading."""
    try:
        found = asked("GET", f"{BASE}/Calls/{below}")
    except Unfit:
        return
    assert found.parts[0] == "Calls"
    tail = found.target.removeprefix(f"{BASE}/")
    assert ";" not in tail
    assert not {"", ".", ".."} & set(tail.split("/"))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ((("Url", X), ("Url", X)), "twice"),
        ((("url", X),), "spelling"),
        ((("METHOD", "GET"),), "override"),
        (((" Twiml", "x"),), "spelling"),
        ((("X-HTTP-Method-Override", "PUT"),), "override"),
        ((("_method", "PUT"),), "override"),
    ],
)
def test_a_form_has_one_reading(form, reason):
    with pytest.raises(Unfit) as unfit:
        well_formed(form)
    assert unfit.value.reason == reason


def test_what_is_acted_on_is_taken_out():
    form = (("Url", X), ("StatusCallbackEvent", "a"), ("StatusCallbackEvent", "b"), ("To", "x"))
    assert well_formed(form) == {"Url": X, "To": "x"}


@pytest.mark.parametrize(
    ("what", "name", "use", "method"),
    [
        *((What.CREATE, name, "tp", name.replace("Url", "Method")) for name in ("Url", "FallbackUrl")),
        *(
            (What.CREATE, name, "sp", name + "Method")
            for name in ("StatusCallback", "RecordingStatusCallback", "AsyncAmdStatusCallback")
        ),
        (What.UPDATE, "Url", "tp", "Method"),
        (What.UPDATE, "FallbackUrl", "tp", "FallbackMethod"),
        (What.UPDATE, "StatusCallback", "sp", "StatusCallbackMethod"),
        (What.MEMBER, "Url", "tp", "Method"),
        (What.CONFERENCE, "AnnounceUrl", "qp", "AnnounceMethod"),
        (What.JOIN, "WaitUrl", "qp", "WaitMethod"),
        (What.JOIN, "StatusCallback", "sp", "StatusCallbackMethod"),
        (What.JOIN, "ConferenceStatusCallback", "sp", "ConferenceStatusCallbackMethod"),
        (What.JOIN, "ConferenceRecordingStatusCallback", "sp", "ConferenceRecordingStatusCallbackMethod"),
        (What.JOIN, "RecordingStatusCallback", "sp", "RecordingStatusCallbackMethod"),
        (What.JOIN, "AmdStatusCallback", "sp", "AmdStatusCallbackMethod"),
        (What.PARTICIPANT, "HoldUrl", "qg", "HoldMethod"),
        (What.PARTICIPANT, "AnnounceUrl", "qp", "AnnounceMethod"),
        (What.PARTICIPANT, "WaitUrl", "qp", "WaitMethod"),
        (What.PART_OF_CALL, "StatusCallback", "sp", "StatusCallbackMethod"),
        (What.PART_OF_CALL, "StatusCallbackUrl", "sp", "StatusCallbackMethod"),
        (What.PART_OF_CALL, "RecordingStatusCallback", "sp", "RecordingStatusCallbackMethod"),
    ],
)
def test_every_url_leads_back(what, name, use, method):
    """With its kind, and the method that Twilio would take; the guard is asked by POST."""
    written = dict(rewritten(what, ((name, X), ("Other", "a//b")), LINKS, turn=4))
    assert written[name].startswith(f"https://guard.example/x?a=1&_ivrguard={use}.4.")
    assert written == {name: written[name], method: "POST", "Other": "a//b"}
    asked_for = dict(rewritten(what, ((name, X), (method, "get")), LINKS, turn=4))
    assert f"_ivrguard={use[0]}g." in asked_for[name]
    assert leads(what, ((name, "x"),))
    assert not leads(what, ((name, " "), ("Status", "completed")))


def test_a_callees_leg_is_led_to_whispers():
    written = dict(rewritten(What.UPDATE, (("Url", X), ("FallbackUrl", X)), LINKS, turn=1, leg=Kind.W))
    assert all("_ivrguard=wp." in written[name] for name in ("Url", "FallbackUrl"))


def test_two_urls_may_share_a_method():
    form = (("StatusCallback", X), ("StatusCallbackUrl", X), ("StatusCallbackMethod", "GET"))
    written = rewritten(What.PART_OF_CALL, form, LINKS, turn=1)
    assert [name for name, _ in written] == ["StatusCallback", "StatusCallbackMethod", "StatusCallbackUrl"]


@pytest.mark.parametrize(
    ("what", "name", "value", "reason"),
    [
        (What.UPDATE, "Url", "https://elsewhere.example/", "link.origin"),
        (What.UPDATE, "Url", "ivr.example/x", "url"),
        (What.UPDATE, "Url", "https://ivr.example/%2e%2e/x", "link.path"),
        (What.UPDATE, "StatusCallback", "ftp://ivr.example/x", "url"),
        (What.UPDATE, "NextUrl", X, "link.unknown"),
        (What.JOIN, "Url", X, "link.unknown"),
        (What.JOIN, "NewCallback", "https://elsewhere.example/", "link.origin"),
        (What.UPDATE, "Url", "wss://media.example/", "url"),
        (What.UPDATE, "Stream", "wss://media.example/", "link.unknown"),
        (What.PART_OF_CALL, "Url", "wss://elsewhere.example/", "link.origin"),
        (What.JOIN, "Twiml", "<Response/>", "twiml.here"),
    ],
)
def test_what_leads_elsewhere_is_refused(what, name, value, reason):
    with pytest.raises(Unfit) as unfit:
        rewritten(what, ((name, value),), LINKS, turn=1)
    assert unfit.value.reason == reason


def test_what_nobody_knows_yet():
    """A callback is a notice, a listed socket may be streamed to."""
    form = (("NewCallback", X), ("Url", "wss://media.example/s"))
    written = dict(rewritten(What.PART_OF_CALL, form, LINKS, turn=1))
    assert "_ivrguard=sp." in written["NewCallback"]
    assert written["Url"] == "wss://media.example/s"


@pytest.mark.parametrize(
    ("to", "target", "carrier"),
    [
        ("+1 800 555 0142", "number:+18005550142", "call"),
        ("18005550142", "number:18005550142", "call"),
        ("client:ada?x=1", "client:ada", "parameter"),
        ("CLIENT:ada", "client:ada", "parameter"),
        ("app:AP1?x=1", "application:AP1", "parameter"),
        ("sip:desk@PBX.example?X-A=1", "sip:sip:desk@pbx.example", "sip"),
        ("SIPS:desk@pbx.example", "sip:sips:desk@pbx.example", "sip"),
        ("whatsapp:+18005550142", "whatsapp:+18005550142", "call"),
        ("sim:DE1", "unknown:sim:DE1", "call"),
        ("", "unknown:", "call"),
    ],
)
def test_who_is_dialled(to, target, carrier):
    assert str(target_of(to)) == target
    assert carrier_of(target_of(to)) == carrier


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("client:ada", "client:ada?ivrguard_token=T"),
        ("client:ada?x=1&ivrguard_token=old", "client:ada?x=1&ivrguard_token=T"),
        ("sip:desk@pbx.example?X-A=1", "sip:desk@pbx.example?X-A=1&X-Ivrguard-Token=T"),
        ("+18005550142", "+18005550142"),
    ],
)
def test_how_a_token_travels(to, written):
    assert carrying(to, target_of(to), "T") == written


def test_a_sip_address_without_room():
    to = f"sip:{'d' * 240}@pbx.example"
    with pytest.raises(Unfit, match=r"sip.length"):
        carrying(to, Target("sip", to), "T")


def test_codes_are_twilios_where_it_has_one():
    assert (rest.NOT_AUTHENTICATED, rest.NOT_FOUND, rest.TWIML_LONG) == (20003, 20404, 32018)
