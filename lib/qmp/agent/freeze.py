# SPDX-License-Identifier: BSD-2-Clause
"""Freezing the guest's filesystems with a guaranteed thaw."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from hvkit.errors import HvkitError, ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.agent.executor import ReconnectingExecutor
from hvkit.qmp.deadlines import Deadline, timeout_class_of
from hvkit.qmp.errors import (
    AgentCommandDisabled,
    AgentFreezeExpired,
    AgentNotResponding,
    CommandTimeout,
    ConnectionLost,
    DataError,
    ProtocolError,
    QmpError,
)
from hvkit.qmp.schema import GuestFsfreezeFreeze, GuestFsfreezeFreezeList, GuestFsfreezeThaw

#: Timeouts of thawing in total and of one attempt, in seconds. A restarted agent does not answer earlier attempts.
_THAW_TIMEOUT_S: Final = 60.0
_THAW_ATTEMPT_S: Final = 15.0
_RETRY_INTERVAL_S: Final = 0.2
#: A signal that arrives just before a wait begins is handled when the wait ends. So the wait for the watchdog is cut
#: into pieces of this length, in seconds.
_SIGNAL_CHECK_S: Final = 0.2
#: Thawing is retried after these. ProgrammerError: another thread is connecting or has just closed the connection.
_TRANSIENT_ERRORS: Final = (
    AgentNotResponding,
    CommandTimeout,
    ConnectionLost,
    DataError,
    ProgrammerError,
    ProtocolError,
)


class Freeze:
    """The frozen filesystems of a guest; made by `AgentConnection.frozen`.

    Attributes:
        filesystems: the number of frozen filesystems.
        is_frozen: whether freezing has succeeded.
        limit_s: seconds from the start of freezing after which the filesystems are thawed.
    """

    def __init__(self, agent: ReconnectingExecutor, limit_s: float) -> None:
        self.filesystems = 0
        self.is_frozen = False
        self.limit_s = limit_s
        self._agent = agent
        self._deadline = Deadline(limit_s)
        self._is_over = threading.Event()
        self._has_expired = False
        self._is_thawed = False
        self._thawed: int | None = None
        self._failure: HvkitError | None = None
        self._is_watchdog_done = threading.Event()
        # Not a daemon thread: a process that exits, for example after an interrupt, waits for the thaw.
        self._watchdog = threading.Thread(target=self._watch, name="hvkit freeze watchdog", daemon=False)

    @property
    def has_expired(self) -> bool:
        """Whether the limit has passed; the filesystems are thawed or about to be."""
        return self._has_expired

    def remaining_s(self) -> float:
        """Return the seconds until the limit; 0 once it has passed."""
        return self._deadline.remaining_s()

    def start(self, mountpoints: Sequence[str] | None) -> None:
        """Freeze the filesystems and start the watchdog that enforces the limit."""
        command = (
            GuestFsfreezeFreeze() if mountpoints is None else GuestFsfreezeFreezeList(mountpoints=list(mountpoints))
        )
        timeout = min(self.limit_s, timeout_class_of(command.wire_name).timeout_s)
        self.filesystems = self._agent.execute(command, timeout=timeout)
        self.is_frozen = True
        self._watchdog.start()

    def _watch(self) -> None:
        try:
            if not self._is_over.wait(min(self.remaining_s(), threading.TIMEOUT_MAX)):
                self._has_expired = True
                log.warning(self._agent.address, "thawing filesystems after the limit of %g s", self.limit_s)
            self._thaw()
        except HvkitError as error:  # `end` raises it or retries
            log.warning(self._agent.address, "cannot thaw filesystems: %s", _reason(error))
            self._failure = error
        finally:
            self._is_watchdog_done.set()

    def _thaw(self) -> None:
        self._thawed = thaw(self._agent)
        self._is_thawed = True

    def end(self) -> None:
        """Thaw the filesystems, unless the watchdog has thawed them at the limit.

        The watchdog thread thaws: an interrupt of the calling thread does not stop it.

        Raises:
            AgentFreezeExpired: the filesystems were thawed before this call.
            HvkitError: thawing failed.
        """
        self._is_over.set()
        if self._watchdog.ident is None:
            with contextlib.suppress(RuntimeError):  # no thread available: thaw in this thread, below
                self._watchdog.start()
        if self._watchdog.ident is not None:
            while not self._is_watchdog_done.wait(_SIGNAL_CHECK_S):
                pass  # no join() here: if interrupted, it would mark the running thread as ended
            self._watchdog.join()
        if self._failure is not None and not self._has_expired:
            raise self._failure
        if not self._is_thawed:
            self._thaw()
        if self._has_expired:
            raise AgentFreezeExpired(self.limit_s, f"the limit of {self.limit_s:g} s passed")
        if self._thawed == 0 and self.filesystems:
            raise AgentFreezeExpired(self.limit_s, "another client thawed them")


def thaw(agent: ReconnectingExecutor) -> int | None:
    """Thaw the guest's filesystems; retry for one minute while the agent does not answer.

    Returns:
        The number of filesystems that were frozen; None if that is unknown because of a retry.

    Raises:
        ConnectError: the connection was lost and cannot be made again.
        QmpError: the agent refused the command, or did not answer for one minute.
        ProgrammerError: other threads were connecting or closing the connection for one minute.
    """
    deadline = Deadline(_THAW_TIMEOUT_S)
    is_first = True
    while True:
        attempt = deadline.sooner(_THAW_ATTEMPT_S)
        try:
            agent.reconnect(timeout=attempt.timeout_s)
            thawed = agent.execute(GuestFsfreezeThaw(), timeout=attempt.remaining_s())
        except _TRANSIENT_ERRORS as error:
            if deadline.remaining_s() <= _RETRY_INTERVAL_S:
                raise
            log.warning(agent.address, "retrying to thaw filesystems: %s", _reason(error))
            is_first = False
            time.sleep(_RETRY_INTERVAL_S)
        else:
            return thawed if is_first else None


def _reason(error: HvkitError) -> str:
    """Return the text of an error without the monitor, which log records name already."""
    return error.reason if isinstance(error, QmpError) else str(error)


@contextlib.contextmanager
def hold_frozen(
    agent: ReconnectingExecutor, limit_s: float, mountpoints: Sequence[str] | None = None
) -> Iterator[Freeze]:
    """Keep filesystems frozen for the length of a block; see `AgentConnection.frozen`."""
    freeze = Freeze(agent, limit_s)
    try:
        freeze.start(mountpoints)
        yield freeze
    except BaseException as error:
        # Nothing was frozen, or another client froze it.
        if not freeze.is_frozen and isinstance(error, (AgentNotResponding, AgentCommandDisabled)):
            raise
        try:
            freeze.end()
        except HvkitError as problem:
            error.add_note(str(problem))
        raise
    freeze.end()
