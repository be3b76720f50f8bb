"""Archives that are whole or not there, and copies that know how far they got: on a real disk, full or taken away."""

import hashlib
import os
from pathlib import Path

import pytest

from ivrguard.core.errors import RecordFault
from ivrguard.exports import files, jsonl, ocsf
from ivrguard.exports.files import Archive, Copy, lines

POINT = jsonl.Checkpoint("e6", 7, "a" * 64, 1_795_813_101_000)


@pytest.fixture(params=[jsonl.entry_line, ocsf.entry_line], ids=["jsonl", "ocsf"])
def rendered(request, chain, chain_name):
    """The record's lines, in each format."""
    return [request.param(chain_name, *each) for each in chain]


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_is_there_when_it_is_finished_and_not_before(tmp_path):
    path = tmp_path / "a.jsonl"
    archive = Archive(path)
    archive.write(b"one\n")
    archive.write(b"two\n")
    assert not path.exists()
    assert archive.flush() == hashlib.sha256(b"one\ntwo\n").hexdigest()
    archive.finish()
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*lines(path)] == [(1, b"one\n"), (2, b"two\n")]
    archive.close()
    assert names(tmp_path) == ["a.jsonl"]


def test_what_was_not_finished_leaves_nothing(tmp_path):
    archive = Archive(tmp_path / "a.jsonl")
    archive.write(b"one\n")
    archive.close()
    assert names(tmp_path) == []


def test_no_archive_takes_the_place_of_another_file(tmp_path):
    """Of one that is there, and of one that came while it was written."""
    path = tmp_path / "a.jsonl"
    archive = Archive(path)
    path.write_text("another's")
    with pytest.raises(RecordFault, match="cannot be made: File exists"):
        archive.finish()
    with pytest.raises(RecordFault, match="there is such a file already"):
        Archive(path)
    assert (path.read_text(), names(tmp_path)) == ("another's", ["a.jsonl"])


def test_what_cannot_be_written_or_read_says_so(tmp_path, monkeypatch):
    """A folder that is not there; a disk that is full; a file that is gone."""
    with pytest.raises(RecordFault, match="cannot be made: No such file"):
        Archive(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(RecordFault, match="cannot be read: No such file"):
        [*lines(tmp_path / "gone")]
    archive = Archive(tmp_path / "a.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RecordFault, match="cannot be written: No space left on device"):
            archive.write(b"one\n")
        patch.setattr(os, "fsync", full)
        with pytest.raises(RecordFault, match="cannot be written: No space left on device"):
            archive.finish()
    archive.close()


def names(folder):
    return [path.name for path in folder.iterdir()]


def full(*_):
    raise OSError(28, "No space left on device")


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_knows_how_far_it_got(tmp_path, rendered, chain_name):
    """In either format; a checkpoint behind the last entry does not hide it; the file is its user's alone."""
    copy = Copy(tmp_path / "copy")
    copy.open()
    assert (copy.chain, copy.seq, copy.regular, copy.is_open) == ("", 0, True, True)
    copy.append(b"".join(rendered[:5]))
    copy.append(jsonl.checkpoint_line("a.b.c", POINT))
    copy.close()
    copy.close()
    again = Copy(tmp_path / "copy")
    again.open()
    assert (again.chain, again.seq) == (chain_name, 5)
    again.append(rendered[5])
    again.close()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert len([*lines(tmp_path / "copy")]) == 7


def test_half_a_line_is_taken_off(tmp_path, rendered):
    """What a crash, or a full disk, cut in two: wherever it was cut."""
    path = tmp_path / "copy"
    for cut in (1, 100, len(rendered[3]) - 1):
        path.write_bytes(b"".join(rendered[:3]) + rendered[3][:cut])
        copy = Copy(path)
        copy.open()
        assert copy.seq == 3
        copy.append(rendered[3])
        copy.close()
        assert path.read_bytes() == b"".join(rendered[:4])


def test_half_a_line_alone_is_an_empty_copy(tmp_path, rendered):
    (tmp_path / "copy").write_bytes(rendered[0][:50])
    copy = Copy(tmp_path / "copy")
    copy.open()
    assert (copy.chain, copy.seq, (tmp_path / "copy").read_bytes()) == ("", 0, b"")


def test_the_last_entry_is_found_behind_much_else(tmp_path, rendered, monkeypatch):
    """Only the end of a long copy is read."""
    monkeypatch.setattr(files, "TAIL_BYTES", len(rendered[4]) + 10)
    (tmp_path / "copy").write_bytes(b"".join(rendered[:5]))
    copy = Copy(tmp_path / "copy")
    copy.open()
    assert copy.seq == 5


def test_a_file_that_is_no_copy_is_left_alone(tmp_path):
    """Whoever names the wrong file does not get a record into it."""
    (tmp_path / "letter").write_text("Dear Sir\nor Madam\n")
    with pytest.raises(RecordFault, match="it is no copy of a record: name another file"):
        Copy(tmp_path / "letter").open()
    assert (tmp_path / "letter").read_text() == "Dear Sir\nor Madam\n"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path, rendered):
    """As logrotate does it: by another name, with a new file in its place or none."""
    path = tmp_path / "copy"
    copy = Copy(path)
    copy.open()
    for number in range(3):
        copy.append(rendered[number])
        path.rename(tmp_path / f"copy.{number}")
        if number == 1:
            path.touch()
    copy.append(rendered[3])
    assert [(tmp_path / f"copy.{number}").read_bytes() for number in range(3)] == rendered[:3]
    assert path.read_bytes() == rendered[3]


def test_a_pipe_is_no_file(tmp_path, rendered):
    """Nobody can say how far it got; it is written to all the same."""
    reader, writer = os.pipe()
    copy = Copy(Path(f"/dev/fd/{writer}"))
    copy.open()
    assert (copy.regular, copy.seq) == (False, 0)
    copy.append(rendered[0])
    assert os.read(reader, 100_000) == rendered[0]
    copy.close()
    os.close(reader)
    os.close(writer)


def test_after_a_fault_a_copy_is_opened_anew(tmp_path, rendered, monkeypatch):
    """And says how far it really got: here the disk is full in the middle of the third line."""
    copy = Copy(tmp_path / "copy")
    copy.open()
    copy.append(rendered[0])
    room, write = [len(rendered[1]) + 50], os.write

    def fills_up(fd, data):
        if not room[0]:
            full()
        count = write(fd, data[: room[0]])
        room[0] -= count
        return count

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fills_up)
        with pytest.raises(RecordFault, match="No space left"):
            copy.append(rendered[1] + rendered[2])
    assert not copy.is_open
    copy.open()
    assert (copy.seq, (tmp_path / "copy").read_bytes()) == (2, rendered[0] + rendered[1])


def test_a_copy_that_cannot_be_opened_says_so(tmp_path):
    copy = Copy(tmp_path / "nowhere" / "copy")
    with pytest.raises(RecordFault, match="cannot be written: No such file"):
        copy.open()
    assert not copy.is_open
