"""Requests on their way to the IVR, and what its replies ask for."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.guard.requests import about, asked_for_more, packed, unpacked
from ivrguard.ports import Reply, Request
from ivrguard.telephony.links import Refused

TEXTS = st.text(max_size=20)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=4).map(tuple)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST"]),
    url=TEXTS,
    params=PAIRS,
    body=st.binary(max_size=40),
    content_type=TEXTS,
    headers=PAIRS,
)


@given(REQUESTS)
def test_what_is_held_up_goes_out_as_it_came(request):
    """Byte for byte, whatever is in it."""
    assert unpacked(packed(request)) == request


def test_what_is_refused_says_where_it_stood():
    """The path of the document, and nothing of its query."""
    with (
        pytest.raises(Refused, match=re.escape("link.origin: /menu evil.example")),
        about("https://ivr.example/menu?pin=1"),
    ):
        raise Refused("link.origin", "evil.example")


@pytest.mark.parametrize(
    ("challenge", "wanted"),
    [
        (
            'Bearer error="insufficient_user_authentication", acr_values="a b", max_age="300"',
            (("a", "b"), 300),
        ),
        ("bearer error=insufficient_user_authentication, acr_values=a, max_age=0", (("a",), 0)),
        ('Bearer realm="x", Error = "insufficient_user_authentication", ACR_Values="a"', (("a",), None)),
        ('Bearer error="insufficient_user_authentication"', ((), None)),
        ('Bearer error="insufficient_user_authentication", max_age="-1"', ((), None)),
        ('Bearer error="insufficient_user_authentication", max_age="٣"', ((), None)),
        (f'Bearer error="insufficient_user_authentication", max_age="{"9" * 5000}"', ((), None)),
        ('Bearer error="invalid_token", acr_values="a"', None),
        ('Basic error="insufficient_user_authentication"', None),
        ("Bearer", None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_challenge_asks_for(challenge: str | None, wanted: object, page: Callable[..., Reply]):
    """Quoted or not, in any case; what is no number is no age; everything else is a 401 like any."""
    assert wanted == asked_for_more(page(status=401, challenge=challenge))


def test_a_challenge_without_its_status_asks_for_nothing(page: Callable[..., Reply]):
    """Only a 401 is a challenge."""
    asks = 'Bearer error="insufficient_user_authentication", acr_values="two_factor"'
    assert asked_for_more(page(status=403, challenge=asks)) is None
