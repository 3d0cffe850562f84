# SPDX-License-Identifier: BSD-2-Clause
"""Lend file descriptors to QEMU: under a name, or as a file that a path stands for.

QEMU gets copies. The descriptors themselves stay the caller's to close, whenever it likes. When a block ends, however
it ends, QEMU holds no copy but those that a command in the block put to use.
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

#: How many bytes make a name that nobody else uses.
_UNIQUE_BYTES: Final = 8


@contextlib.contextmanager
def passed(connection: QmpConnection, fd: int, name: str | None = None) -> Iterator[str]:
    """Lend a descriptor under a name, for commands that take one: `netdev_add`, `migrate` to ``fd:NAME``, `add_client`.

    The command that takes the descriptor takes it away from the name. What nothing took is closed at the end of the
    block; so it is where it is unknown whether QEMU got the descriptor, as after a timeout. Only a connection that
    ends meanwhile leaves it behind, for `closefd` over another one.

    Args:
        connection: to the monitor; the name holds on this monitor only.
        fd: the descriptor.
        name: what to call it, which must not begin with a digit; None for a name that nobody else uses. A descriptor
            that has the name already is closed by QEMU.

    Yields:
        The name.

    Raises:
        CommandError: QEMU does not take it.
        CommandTimeout: no reply in time. At the end of the block: `closefd` was sent, and had no reply.
        ConnectionLost: the connection ended.
    """
    if name is None:
        name = f"hvkit-{os.urandom(_UNIQUE_BYTES).hex()}"
    with _withdrawing(connection, Closefd(fdname=name)):
        connection.execute(Getfd(fdname=name), fds=[fd])
        yield name


@contextlib.contextmanager
def fdset(connection: QmpConnection, *fds: int, opaque: str = "hvkit") -> Iterator[str]:
    """Lend descriptors as a file that QEMU can open by a path, as often as it likes: for `blockdev-add` and its kin.

    Opening takes the descriptor that has the access mode which is wanted, and fails where none has: give one for each.
    What is open at the end of the block stays open until it is closed, for example by `blockdev-del`, and then nothing
    is left. QEMU 7.2 clears up only while the guest runs: in a paused one the copies stay until it runs and a monitor
    is disconnected.

    Args:
        connection: to the monitor; the path holds for all of this QEMU.
        fds: the descriptors.
        opaque: a label that `query-fdsets` shows.

    Yields:
        The path, ``/dev/fdset/`` and a number.

    Raises:
        CommandError: QEMU does not take them.
        CommandTimeout: no reply in time. At the end of the block: `remove-fd` was sent, and had no reply.
        ConnectionLost: the connection ended; QEMU then drops what is not in use, once it has no client any more.
        ProgrammerError: no descriptor is given.
    """
    if not fds:
        raise ProgrammerError("a set of descriptors has one at least")
    # Left to QEMU, the number would be unknown just when the reply is missing. It is a C int where a path is opened.
    number = int.from_bytes(os.urandom(4), "big") >> 1
    with _withdrawing(connection, RemoveFd(fdset_id=number)):
        for fd in fds:
            connection.execute(AddFd(fdset_id=number, opaque=opaque), fds=[fd])
        yield f"/dev/fdset/{number}"


@contextlib.contextmanager
def _withdrawing(connection: QmpConnection, command: Command[None]) -> Iterator[None]:
    """Execute a command at the end of a block; that there is nothing to withdraw is as good."""
    try:
        yield
    except BaseException as error:
        try:
            _withdraw(connection, command)
        except (QmpError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"QEMU may hold descriptors that it does not need: {problem}")
        raise
    _withdraw(connection, command)


def _withdraw(connection: QmpConnection, command: Command[None]) -> None:
    with contextlib.suppress(CommandError):
        connection.execute(command)
