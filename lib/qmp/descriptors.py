# SPDX-License-Identifier: BSD-2-Clause
"""Passing file descriptors to QEMU, under a name or as an fd set.

QEMU receives duplicates: the caller still owns the descriptors and may close them at any time. When a block ends,
QEMU closes every duplicate that no command in the block has taken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command
from hvkit.qmp.errors import CommandError, QmpError
from hvkit.qmp.schema import AddFd, Closefd, Getfd, RemoveFd
from hvkit.qmp.sync.connection import QmpConnection

#: The number of random bytes in a generated name.
_UNIQUE_BYTES: Final = 8


@contextlib.contextmanager
def passed(connection: QmpConnection, fd: int, name: str | None = None) -> Iterator[str]:
    """Pass a descriptor under a name, for `netdev_add`, `migrate` to ``fd:NAME``, `add_client` and others.

    The command that uses the descriptor removes it from the name. At the end of the block an unused descriptor is
    closed, also if it is unknown whether QEMU received it, for example after a timeout. If the connection ends in the
    block, the descriptor stays open in QEMU until `closefd` over another connection.

    Args:
        connection: to the monitor; the name is valid on this monitor only.
        fd: the descriptor.
        name: the name, which must not begin with a digit; None: a generated unique name. QEMU closes a descriptor that
            already has the name.

    Yields:
        The name.

    Raises:
        CommandError: QEMU refused the descriptor.
        CommandTimeout: no reply in time. At the end of the block: no reply to `closefd`.
        ConnectionLost: the connection ended.
    """
    if name is None:
        name = f"hvkit-{os.urandom(_UNIQUE_BYTES).hex()}"
    with _executing_at_end(connection, Closefd(fdname=name)):
        connection.execute(Getfd(fdname=name), fds=[fd])
        yield name


@contextlib.contextmanager
def fdset(connection: QmpConnection, *fds: int, opaque: str = "hvkit") -> Iterator[str]:
    """Pass descriptors as an fd set: a path that QEMU can open any number of times, for `blockdev-add` and others.

    QEMU opens the descriptor with the requested access mode and fails if there is none: pass one for each mode. A file
    that is open at the end of the block stays open until it is closed, for example by `blockdev-del`; then QEMU removes
    the set. QEMU 7.2 removes it only while the guest runs: for a paused guest, the set stays until the guest runs and a
    monitor is disconnected.

    Args:
        connection: to the monitor; the path is valid on all monitors of this QEMU.
        fds: the descriptors.
        opaque: a label that `query-fdsets` shows.

    Yields:
        The path: ``/dev/fdset/`` and a number.

    Raises:
        CommandError: QEMU refused a descriptor.
        CommandTimeout: no reply in time. At the end of the block: no reply to `remove-fd`.
        ConnectionLost: the connection ended. QEMU closes the unused descriptors once it has no client any more.
        ProgrammerError: no descriptor was passed.
    """
    if not fds:
        raise ProgrammerError("an fd set needs at least one descriptor")
    # If QEMU chose the number, it would be unknown after a timeout. QEMU parses it as a C int when a path is opened.
    number = int.from_bytes(os.urandom(4), "big") >> 1
    with _executing_at_end(connection, RemoveFd(fdset_id=number)):
        for fd in fds:
            connection.execute(AddFd(fdset_id=number, opaque=opaque), fds=[fd])
        yield f"/dev/fdset/{number}"


@contextlib.contextmanager
def _executing_at_end(connection: QmpConnection, command: Command[None]) -> Iterator[None]:
    """Execute a command at the end of a block; ignore its refusal: QEMU then has no descriptor to close."""
    try:
        yield
    except BaseException as error:
        try:
            _execute_unless_refused(connection, command)
        except (QmpError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"QEMU may still have the passed descriptors open: {problem}")
        raise
    _execute_unless_refused(connection, command)


def _execute_unless_refused(connection: QmpConnection, command: Command[None]) -> None:
    with contextlib.suppress(CommandError):
        connection.execute(command)
