# SPDX-License-Identifier: BSD-2-Clause
"""An on-disk cache of query results, valid while the file of the queried program is unchanged.

Each program has one file: a header line with the program's identity and a checksum, then the results. Any number of
processes may read and write; a reader sees one complete entry or none.
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

#: Maximum number of entries of each kind.
_MAX_ENTRIES: Final = 64
#: Maximum size of an entry; larger than any valid one.
_MAX_ENTRY_BYTES: Final = 4 << 20
#: The age at which the unfinished file of a killed writer is removed, in seconds.
_ABANDONED_AGE_S: Final = 3600.0


@attrs.frozen
class ProgramIdentity:
    """The identity of a program's file; an upgrade of the program changes it."""

    path: str
    size: int
    mtime_ns: int
    inode: int


def read_identity(path: str) -> ProgramIdentity | None:
    """Return the identity of the file at a path; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return ProgramIdentity(path, status.st_size, status.st_mtime_ns, status.st_ino)


class ProgramCache:
    """A cache of one kind of query results.

    The cache never raises OSError: an entry that cannot be read counts as missing, a failed write is skipped.

    Args:
        directory: the directory of the entries; created on the first write.
        kind: a name for this kind of results, part of the file names. Several kinds may share a directory.
        version: version of the results' format; entries of another version are ignored.
    """

    def __init__(self, directory: Path, kind: str, version: int) -> None:
        self._directory = directory
        self._kind = kind
        self._version = version

    def read(self, identity: ProgramIdentity) -> bytes | None:
        """Return the results for a program; None if there are none, they are damaged, or the program has changed."""
        file = self._file(identity)
        try:
            with open(file, "rb") as opened:
                header, _, body = opened.read(_MAX_ENTRY_BYTES).partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.debug("ignoring %s: %s", file, error)
            return None
        if header != self._header(identity, body):
            _log.debug("ignoring %s: damaged, or for another file than %s", file, identity.path)
            return None
        return body

    def write(self, identity: ProgramIdentity, body: bytes) -> None:
        """Cache the results for a program, replacing older ones."""
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
            self._prune()
        except OSError as error:
            _log.debug("cannot write %s: %s", file, error)

    def _file(self, identity: ProgramIdentity) -> Path:
        return self._directory / f"{self._kind}-{hashlib.sha256(os.fsencode(identity.path)).hexdigest()[:16]}.json"

    def _header(self, identity: ProgramIdentity, body: bytes) -> bytes:
        header = {"format": self._version, **attrs.asdict(identity), "sha256": hashlib.sha256(body).hexdigest()}
        return json.dumps(header, separators=(",", ":")).encode()

    def _prune(self) -> None:
        """Remove the oldest entries beyond the maximum, and the unfinished files of killed writers."""
        entries = []
        for file in self._directory.glob(f"{self._kind}-*.json*"):
            with contextlib.suppress(FileNotFoundError):  # removed by another writer
                entries.append((file.stat().st_mtime, file))
        complete = sorted(entry for entry in entries if entry[1].suffix == ".json")
        surplus = complete[: max(len(complete) - _MAX_ENTRIES, 0)]
        abandoned = [each for each in entries if each[1].suffix != ".json" and each[0] < time.time() - _ABANDONED_AGE_S]
        for _, file in surplus + abandoned:
            file.unlink(missing_ok=True)
