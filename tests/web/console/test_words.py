"""The catalogue: each state, kind and risk has its words, and what is read out to a caller teaches nothing."""

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.caller import attestation_notes
from ivrguard.core.standing import Status
from ivrguard.web.console import words

EVERY = [*words.STATUS.values(), words.BEYOND, words.NO_CALL, words.NO_GUARD]


def test_nothing_is_without_words():
    assert set(words.STATUS) == set(Status)
    assert set(words.PROVED) == set(words.ASKED_FOR) == set(Kind)
    notes = {
        note
        for verstat in ("Failed-A", "Passed-C", "Passed-A-Diverted")
        for note in attestation_notes(f"TN-Validation-{verstat}")
    }
    assert set(words.RISKS) >= notes
    assert len(notes) == 3


@pytest.mark.parametrize("said", EVERY, ids=lambda one: one.why[:30])
def test_every_state_says_why_what_to_do_and_what_to_say(said):
    """And to the caller nothing of a lock, of what was wrong, or of whether there is such an account (PSD2 RTS, article 4)."""
    assert all((said.word, said.why, said.todo, said.say))
    told = said.say.lower()
    assert [
        each
        for each in ("lock", "wrong", "attempt", "not match", "no such", "does not exist")
        if each in told
    ] == []


def test_one_word_means_one_thing():
    """But "not verified", which is the answer to everything that is not known."""
    names = [said.word for said in words.STATUS.values()]
    assert len(names) == len(set(names))
    assert words.NO_CALL.word == words.NO_GUARD.word == words.STATUS[Status.NOT_VERIFIED].word
