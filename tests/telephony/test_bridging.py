"""A `<Dial>` as the guard carries it out, and what it does not; what a conference's callback says."""

from dataclasses import replace

import pytest

from ivrguard.telephony import bridging
from ivrguard.telephony.bridging import Dialling, RoomEvent, Unfit
from ivrguard.telephony.delivery import Malformed

BASE = "https://ivr.example/a/voice?x=1"
PLAIN = Dialling(
    "number", "+15550001111", 30, "", "", "POST", "", "POST", None, hangup_on_star=False, record=False
)
NUMBER = "+15550001111"


def dialling(verb: str):
    return bridging.dialling(f"<Response>{verb}<Say>after</Say></Response>".encode(), BASE)


@pytest.mark.parametrize(
    ("verb", "found"),
    [
        (f"<Dial>{NUMBER}</Dial>", PLAIN),
        ("<Dial> +1 (555) 000-1111 </Dial>", PLAIN),
        (f"<Dial><Number>{NUMBER}</Number></Dial>", PLAIN),
        (
            f"<Dial action=' next '><Number>{NUMBER}</Number></Dial>",
            replace(PLAIN, action="https://ivr.example/a/next"),
        ),
        (
            f"<Dial action='/n' method='get'>{NUMBER}</Dial>",
            replace(PLAIN, action="https://ivr.example/n", method="GET"),
        ),
        (f"<Dial action='' statusCallbackMethod='POST'>{NUMBER}</Dial>", PLAIN),
        (f"<Dial timeout='7'>{NUMBER}</Dial>", replace(PLAIN, ring_s=7)),
        (f"<Dial timeout='1'>{NUMBER}</Dial>", replace(PLAIN, ring_s=5)),
        (f"<Dial timeout='9999'>{NUMBER}</Dial>", replace(PLAIN, ring_s=600)),
        (f"<Dial timeout='soon'>{NUMBER}</Dial>", PLAIN),
        (f"<Dial callerId='+1'>{NUMBER}</Dial>", replace(PLAIN, caller_id="+1")),
        (
            f"<Dial timeLimit='60' hangupOnStar='true'>{NUMBER}</Dial>",
            replace(PLAIN, time_limit_s=60, hangup_on_star=True),
        ),
        (f"<Dial record='record-from-ringing'>{NUMBER}</Dial>", replace(PLAIN, record=True)),
        (f"<Dial record='do-not-record'>{NUMBER}</Dial>", PLAIN),
        (
            f"<Dial><Number url='w' method='GET'>{NUMBER}</Number></Dial>",
            replace(PLAIN, whisper="https://ivr.example/a/w", whisper_method="GET"),
        ),
        ("<Dial><Client>ann</Client></Dial>", replace(PLAIN, kind="client", to="client:ann")),
        (
            "<Dial><Client><Identity>ann</Identity><Parameter name='a b' value='1&amp;2'/></Client></Dial>",
            replace(PLAIN, kind="client", to="client:ann?a+b=1%262"),
        ),
        ("<Dial><Sip>sip:a@b</Sip></Dial>", replace(PLAIN, kind="sip", to="sip:a@b")),
        (
            "<Dial><Sip username='u' password='p'><Uri>sip:a@b?x=1</Uri><Headers><Header name='X-A' value='2'/></Headers></Sip></Dial>",
            replace(PLAIN, kind="sip", to="sip:a@b?x=1&X-A=2", user="u", password="p"),
        ),
    ],
)
def test_what_a_dial_comes_to(verb, found):
    assert dialling(verb) == found


@pytest.mark.parametrize(
    ("verb", "why"),
    [
        ("<Enqueue>support</Enqueue>", "Enqueue"),
        ("<Dial><Conference>room</Conference></Dial>", "Dial>Conference"),
        ("<Dial><Queue>q</Queue></Dial>", "Dial>Queue"),
        ("<Dial><Number>+1</Number><Number>+2</Number></Dial>", "Dial>Number"),
        ("<Dial referUrl='/r'>+1</Dial>", "Dial@referUrl"),
        ("<Dial recordingStatusCallback='/r'>+1</Dial>", "Dial@recordingStatusCallback"),
        ("<Dial><Number machineDetection='Enable'>+1</Number></Dial>", "Number@machineDetection"),
        ("<Dial><Sip statusCallback='/s'>sip:a@b</Sip></Dial>", "Sip@statusCallback"),
        ("<Dial></Dial>", "Dial"),
        ("<Dial>front desk</Dial>", "Dial"),
        ("<Dial><Client></Client></Dial>", "Dial"),
    ],
)
def test_what_cannot_be_carried_out_names_what_it_is(verb, why):
    assert dialling(verb) == Unfit(why)


def test_a_parameter_more():
    assert bridging.addressed("client:ann", "t", "1") == "client:ann?t=1"
    assert bridging.addressed("client:ann?a=1", "t", "x y") == "client:ann?a=1&t=x+y"


def test_secrets_do_not_show():
    shown = repr(replace(PLAIN, user="the-user", password="the-password", action="/secret"))
    assert not any(each in shown for each in ("the-user", "the-password", "/secret"))


CF, CA = "CF" + "1" * 32, "CA" + "2" * 32


def test_what_a_conference_says():
    params = (
        ("AccountSid", "AC1"),
        ("StatusCallbackEvent", "participant-join"),
        ("ConferenceSid", CF),
        ("CallSid", CA),
        ("Muted", "false"),
    )
    assert bridging.room_event(params) == RoomEvent("AC1", "participant-join", CF, CA)
    assert bridging.room_event(()) == RoomEvent("", "", "", "")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ((("AccountSid", "AC1"), ("AccountSid", "AC2")), "form.many"),
        ((("ConferenceSid", "../Calls"),), "call_sid.shape"),
        ((("CallSid", CF),), "call_sid.shape"),
    ],
)
def test_what_is_of_another_shape_is_refused(params, reason):
    with pytest.raises(Malformed) as refused:
        bridging.room_event(params)
    assert refused.value.reason == reason
