# SPDX-License-Identifier: BSD-2-Clause
"""Dump the memory of a running instance, through a pipe.

QEMU cannot be told to end a dump, and keeps its guest standing still for as long as it writes one. What it writes into
is therefore a pipe, and the file at the other end of it ours: once nobody reads, QEMU gives the dump up and its guest
goes on. So it is whoever breaks off, a full disk, a deadline or a signal that kills us. It costs nothing: QEMU is no
faster where it has the file itself.
"""

import contextlib
import fcntl
import os
import select
import tempfile
from collections.abc import Callable, Iterator
from typing import Final, get_args

from hvkit.hypervisor.errors import CaptureError, InstanceStateError, ParameterError
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
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

ReportProgress = Callable[[DumpProgress], None]

_Events = Subscription[Event]

#: What formats begin with that go back and forth in the file, as cannot be done in a pipe. Each has a twin that does
#: not, with the same contents and without this in its name. Since QEMU 8.2.
_GOES_BACK: Final = "kdump-raw-"
#: What a file is called until it is whole, at its end.
_PARTIAL: Final = ".partial"
#: How much is in the pipe, and copied at once: the most that the kernel gives to everybody.
_PIPE_BYTES: Final = 1 << 20
#: Seconds between two reports, and for QEMU to let its guest go on after its dump is over.
_REPORT_AGAIN_S: Final = 0.2
_END_S: Final = 10.0


def read_formats(handle: InstanceHandle) -> tuple[DumpGuestMemoryFormat, ...]:
    """Return the formats of dumps, as `BaseHypervisor.get_dump_formats` says.

    Raises:
        CaptureError: it has no process, or does not answer.
    """
    with _translate_errors(handle), handle.connected() as monitor:
        return _ask_formats(monitor)


def dump_memory(
    handle: InstanceHandle,
    path: str,
    *,
    dump_format: str | None,
    on_progress: ReportProgress | None,
    timeout_s: float,
) -> None:
    """Dump the memory of an instance, as `BaseHypervisor.dump_instance_memory` says.

    The instance's lock is held while the dump begins, not while it is written: who has to can stop the instance.

    Raises:
        ParameterError: this QEMU has no such format.
        CaptureError: it failed, was not over in time, or there is another one.
    """
    deadline = Deadline(timeout_s)
    with _translate_errors(handle, path), contextlib.ExitStack() as stack:
        with handle.locked():
            monitor = stack.enter_context(handle.connected())
            chosen = _choose_format(_ask_formats(monitor), dump_format)
            file = stack.enter_context(_whole_or_none(path))
            events = stack.enter_context(monitor.subscribe(DumpCompletedEvent, ResumeEvent))
            ran = monitor.execute(QueryStatus()).running
            pipe = stack.enter_context(open(_begin(monitor, chosen), "rb", buffering=0))
        try:
            _copy(pipe.fileno(), file, monitor, on_progress, deadline)
        except BaseException as error:
            pipe.close()
            _let_go_on(events, error, ran=ran)
            raise
        problem = _await_end(events, ran=ran)
        if problem is not None:
            raise CaptureError(handle.name, problem)
        _tell(monitor, on_progress)


def _ask_formats(monitor: QmpConnection) -> tuple[DumpGuestMemoryFormat, ...]:
    formats = monitor.execute(QueryDumpGuestMemoryCapability()).formats
    return tuple(each for each in formats if not each.startswith(_GOES_BACK))


def _choose_format(formats: tuple[DumpGuestMemoryFormat, ...], wanted: str | None) -> DumpGuestMemoryFormat:
    if wanted is None:
        return formats[0]
    for each in formats:
        if each == wanted:
            return each
    problem = f"this QEMU writes {', '.join(formats)}, and not {wanted!r}"
    if wanted in get_args(DumpGuestMemoryFormat) and wanted.startswith(_GOES_BACK):
        problem = f"{wanted} cannot be written in one go; {wanted.replace('-raw', '')} holds the same"
    raise ParameterError("dump_format", wanted, problem)


@contextlib.contextmanager
def _whole_or_none(path: str) -> Iterator[int]:
    """Make a file that gets its path when the block ends well, with all its bytes on the disk, and goes otherwise."""
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists")
    directory, name = os.path.split(path)
    descriptor, partial = tempfile.mkstemp(suffix=_PARTIAL, prefix=f"{name}.", dir=directory)
    try:
        yield descriptor
        os.fsync(descriptor)
        os.rename(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    finally:
        os.close(descriptor)


def _begin(monitor: QmpConnection, dump_format: DumpGuestMemoryFormat) -> int:
    """Have QEMU write a dump into a pipe, and return the end to read from."""
    reader, writer = os.pipe()
    try:
        # Less is enough, where somebody has used up what the kernel gives to one user.
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


def _copy(pipe: int, file: int, monitor: QmpConnection, on_progress: ReportProgress | None, deadline: Deadline) -> None:
    """Write what comes out of a pipe to a file until its end, and tell how far it is.

    Raises:
        OSError: it does not end in time, or the file takes no more.
        QmpError: QEMU does not tell.
    """
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    next_report = Deadline(0.0)
    while True:
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            raise TimeoutError(f"it is not over after {deadline.timeout_s:g} s")
        if poll.poll(min(remaining_s, _REPORT_AGAIN_S) * 1000) and not os.splice(pipe, file, _PIPE_BYTES):
            return
        if next_report.remaining_s() <= 0:
            _tell(monitor, on_progress)
            next_report = Deadline(_REPORT_AGAIN_S)


def _tell(monitor: QmpConnection, on_progress: ReportProgress | None) -> None:
    if on_progress is not None:
        progress = monitor.execute(QueryDump())
        on_progress(DumpProgress(done_bytes=progress.completed, total_bytes=progress.total))


def _await_end(events: _Events, *, ran: bool) -> str | None:
    """Wait until QEMU says that a dump is over, and its guest goes on; return what was wrong with the dump."""
    event = events.wait_for(lambda event: isinstance(event, DumpCompletedEvent), timeout=_END_S)
    assert isinstance(event, DumpCompletedEvent)
    if ran:
        with contextlib.suppress(EventTimeout):  # somebody else stopped it
            events.wait_for(lambda event: isinstance(event, ResumeEvent), timeout=_END_S)
    return event.error


def _let_go_on(events: _Events, error: BaseException, *, ran: bool) -> None:
    """Wait until a guest goes on whose dump nobody reads any more."""
    try:
        _await_end(events, ran=ran)
    except QmpError as problem:
        error.add_note(f"whether the guest goes on is not known: {problem}")


@contextlib.contextmanager
def _translate_errors(handle: InstanceHandle, path: str = "") -> Iterator[None]:
    """Say of an instance, and of the file that is to have its memory, what went wrong."""
    try:
        yield
    except (QmpError, InstanceStateError) as error:
        raise CaptureError(handle.name, str(error)) from error
    except OSError as error:
        # What the kernel says has a number, and mostly no file; what we say names what it is about.
        problem = f"{path}: {error.strerror}" if error.strerror else str(error)
        raise CaptureError(handle.name, problem) from error
