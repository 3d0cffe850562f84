# SPDX-License-Identifier: BSD-2-Clause
"""Memory dumps of running instances, through a pipe.

QEMU has no command to cancel a dump, and stops the vCPUs until the dump is complete. It therefore writes to a pipe, and
hvkit copies from the pipe to the file. When the reading end is closed, QEMU aborts the dump and the guest continues.
This works for a full disk, a timeout, an interruption and SIGKILL. A pipe is as fast as a file that QEMU opens itself.
"""

import contextlib
import errno
import fcntl
import math
import os
import select
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, get_args

from hvkit.hypervisor.errors import CaptureError, ParameterError, translate_errors
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_kind, check_timeout, is_absolute_path
from hvkit.hypervisor.model.reports import DumpProgress
from hvkit.qmp import EventTimeout, QmpConnection, QmpError, Subscription
from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.descriptors import passed
from hvkit.qmp.schema import (
    DumpCompletedEvent,
    DumpGuestMemory,
    DumpGuestMemoryFormat,
    QueryDump,
    QueryDumpGuestMemoryCapability,
    QueryStatus,
    ResumeEvent,
)

ProgressCallback = Callable[[DumpProgress], None]

_Events = Subscription[Event]

#: The prefix of the formats for which QEMU seeks in the file, which a pipe does not support. Since QEMU 8.2. Each has a
#: counterpart with the same contents for which QEMU does not seek: ``kdump-raw-zlib`` is ``kdump-zlib`` otherwise.
_SEEKING: Final = "kdump-raw-"
#: The suffix of a file that is not complete.
_PARTIAL: Final = ".partial"
#: The size of the pipe and of one copy, in bytes: the kernel's default limit for an unprivileged user.
_PIPE_BYTES: Final = 1 << 20
#: Seconds between two progress reports.
_PROGRESS_INTERVAL_S: Final = 0.2
#: Seconds for QEMU to complete or abort a dump after the end of the copy.
_END_S: Final = 10.0


