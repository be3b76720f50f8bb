"""Which legs of a call a document of the guard's may have dialled: as a table; what cannot be told is no alarm."""

from dataclasses import replace

import pytest

from ivrguard.core import bypass
from ivrguard.core.bypass import ANYBODY, BYPASSED_MAX, CONNECTED_MAX, accounted, led_to, told
from ivrguard.core.call import Call
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.rules import Target

CALL = Call("CA1", "AC1", "bank", "v1", ANONYMOUS, "+18005550100", attested=False, began_ms=0, connected=())


@pytest.mark.parametrize(
    ("leg", "known", "fine"),
    [
        (Target("number", "+18005550142"), "number:+18005550142", True),
        (Target("number", "+18005550142"), "number:8005550142", True),
        (Target("number", "+18005550142"), "number:5550142", True),
        (Target("number", "+18005550142"), "whatsapp:+18005550142", True),
        (Target("number", "+18005550142"), "number:50142", False),
        (Target("number", "911"), "number:911", True),
        (Target("number", "+18005550143"), "number:+18005550142", False),
        (Target("client", "ada"), "client:ada", True),
        (Target("client", "bob"), "client:ada", False),
        (Target("client", "8005550142"), "number:8005550142", False),
        (Target("sip", "sip:desk@pbx.example"), "sip:sip:desk@pbx.example", True),
        (Target("sip", "sip:desk@pbx.example"), "enqueue:support", False),
        (Target("number", "+18005550143"), "application:AP1", True),
        (Target("number", "+18005550143"), "sim:DE1", True),
        (Target("number", "+18005550143"), "unknown:Teleport", True),
        (Target("unknown", "sim:DE1"), "number:+18005550142", True),
    ],
)
def test_who_was_dialled_by_a_document(leg, known, fine):
    assert accounted(leg, ("conference:lobby", known)) is fine


def test_a_call_that_was_led_nowhere_dialled_nobody():
    """One that began before this was kept may have dialled anybody."""
    leg = Target("number", "+18005550143")
    assert not accounted(leg, CALL.connected)
    assert accounted(
        leg, Call("CA1", "AC1", "bank", "v1", ANONYMOUS, "", attested=False, began_ms=0).connected
    )


def test_whom_a_call_may_be_connected_with_adds_up():
    """Each once; of too many nothing is said any more."""
    call = replace(CALL, connected=led_to(CALL, ("number:1", "client:ada")))
    assert led_to(call, ("client:ada", "queue:q")) == ("number:1", "client:ada", "queue:q")
    assert led_to(call, map(str, range(CONNECTED_MAX))) == (ANYBODY,)


def test_a_leg_is_told_once():
    call = replace(CALL, bypassed=told(CALL, "CA2") or ())
    assert (call.bypassed, told(call, "CA2"), told(call, "CA3")) == (("CA2",), None, ("CA2", "CA3"))
    full = replace(CALL, bypassed=tuple(map(str, range(BYPASSED_MAX))))
    assert bypass.told(full, "CA2") is None
