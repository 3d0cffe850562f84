# SPDX-License-Identifier: BSD-2-Clause
"""`ProgramCache`: bounded, shared by processes, and never raising."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from hvkit.qmp import program_cache
from hvkit.qmp.program_cache import ProgramCache, ProgramIdentity, read_identity


def identity(number: int = 0) -> ProgramIdentity:
    return ProgramIdentity(path=f"/usr/bin/qemu-{number}", size=1, mtime_ns=2, inode=3)


def test_read_returns_results_for_the_same_file_only(tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path / "cache", "answers", 1)
    assert cache.read(identity()) is None
    cache.write(identity(), b"1\n2\0")
    assert cache.read(identity()) == b"1\n2\0"
    for changed in ({"size": 5}, {"mtime_ns": 5}, {"inode": 5}, {"path": "/usr/bin/other"}):
        assert cache.read(attrs.evolve(identity(), **changed)) is None


def test_read_separates_kinds_and_versions(tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path, "answers", 1)
    cache.write(identity(), b"mine")
    assert ProgramCache(tmp_path, "answers", 2).read(identity()) is None
    other = ProgramCache(tmp_path, "other", 1)
    assert other.read(identity()) is None
    other.write(identity(), b"theirs")
    assert cache.read(identity()) == b"mine"


def test_write_for_an_upgraded_program_replaces_the_entry(tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path, "answers", 1)
    for inode in range(5):
        cache.write(attrs.evolve(identity(), inode=inode), b"answers")
    assert len(list(tmp_path.iterdir())) == 1


def test_write_beyond_the_maximum_removes_the_oldest_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_cache, "_MAX_ENTRIES", 3)
    cache, other = ProgramCache(tmp_path, "answers", 1), ProgramCache(tmp_path, "other", 1)
    other.write(identity(), b"other")
    for number in range(6):
        cache.write(identity(number), b"answers")
        for file in tmp_path.glob("answers-*"):  # pretend that the entry is one minute old
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 60 * 10**9))
    assert [number for number in range(6) if cache.read(identity(number))] == [3, 4, 5]
    assert other.read(identity()) == b"other"


def test_write_removes_abandoned_files_of_killed_writers(tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path, "answers", 1)
    cache.write(identity(), b"answers")
    (file,) = tmp_path.iterdir()
    recent, abandoned = tmp_path / f"{file.name}.recent", tmp_path / f"{file.name}.abandoned"
    recent.touch()
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    cache.write(identity(), b"answers")
    assert set(tmp_path.iterdir()) == {file, recent}


@pytest.mark.parametrize("size", [0, 10, 5 << 20], ids=["empty", "short", "huge"])
def test_read_of_damaged_entry_returns_none(tmp_path: Path, size: int) -> None:
    cache = ProgramCache(tmp_path, "answers", 1)
    cache.write(identity(), b"answers")
    (file,) = tmp_path.iterdir()
    file.write_bytes(os.urandom(size))
    assert cache.read(identity()) is None


def test_cache_in_an_unusable_directory_does_not_raise(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ProgramCache(tmp_path / "file", "answers", 1)
    cache.write(identity(), b"answers")
    assert cache.read(identity()) is None
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    cache.write(identity(), b"answers")
    (entry,) = (tmp_path / "file").iterdir()
    entry.unlink()
    entry.mkdir()
    cache.write(identity(), b"answers")
    assert cache.read(identity()) is None
    assert list((tmp_path / "file").iterdir()) == [entry], "no unfinished file must be left"


WRITER = """
import sys
from pathlib import Path
from hvkit.qmp.program_cache import ProgramCache, ProgramIdentity
cache = ProgramCache(Path(sys.argv[1]), "answers", 1)
identity = ProgramIdentity("/usr/bin/qemu-0", 1, 2, 3)
for number in range(100):
    cache.write(identity, sys.argv[2].encode() * 10000)
    body = cache.read(identity)
    if body is None or len(set(body)) != 1 or len(body) != 10000:
        sys.exit(f"torn: {body and body[:20]}")
"""


def test_read_while_other_processes_write_returns_complete_entries(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, letter], env=environment) for letter in "abcd"]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_read_identity_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "qemu"
    assert read_identity(str(file)) is None
    file.write_text("1")
    first = read_identity(str(file))
    assert first is not None
    assert first == read_identity(str(file))
    replacement = tmp_path / "new"
    replacement.write_text("2")
    os.utime(replacement, ns=(0, first.mtime_ns))
    replacement.rename(file)
    assert read_identity(str(file)) != first
