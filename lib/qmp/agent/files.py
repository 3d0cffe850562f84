# SPDX-License-Identifier: BSD-2-Clause
"""Reading and writing files in the guest, in chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.agent.executor import Executor, from_base64, to_base64
from hvkit.qmp.errors import ProtocolError, QmpError
from hvkit.qmp.schema import GuestFileClose, GuestFileOpen, GuestFileRead, GuestFileWrite

#: Bytes in one command. The agent accepts far more, but executes no other command meanwhile.
CHUNK_BYTES: Final = 256 * 1024
#: Timeout of closing a file after another command failed, in seconds.
_CLOSE_TIMEOUT_S: Final = 5.0


@contextlib.contextmanager
def _opened(agent: Executor, path: str, mode: str) -> Iterator[int]:
    """Keep a file open for the length of a block, and yield its handle."""
    handle = agent.execute(GuestFileOpen(path=path, mode=mode))
    try:
        yield handle
    except BaseException:
        with contextlib.suppress(QmpError):  # the first error is the one to raise
            agent.execute(GuestFileClose(handle=handle), timeout=_CLOSE_TIMEOUT_S)
        raise
    agent.execute(GuestFileClose(handle=handle))


def read_chunks(agent: Executor, path: str, chunk_bytes: int) -> Iterator[bytes]:
    """Read a file in chunks; see `AgentConnection.read_file`."""
    if chunk_bytes < 1:
        raise ProgrammerError(f"chunk_bytes must be at least 1, not {chunk_bytes}")
    return _read(agent, path, chunk_bytes)


def _read(agent: Executor, path: str, chunk_bytes: int) -> Iterator[bytes]:
    with _opened(agent, path, "r") as handle:
        is_at_end = False
        while not is_at_end:
            reply = agent.execute(GuestFileRead(handle=handle, count=chunk_bytes))
            is_at_end = reply.eof
            data = from_base64(reply.buf_b64, "guest-file-read.buf-b64")
            if data:
                yield data
            elif not is_at_end:
                raise ProtocolError(f"cannot read {path}: guest-file-read returned no data before the end of the file")


def write_chunks(agent: Executor, path: str, data: bytes | Iterable[bytes], append: bool) -> int:
    """Write a file in chunks; see `AgentConnection.write_file`."""
    written = 0
    with _opened(agent, path, "a" if append else "w") as handle:
        for chunk in (data,) if isinstance(data, (bytes, bytearray, memoryview)) else data:
            view = memoryview(chunk)
            while view:
                part = bytes(view[:CHUNK_BYTES])
                count = agent.execute(GuestFileWrite(handle=handle, buf_b64=to_base64(part))).count
                if not 0 < count <= len(part):
                    raise ProtocolError(f"cannot write {path}: guest-file-write reported {count} of {len(part)} bytes")
                view = view[count:]
                written += count
    return written
