# SPDX-License-Identifier: BSD-2-Clause
"""Frozen filesystems in the guest, with a guaranteed thaw."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from hvkit.errors import HvkitError, ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.agent.executor import Executor
from hvkit.qmp.deadlines import Deadline, timeout_class_of
from hvkit.qmp.errors import (
    AgentCommandDisabled,
    AgentFreezeExpired,
    AgentNotResponding,
    CommandTimeout,
    ConnectionLost,
    DataError,
    ProtocolError,
)
from hvkit.qmp.schema import GuestFsfreezeFreeze, GuestFsfreezeFreezeList, GuestFsfreezeThaw

#: How long thawing is tried, and one try of it waits, in seconds. An agent that was started anew owes no reply.
_THAW_TIMEOUT_S: Final = 60.0
_THAW_ATTEMPT_S: Final = 15.0
_PAUSE_S: Final = 0.2
#: For how long, in seconds, nobody sees a signal that comes just as waiting begins: Python does when the wait ends.
_UNSEEN_SIGNAL_S: Final = 0.2
#: After these it is tried again. ProgrammerError: another thread is just connecting, or closed between our two steps.
_PASSING: Final = (
    AgentNotResponding,
    CommandTimeout,
    ConnectionLost,
    DataError,
    ProgrammerError,
    ProtocolError,
)

#: Takes seconds.
ConnectAgain: TypeAlias = Callable[[float], None]


class Freeze:
    """Filesystems that are frozen; given by `AgentConnection.frozen`.

    Attributes:
        filesystems: how many are.
        is_frozen: whether freezing has succeeded.
        limit_s: how long they may be, in seconds from the beginning of freezing.
    """

    def __init__(self, agent: Executor, connect_again: ConnectAgain, limit_s: float) -> None:
        self.filesystems = 0
        self.is_frozen = False
        self.limit_s = limit_s
        self._agent = agent
        self._connect_again = connect_again
        self._deadline = Deadline(limit_s)
        self._is_over = threading.Event()
        self._has_expired = False
        self._is_thawed = False
        self._thawed: int | None = None
        self._failure: HvkitError | None = None
        self._is_watchdog_done = threading.Event()
        # Not a daemon: a process that ends, perhaps because it was interrupted, waits for the thaw.
        self._watchdog = threading.Thread(target=self._watch, name="hvkit freeze watchdog", daemon=False)

    @property
    def has_expired(self) -> bool:
        """Whether the limit has passed, and the filesystems are thawed or about to be."""
        return self._has_expired

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 or less where there are none."""
        return self._deadline.remaining_s()

    def start(self, mountpoints: Sequence[str] | None) -> None:
        """Freeze, and see to it that the limit is kept."""
        command = (
            GuestFsfreezeFreeze() if mountpoints is None else GuestFsfreezeFreezeList(mountpoints=list(mountpoints))
        )
        timeout = min(self.limit_s, timeout_class_of(command.wire_name).timeout_s)
        self.filesystems = self._agent.execute(command, timeout=timeout)
        self.is_frozen = True
        self._watchdog.start()

    def _watch(self) -> None:
        try:
            if not self._is_over.wait(min(max(self.remaining_s(), 0.0), threading.TIMEOUT_MAX)):
                self._has_expired = True
                log.warning(repr(self._agent), "filesystems were frozen for %g s and are thawed", self.limit_s)
            self._thaw()
        except HvkitError as error:  # the end of the block says so, or tries again
            log.warning(repr(self._agent), "a guest's filesystems could not be thawed: %s", error)
            self._failure = error
        finally:
            self._is_watchdog_done.set()

    def _thaw(self) -> None:
        self._thawed = thaw(self._agent, self._connect_again)
        self._is_thawed = True

    def end(self) -> None:
        """Thaw, unless that was done at the limit.

        The watchdog does it: its thread is not interrupted, and goes on where ours is.

        Raises:
            AgentFreezeExpired: the filesystems did not stay frozen for all the time.
            HvkitError: they could not be thawed.
        """
        self._is_over.set()
        if self._watchdog.ident is None:
            with contextlib.suppress(RuntimeError):  # no thread to be had: it is done here
                self._watchdog.start()
        if self._watchdog.ident is not None:
            while not self._is_watchdog_done.wait(_UNSEEN_SIGNAL_S):
                pass  # an interrupted join would leave the thread marked as ended
            self._watchdog.join()
        if self._failure is not None and not self._has_expired:
            raise self._failure
        if not self._is_thawed:
            self._thaw()
        if self._has_expired:
            raise AgentFreezeExpired(self.limit_s, f"the limit of {self.limit_s:g} s passed")
        if self._thawed == 0 and self.filesystems:
            raise AgentFreezeExpired(self.limit_s, "somebody else thawed them")


def thaw(agent: Executor, connect_again: ConnectAgain) -> int | None:
    """Thaw the guest's filesystems, trying again where there is no answer.

    Returns:
        How many were frozen; None where that is uncertain.

    Raises:
        ConnectError: the connection was lost, and there is nobody to connect to any more.
        QmpError: the agent refused, or did not answer for a minute.
        ProgrammerError: other threads kept the connection busy with connecting and closing for a minute.
    """
    deadline = Deadline(_THAW_TIMEOUT_S)
    is_first = True
    while True:
        attempt = deadline.sooner(_THAW_ATTEMPT_S)
        try:
            connect_again(attempt.timeout_s)
            thawed = agent.execute(GuestFsfreezeThaw(), timeout=max(attempt.remaining_s(), 0.0))
        except _PASSING as error:
            if deadline.remaining_s() <= _PAUSE_S:
                raise
            log.warning(repr(agent), "a guest's filesystems are not thawed yet: %s", error)
            is_first = False
            time.sleep(_PAUSE_S)
        else:
            return thawed if is_first else None


@contextlib.contextmanager
def hold_frozen(
    agent: Executor, connect_again: ConnectAgain, limit_s: float, mountpoints: Sequence[str] | None
) -> Iterator[Freeze]:
    """Do what `AgentConnection.frozen` promises.

    Args:
        agent: of the guest.
        connect_again: makes a lost connection again, in so many seconds, and does nothing where it is not lost.
        limit_s: seconds from now.
        mountpoints: of the filesystems; None for all.
    """
    freeze = Freeze(agent, connect_again, limit_s)
    try:
        freeze.start(mountpoints)
        yield freeze
    except BaseException as error:
        # Not frozen, or not by us.
        if not freeze.is_frozen and isinstance(error, (AgentNotResponding, AgentCommandDisabled)):
            raise
        try:
            freeze.end()
        except HvkitError as problem:
            error.add_note(str(problem))
        raise
    freeze.end()
