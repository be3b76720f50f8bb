"""Where settings are read from, for names of a test's own; the settings that there are: test_init.py."""

from ivrguard.settings.sources import from_environment, from_file

NAMES = {"host": "IVRGUARD_HOST", "port": "PORT", "key": "IVRGUARD_KEY"}
SECRET = frozenset({"key"})


def test_the_environment_is_read_by_its_names(tmp_path):
    """What is empty is not set; what is another program's is left alone; what looks like ours and is not is a fault."""
    file = tmp_path / "key"
    file.write_text("from a file\n")
    environ = {
        "IVRGUARD_HOST": "h",
        "PORT": "",
        "PATH": "/bin",
        "IVRGUARD_KEY_FILE": str(file),
        "IVRGUARD_HOTS": "x",
        "IVRGUARD_HOST_FILE": "x",
    }
    assert list(from_environment(environ, NAMES, SECRET)) == [
        ("host", "IVRGUARD_HOST", "h", ""),
        ("", "IVRGUARD_HOST_FILE", "", "unknown variable; did you mean 'IVRGUARD_HOST'?"),
        ("", "IVRGUARD_HOTS", "", "unknown variable; did you mean 'IVRGUARD_HOST'?"),
        ("key", "IVRGUARD_KEY_FILE", "from a file", ""),
    ]
    [*_, doubled] = from_environment({"IVRGUARD_KEY": "a", "IVRGUARD_KEY_FILE": str(file)}, NAMES, SECRET)
    assert doubled[3] == "IVRGUARD_KEY is set too; take one of them out"


def test_the_file_is_read_line_by_line(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("host: h\nkey: canary\nprot: 1\nhost: i\nport:\n")
    found = list(from_file(path, NAMES, SECRET))
    assert found == [
        ("host", f"{path}:1: host", "h", ""),
        ("", f"{path}:2", "", "'key' is a secret; set IVRGUARD_KEY or IVRGUARD_KEY_FILE instead"),
        ("", f"{path}:3", "", "unknown key 'prot'; did you mean 'port'?"),
        ("", f"{path}:4", "", f"'host' stands twice, first at {path}:1; take one out"),
        ("port", f"{path}:5: port", "", "there is nothing behind it"),
    ]
    assert "canary" not in repr(found)


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    """An empty one is none, and nothing is in it."""
    [(name, place, text, fault)] = from_file(tmp_path / "none.yaml", NAMES, SECRET)
    assert (name, place, text) == ("", str(tmp_path / "none.yaml"), "")
    assert fault
    path = tmp_path / "settings.yaml"
    path.write_text("")
    assert list(from_file(path, NAMES, SECRET)) == []
    path.write_text("host:\n  a: b\n")
    [(name, place, text, fault)] = from_file(path, NAMES, SECRET)
    assert (name, text) == ("", "")
    assert place.startswith(f"{path}:")
    assert fault
