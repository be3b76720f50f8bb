"""Keys from the command line: made, rotated, counted; each rotation as an operator goes through it."""

import base64

import pytest

from ivrguard import settings
from ivrguard.factors.totp import TotpJudge
from ivrguard.keyring import Keyring
from ivrguard.ports import Account, Key

ACCOUNT, PIN = "123456789", "24681357"
KINDS = {"pepper": "PEPPERS", "sealing": "SEALING_KEYS", "naming": "NAMING_KEYS", "signing": "SIGNING_KEYS"}


def test_new_keys_are_what_the_settings_want(asked, shell):
    """Four variables, different each time; nothing else on either stream, so that a file can be made of it."""
    first, second = shell({}, "keys", "new"), asked({}, "keys", "new")
    env = dict(line.split("=", 1) for line in first.out.splitlines())
    assert (first.code, first.err) == (0, "")
    assert settings.load(env, None, needs=settings.KEYS)
    assert not set(first.out.splitlines()) & set(second.out.splitlines())


# ── rotate ───────────────────────────────────────────────────────────────────────────────────────────────


def rotated(env, asked, kind, *options):
    """The environment after a rotation, and what was told besides."""
    result = asked(env, "keys", "rotate", kind, *options)
    assert result.code == 0, result.err
    variable, _, value = result.out.strip().partition("=")
    assert variable == f"IVRGUARD_{KINDS[kind]}"
    assert "=" in value
    secret = value.split(";")[0].partition("=")[2]
    assert secret not in result.err
    return {**env, variable: value}, result.err


