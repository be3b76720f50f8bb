"""Keys from the command line."""

from ivrguard import settings


def test_new_keys_are_what_the_settings_want(asked, shell):
    """Four variables, different each time; nothing else on either stream, so that a file can be made of it."""
    first, second = shell({}, "keys", "new"), asked({}, "keys", "new")
    env = dict(line.split("=", 1) for line in first.out.splitlines())
    assert (first.code, first.err) == (0, "")
    assert settings.load(env, None, needs=settings.KEYS)
    assert not set(first.out.splitlines()) & set(second.out.splitlines())
