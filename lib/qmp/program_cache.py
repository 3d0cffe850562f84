# SPDX-License-Identifier: BSD-2-Clause
"""Keep on disk what a program answered, for as long as its file is the same.

One file a program: a line that says what it is about, with a checksum, and the answers. Any number of processes may
read and write; who reads sees one whole entry or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import attrs

_log = logging.getLogger(__name__)

#: How many programs are remembered, of each kind of answers.
_MOST_PROGRAMS: Final = 64
#: More than any entry has.
_MOST_BYTES: Final = 4 << 20
#: When a file that a writer left unfinished is nobody's any more, in seconds.
_UNFINISHED_S: Final = 3600.0


@attrs.frozen
class ProgramIdentity:
    """What tells a program's file from what stood at its path before."""

    path: str
    size: int
    mtime_ns: int
    inode: int


def read_identity(path: str) -> ProgramIdentity | None:
    """Return what the file of a program is now, None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return ProgramIdentity(path, status.st_size, status.st_mtime_ns, status.st_ino)


class ProgramCache:
    """The answers of one kind that programs gave.

    It never fails: what cannot be read is not there, what cannot be written is done without.

    Args:
        directory: where the entries are; made where it is missing.
        kind: what the answers are about, part of the names of files. Several kinds may share a directory.
        version: another number where the meaning of the answers changes.
    """

    def __init__(self, directory: Path, kind: str, version: int) -> None:
        self._directory = directory
        self._kind = kind
        self._version = version

    def read(self, identity: ProgramIdentity) -> bytes | None:
        """Return the answers of a program; None where there are none, they are damaged, or about another file."""
        file = self._file(identity)
        try:
            with open(file, "rb") as opened:
                header, _, body = opened.read(_MOST_BYTES).partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.debug("ignoring %s: %s", file, error)
            return None
        if header != self._header(identity, body):
            _log.debug("ignoring %s: it is damaged or about another program", file)
            return None
        return body

    def write(self, identity: ProgramIdentity, body: bytes) -> None:
        """Keep the answers of a program, in the place of older ones."""
        file = self._file(identity)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=f"{file.name}.", delete=False) as opened:
                try:
                    opened.write(self._header(identity, body) + b"\n" + body)
                    opened.close()
                    os.replace(opened.name, file)
                except OSError:
                    os.unlink(opened.name)
                    raise
            self._make_room()
        except OSError as error:
            _log.debug("not kept: %s: %s", file, error)

    def _file(self, identity: ProgramIdentity) -> Path:
        return self._directory / f"{self._kind}-{hashlib.sha256(os.fsencode(identity.path)).hexdigest()[:16]}.json"

    def _header(self, identity: ProgramIdentity, body: bytes) -> bytes:
        header = {"format": self._version, **attrs.asdict(identity), "sha256": hashlib.sha256(body).hexdigest()}
        return json.dumps(header, separators=(",", ":")).encode()

    def _make_room(self) -> None:
        """Remove the entries that were written longest ago, and what writers that were killed left behind."""
        entries = []
        for file in self._directory.glob(f"{self._kind}-*.json*"):
            with contextlib.suppress(FileNotFoundError):  # another writer was faster
                entries.append((file.stat().st_mtime, file))
        whole = sorted(entry for entry in entries if entry[1].suffix == ".json")
        too_many = whole[: max(len(whole) - _MOST_PROGRAMS, 0)]
        abandoned = [each for each in entries if each[1].suffix != ".json" and each[0] < time.time() - _UNFINISHED_S]
        for _, file in too_many + abandoned:
            file.unlink(missing_ok=True)
