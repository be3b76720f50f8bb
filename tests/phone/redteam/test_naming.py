"""Attacks that only listen: other words, other times and leaks are caught."""

from dataclasses import replace
from urllib.parse import urlencode

import pytest

from ivrguard.core import step as steps
from ivrguard.core.audit import Entry
from ivrguard.factors.pin import PinJudge
from ivrguard.guard import webhook
from ivrguard.ports import Wrong


def with_other_words_for_strangers(patch):
    """Whoever claims an account that nobody has is told so."""
    missed = steps._missed

    def honest(flow, call, books, again, preface, now_ms, entries=()):
        return missed(flow, call, books, again, preface if call.known else "mistyped", now_ms, entries)

    patch.setattr(steps, "_missed", honest)


def with_words_about_locks(patch):
    """Whoever is locked out is refused at once."""
    missed = steps._missed

    def honest(flow, call, books, again, preface, now_ms, entries=()):
        misses = flow.tries if call.locked_out else call.misses
        return missed(flow, replace(call, misses=misses), books, again, preface, now_ms, entries)

    patch.setattr(steps, "_missed", honest)


def without_the_decoy(patch):
    """Where there is nothing to compare with, no hash is worked out."""
    from ivrguard.factors import pin

    patch.setattr(pin, "MEMORY_KIB", 19_456)
    patch.setattr(pin, "PASSES", 3)
    judge = PinJudge.judge

    async def hasty(self, credential, digits, challenge, now_ms):
        return Wrong() if credential is None else await judge(self, credential, digits, challenge, now_ms)

    patch.setattr(PinJudge, "judge", hasty)


def with_digits_in_urls(patch):
    """The next question's URL holds what was keyed at the last one."""
    url, judge, keyed = webhook.Webhook._url, webhook.Webhook._judge, ["0"]

    async def judged(self, move):
        keyed.append(self._digits)
        return await judge(self, move)

    patch.setattr(webhook.Webhook, "_judge", judged)
    patch.setattr(webhook.Webhook, "_url", lambda self, path: f"{url(self, path)}?{keyed[-1]}")


def with_digits_on_record(patch):
    """What was keyed is written down."""
    change = webhook.Webhook._change

    def noted(self, step, *more, **told):
        entry = Entry(self._call.began_ms, "note", self._call.sid, "", self._digits)
        return change(self, replace(step, entries=(*step.entries, entry)), *more, **told)

    patch.setattr(webhook.Webhook, "_change", noted)


def with_digits_passed_on(patch):
    """What was keyed for the guard goes on to the IVR with the request that was held up."""
    unseal = webhook.Webhook._unseal_request

    def leaking(self, held):
        request = unseal(self, held)
        params = (*request.params, ("Digits", self._digits))
        return replace(request, params=params, body=urlencode(params).encode())

    patch.setattr(webhook.Webhook, "_unseal_request", leaking)


GUARDS = [
    (
        with_other_words_for_strangers,
        "tell-accounts-apart",
        "a caller who claims an account that is unknown hears other words",
    ),
    (
        with_words_about_locks,
        "tell-accounts-apart",
        "a caller who claims an account that is locked hears other words",
    ),
    (without_the_decoy, "tell-accounts-apart", "a guess at an account that is unknown costs"),
    (with_digits_in_urls, "find-secrets", "a secret that was keyed stands in a URL"),
    (with_digits_on_record, "find-secrets", "a secret that was keyed stands in the record"),
    (with_digits_passed_on, "find-secrets", "what was keyed at the guard's questions reached the IVR"),
]


@pytest.mark.parametrize(("weaken", "attack", "says"), GUARDS, ids=lambda one: getattr(one, "__name__", one))
async def test_a_weakened_guard_is_caught(monkeypatch, catches, weaken, attack, says):
    weaken(monkeypatch)
    await catches(attack, says)
