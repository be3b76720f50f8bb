"""`backup` and `restore`: a copy while the store is in use, and the way back, on record."""

from ivrguard.stores import sqlite


def test_a_store_goes_back_and_its_record_says_so(tmp_path, asked):
    """A copy, more work, the copy put back: the work is gone, the store before is aside, and the record names who did it."""
    path, copied = tmp_path / "ivrguard.db", tmp_path / "copy.db"
    env = {"IVRGUARD_STORE": f"sqlite:{path}"}
    sqlite.migrate(path)

    made = asked(env, "backup", copied)
    assert (made.code, made.err) == (0, "")
    assert "looked through" in made.out
    assert asked(env, "backup", copied).err.startswith("store: ")

    assert "--force moves it aside" in asked(env, "restore", copied).err
    done = asked(env, "restore", copied, "--by", "ann", "--reason", "disk lost", "--force")
    assert (done.code, done.err) == (0, "")
    assert "entry 1 says so" in done.out
    assert "the store before: " in done.out
    assert len(list(tmp_path.glob("ivrguard.db.replaced-*"))) == 1

    shown = asked(env, "audit", "show").out
    assert "store_restored" in shown
    assert "by=ann" in shown
    assert "because=disk lost" in shown
    assert asked(env, "audit", "verify", "--restored", "1").code == 0


def test_a_lost_store_is_put_back_without_force(tmp_path, asked):
    path, copied = tmp_path / "ivrguard.db", tmp_path / "copy.db"
    env = {"IVRGUARD_STORE": f"sqlite:{path}"}
    sqlite.migrate(path)
    assert asked(env, "backup", copied).code == 0
    path.unlink()

    done = asked(env, "restore", copied)

    assert (done.code, "the store before" in done.out) == (0, False)


def test_memory_has_no_file(asked, tmp_path):
    for words in (("backup", tmp_path / "copy.db"), ("restore", tmp_path / "copy.db")):
        result = asked({"IVRGUARD_STORE": "memory"}, *words)
        assert (result.code, "there is no file to copy" in result.err) == (1, True)