def ids(env, kind):
    return [entry.partition("=")[0] for entry in env[f"IVRGUARD_{KINDS[kind]}"].split(";")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_key_comes_in_front_and_the_old_ones_are_read_on(keys, asked, kind):
    """The new value of the variable; what changes, and when the old one may go."""
    env, told = rotated(keys, asked, kind)
    assert len(ids(env, kind)) == 2
    assert env[f"IVRGUARD_{KINDS[kind]}"].endswith(keys[f"IVRGUARD_{KINDS[kind]}"])
    assert settings.load(env, None, needs=settings.KEYS)
    assert ids(env, kind)[0] in told
    assert "may go" in told
    again, _ = rotated(env, asked, kind)
    assert len(ids(again, kind)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_several_nodes_know_a_key_before_one_of_them_uses_it(keys, asked, kind):
    """Behind first, so that each can read it; then in front. No key is made the second time."""
    env, told = rotated(keys, asked, kind, "--behind")
    assert ids(env, kind) == [*ids(keys, kind), ids(env, kind)[-1]]
    assert "none uses it yet" in told
    forward, _ = rotated(env, asked, kind, "--forward")
    assert ids(forward, kind) == ids(env, kind)[::-1]
    assert sorted(forward[f"IVRGUARD_{KINDS[kind]}"].split(";")) == sorted(
        env[f"IVRGUARD_{KINDS[kind]}"].split(";")
    )


def test_there_is_nothing_to_bring_forward(keys, asked, ends):
    for options in (["--forward"], ["--forward", "--behind"]):
        result = asked(keys, "keys", "rotate", "pepper", *options)
        ends(result, 1, "", "--forward needs a key that was put --behind, in a start of its own\n")


def test_a_value_for_a_file_stands_alone(keys, asked, tmp_path):
    """As `_FILE` variables name it."""
    (tmp_path / "peppers").write_text(keys["IVRGUARD_PEPPERS"])
    env = {"IVRGUARD_PEPPERS_FILE": str(tmp_path / "peppers")}
    result = asked(env, "keys", "rotate", "pepper", "--value")
    (tmp_path / "peppers").write_text(result.out)
    assert ids({"IVRGUARD_PEPPERS": result.out.strip()}, "pepper") == ["p2", "p1"]
    assert settings.load(env, None, needs=frozenset({"peppers"}))


def test_a_key_that_is_not_there_cannot_be_rotated(asked):
    result = asked({}, "keys", "rotate", "pepper")
    assert (result.code, result.out) == (1, "")
    assert "IVRGUARD_PEPPERS: not set" in result.err
    assert asked({}, "keys", "rotate", "salt").code == 2


# ── what needs which ─────────────────────────────────────────────────────────────────────────────────────


def status(env, asked, code=0):
    result = asked(env, "keys", "status")
    assert (result.code, result.err) == (code, "")
    return dict(line.split(": ", 1) for line in result.out.splitlines())


def ring(env):
    of = settings.load(env, None, needs=settings.KEYS)
    return Keyring(
        sealing=of.sealing_keys, peppers=of.peppers, naming=of.naming_keys, signing=of.signing_keys
    )


@pytest.fixture
def with_app(store):
    """The store, and another account with an app."""
    store.put(Key("account", "77"), Account("77", credentials=(TotpJudge(ring(store.env)).enrol("A" * 32),)))
    return store


def test_a_rotation_of_every_key_from_its_beginning_to_its_end(with_app, asked):
    """What is counted under the old keys moves, or is waited for; then they go, and nothing is missing."""
    env = with_app.env
    assert asked(env, "audit", "checkpoint").code == 0
    assert status(env, asked) == {
        "pepper p1 (in use)": "1 PINs and passwords",
        "sealing k1 (in use)": "1 authenticator apps",
        "naming n1 (in use)": "3 calls of the last day",
        "signing s1 (in use)": "1 checkpoints",
    }
    for kind in KINDS:
        env, _ = rotated(env, asked, kind)
    counted = status(env, asked)
    assert (counted["pepper p2 (in use)"], counted["pepper p1"]) == (
        "0 PINs and passwords",
        "1 PINs and passwords",
    )
    assert (counted["sealing k2 (in use)"], counted["sealing k1"]) == (
        "0 authenticator apps",
        "1 authenticator apps",
    )
    resealed = asked(env, "keys", "reseal")
    assert (resealed.code, resealed.out) == (0, "1 secrets are under the current sealing key now\n")
    assert status(env, asked)["sealing k2 (in use)"] == "1 authenticator apps"
    public = asked(env, "keys", "public").out.strip().partition("=")[2]
    env = {
        **env,
        "IVRGUARD_PUBLIC_KEYS": public,
        "IVRGUARD_SEALING_KEYS": env["IVRGUARD_SEALING_KEYS"].split(";")[0],
        "IVRGUARD_SIGNING_KEYS": env["IVRGUARD_SIGNING_KEYS"].split(";")[0],
    }
    counted = status(env, asked)
    assert (counted["signing s1 (gone)"], "sealing k1 (gone)" in counted) == ("1 checkpoints", False)
    verified = asked(env, "audit", "verify")
    assert (verified.code, "checkpoints that fit: 1" in verified.out) == (0, True)


def test_a_key_that_went_too_early_is_named(with_app, asked):
    """1, and what needs it."""
    gone = {**with_app.env}
    for kind in ("pepper", "sealing"):
        gone, _ = rotated(gone, asked, kind)
        variable = f"IVRGUARD_{KINDS[kind]}"
        gone[variable] = gone[variable].split(";")[0]
    counted = status(gone, asked, code=1)
    assert counted["pepper p1 (gone)"] == "1 PINs and passwords; it is not configured: bring it back"
    assert counted["sealing k1 (gone)"] == "1 authenticator apps; it is not configured: bring it back"
    result = asked(gone, "keys", "reseal")
    assert (result.code, result.out) == (1, "0 secrets are under the current sealing key now\n")
    assert result.err.startswith("1 cannot be opened: their sealing key is not configured")


def test_public_keys_hold_no_secret(keys, asked):
    """What is printed is a setting, of as many keys as sign, and none of it signs."""
    env, _ = rotated(keys, asked, "signing")
    printed = asked(env, "keys", "public").out.strip()
    assert printed.startswith("IVRGUARD_PUBLIC_KEYS=s2=")
    of = settings.load({**env, **dict([printed.split("=", 1)])}, None, needs=settings.KEYS)
    assert [*of.public_keys] == ["s2", "s1"]
    assert not set(of.public_keys.values()) & set(of.signing_keys.values())
    assert not any(base64.b64encode(key).decode() in printed for key in of.signing_keys.values())
