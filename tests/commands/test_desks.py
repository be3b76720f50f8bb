"""Agents' desks from the command line."""

import re

import pytest

from ivrguard.core.rules import TARGET_KINDS


def test_a_desk_from_its_beginning_to_its_end(store, asked, ends):
    """Its key is shown once; the list has none; a revoked desk stays listed."""
    env = store.env
    ends(asked(env, "desks", "list"), 0)
    key = asked(env, "desks", "add", "ann", "--queue", "workflow:*", "--queue", "client:ann").out.strip()
    assert re.fullmatch(r"[\w-]{43}", key)
    assert key.encode() not in store.path.read_bytes()
    ends(asked(env, "desks", "list"), 0, "ann: workflow:*, client:ann; in force\n")
    ends(asked(env, "desks", "revoke", "ann"), 0, "ann: 1 keys revoked\n")
    ends(asked(env, "desks", "revoke", "ann"), 0, "ann: 0 keys revoked\n")
    listed = asked(env, "desks", "list").out
    assert re.fullmatch(r"ann: workflow:\*, client:ann; revoked \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", listed)


@pytest.mark.parametrize(
    ("name", "queue", "words"),
    [
        ("", "queue:a", "a desk's name is made of"),
        ("an\nn", "queue:a", "a desk's name is made of"),
        (" ann", "queue:a", "a desk's name is made of"),
        ("agent:ann", "queue:a", "but no colon: people have one in theirs"),
        ("a" * 65, "queue:a", "a desk's name has at most 64 characters"),
        ("ann", "support", "--queue 'support': write kind:name, such as workflow:*"),
        ("ann", "workflw:*", "did you mean 'workflow'?"),
    ],
)
def test_what_a_desk_cannot_be(store, name, queue, words, asked, ends):
    """A queue that no transfer can have would never let anybody redeem."""
    result = asked(store.env, "desks", "add", name, "--queue", queue)
    assert (result.code, result.out) == (1, "")
    assert words in result.err
    ends(asked(store.env, "desks", "list"), 0)


def test_a_desk_may_serve_every_kind_of_target(store, asked):
    queues = [word for kind in TARGET_KINDS for word in ("--queue", f"{kind}:*")]
    assert asked(store.env, "desks", "add", "ann", *queues).code == 0