class DumpVerbs(KvmSubject):
    """Dumps the memory of instances."""

    def get_dump_formats(self, name: str) -> tuple[str, ...]:
        """Return the formats that QEMU writes without seeking, the default first."""
        handle = self._instances.require(name)
        with translate_errors(partial(CaptureError, name)), handle.connected() as monitor:
            return _query_formats(monitor)

    def dump_instance_memory(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        dump_format: str | None = None,
        on_progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> None:
        """Dump the memory of an instance to a file of the caller.

        QEMU needs no access to the file, so it may be confined. The lock is held while the dump is started, but not
        while it is written: the instance can be stopped meanwhile. If the calling process is killed, a file whose name
        ends with ``.partial`` is left.
        """
        check_kind(path, str, os.PathLike)
        if not is_absolute_path(os.fspath(path)):
            raise ParameterError("path", os.fspath(path), f"expected an absolute path, got {os.fspath(path)!r}")
        handle = self._instances.require(name)
        timeout_s = check_timeout(timeout, default_s=math.inf)
        with translate_errors(partial(CaptureError, name)):
            try:
                _dump(handle, os.fspath(path), dump_format, on_progress, Deadline(timeout_s))
            except OSError as error:
                raise CaptureError(name, f"{os.fspath(path)}: {error.strerror or error}") from error


def _dump(
    handle: InstanceHandle,
    path: str,
    dump_format: str | None,
    on_progress: ProgressCallback | None,
    deadline: Deadline,
) -> None:
    with contextlib.ExitStack() as stack:
        with handle.locked():
            monitor = stack.enter_context(handle.connected())
            chosen = _choose_format(_query_formats(monitor), dump_format)
            file = stack.enter_context(_complete_file(path))
            events = stack.enter_context(monitor.subscribe(DumpCompletedEvent, ResumeEvent))
            was_running = monitor.execute(QueryStatus()).running
            pipe = stack.enter_context(open(_start_dump(monitor, chosen), "rb", buffering=0))
        try:
            _copy(pipe.fileno(), file, monitor, on_progress, deadline)
        except BaseException as error:
            pipe.close()
            _await_abort(events, error, was_running=was_running)
            raise
        problem = _await_end(events, was_running=was_running)
        if problem is not None:
            raise CaptureError(handle.name, problem)
        _report_progress(monitor, on_progress)


def _query_formats(monitor: QmpConnection) -> tuple[DumpGuestMemoryFormat, ...]:
    formats = monitor.execute(QueryDumpGuestMemoryCapability()).formats
    return tuple(each for each in formats if not each.startswith(_SEEKING))


def _choose_format(formats: tuple[DumpGuestMemoryFormat, ...], wanted: str | None) -> DumpGuestMemoryFormat:
    if wanted is None:
        return formats[0]
    for each in formats:
        if each == wanted:
            return each
    problem = f"expected one of {', '.join(formats)}, which this QEMU supports, got {wanted!r}"
    if wanted in get_args(DumpGuestMemoryFormat) and wanted.startswith(_SEEKING):
        problem = f"{wanted} cannot be written to a pipe; use {wanted.replace('-raw', '')}, which has the same contents"
    raise ParameterError("dump_format", wanted, problem)


@contextlib.contextmanager
def _complete_file(path: str) -> Iterator[int]:
    """Create a file that gets its path after the block, flushed to the disk, or is removed if the block fails.

    Yields:
        A descriptor to write to.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    directory, name = os.path.split(path)
    descriptor, partial_path = tempfile.mkstemp(suffix=_PARTIAL, prefix=f"{name}.", dir=directory)
    try:
        yield descriptor
        os.fsync(descriptor)
        os.rename(partial_path, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial_path)
        raise
    finally:
        os.close(descriptor)


def _start_dump(monitor: QmpConnection, dump_format: DumpGuestMemoryFormat) -> int:
    """Make QEMU dump to a pipe, and return the reading end."""
    reader, writer = os.pipe()
    try:
        # If the user has exhausted the kernel's limit, the default size works as well.
        with contextlib.suppress(OSError):
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        with passed(monitor, writer) as name:
            monitor.execute(DumpGuestMemory(paging=False, protocol=f"fd:{name}", detach=True, format=dump_format))
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return reader


def _copy(
    pipe: int, file: int, monitor: QmpConnection, on_progress: ProgressCallback | None, deadline: Deadline
) -> None:
    """Copy a pipe to a file until the end of the pipe, and report the progress.

    Raises:
        OSError: the deadline has passed, or the file cannot be written.
        QmpError: the progress cannot be queried.
    """
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    next_report = Deadline(0.0)
    while True:
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            raise TimeoutError(f"not complete after {deadline.timeout_s:g} s")
        if poll.poll(min(remaining_s, _PROGRESS_INTERVAL_S) * 1000) and not os.splice(pipe, file, _PIPE_BYTES):
            return
        if next_report.remaining_s() <= 0:
            _report_progress(monitor, on_progress)
            next_report = Deadline(_PROGRESS_INTERVAL_S)


def _report_progress(monitor: QmpConnection, on_progress: ProgressCallback | None) -> None:
    if on_progress is not None:
        progress = monitor.execute(QueryDump())
        on_progress(DumpProgress(done_bytes=progress.completed, total_bytes=progress.total))


def _await_end(events: _Events, *, was_running: bool) -> str | None:
    """Wait until the dump has ended and the guest continues; return the error of the dump, or None."""
    event = events.wait_for(lambda event: isinstance(event, DumpCompletedEvent), timeout=_END_S)
    assert isinstance(event, DumpCompletedEvent)
    if was_running:
        with contextlib.suppress(EventTimeout):  # another client has paused it
            events.wait_for(lambda event: isinstance(event, ResumeEvent), timeout=_END_S)
    return event.error


def _await_abort(events: _Events, error: BaseException, *, was_running: bool) -> None:
    """Wait until the guest continues after its dump was aborted."""
    try:
        _await_end(events, was_running=was_running)
    except QmpError as problem:
        error.add_note(f"the state of the guest is unknown: {problem}")
