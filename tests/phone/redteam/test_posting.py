"""Attacks by webhooks that Twilio did not send: each check that is taken out of the guard's door is missed."""

import pytest

from ivrguard.telephony import delivery
from ivrguard.telephony.signature import Verifier
from ivrguard.web import voice


def without_signatures(patch):
    """Anybody is Twilio."""
    patch.setattr(Verifier, "verify", lambda *_, **__: True)


def with_words_for_strangers(patch):
    """Who is not Twilio is told so."""
    real = voice.web.Response
    patch.setattr(
        voice.web,
        "Response",
        lambda **how: real(**(how | {"text": "signature"} if how.get("status") == 403 else how)),
    )


def with_doubled_parameters(patch):
    """The last of two wins."""
    patch.setattr(delivery, "_refuse_doubled", lambda *_: None)


def with_digits_of_any_alphabet(patch):
    """What Python calls a digit is one."""
    patch.setattr(delivery, "_ACTED_ON", ())
    read = delivery.read

    def lenient(params, *, accounts=None):
        params = [
            (name, "".join(str(int(c)) if c.isdigit() else c for c in value))
            if name == "Digits"
            else (name, value)
            for name, value in params
        ]
        return read(params, accounts=accounts)

    patch.setattr(delivery, "read", lenient)


GUARDS = [
    (without_signatures, "a webhook unsigned was taken for the caller's"),
    (
        without_signatures,
        "a webhook signed for https://other.example, which a header names was taken for the caller's",
    ),
    (with_words_for_strangers, "a webhook unsigned was answered 403 with 9 bytes"),
    (with_doubled_parameters, "a webhook with other digits before was taken for the caller's"),
    (with_digits_of_any_alphabet, "a webhook with digits in another alphabet was taken for the caller's"),
]


@pytest.mark.parametrize(("weaken", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, says):
    weaken(monkeypatch)
    await catches("forge-webhooks", says)
