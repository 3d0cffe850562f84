# SPDX-License-Identifier: BSD-2-Clause
"""Files in the guest, read and written piece by piece."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.agent.executor import Executor, from_base64, to_base64
from hvkit.qmp.errors import ProtocolError, QmpError
from hvkit.qmp.schema import GuestFileClose, GuestFileOpen, GuestFileRead, GuestFileWrite

#: How much one command carries. The agent takes far more, in which time it does nothing else.
CHUNK_BYTES: Final = 256 * 1024
#: How long closing a file may take after something else failed, in seconds.
_CLOSE_TIMEOUT_S: Final = 5.0


@contextlib.contextmanager
def _opened(agent: Executor, path: str, mode: str) -> Iterator[int]:
    """Open a file for the length of a block; gives its handle."""
    handle = agent.execute(GuestFileOpen(path=path, mode=mode))
    try:
        yield handle
    except BaseException:
        with contextlib.suppress(QmpError):  # what went wrong first is what counts
            agent.execute(GuestFileClose(handle=handle), timeout=_CLOSE_TIMEOUT_S)
        raise
    agent.execute(GuestFileClose(handle=handle))


def read_chunks(agent: Executor, path: str, chunk_bytes: int) -> Iterator[bytes]:
    """Do what `AgentConnection.read_file` promises."""
    if chunk_bytes < 1:
        raise ProgrammerError("a piece of a file has one byte at least")
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
                raise ProtocolError(f"{path}: the guest agent read nothing, and says that there is more")


def write_chunks(agent: Executor, path: str, data: bytes | Iterable[bytes], append: bool) -> int:
    """Do what `AgentConnection.write_file` promises."""
    written = 0
    with _opened(agent, path, "a" if append else "w") as handle:
        for piece in (data,) if isinstance(data, (bytes, bytearray, memoryview)) else data:
            view = memoryview(piece)
            while view:
                part = bytes(view[:CHUNK_BYTES])
                count = agent.execute(GuestFileWrite(handle=handle, buf_b64=to_base64(part))).count
                if not 0 < count <= len(part):
                    raise ProtocolError(f"{path}: the guest agent says that it wrote {count} of {len(part)} bytes")
                view = view[count:]
                written += count
    return written
