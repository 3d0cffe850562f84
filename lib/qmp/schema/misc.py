# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `misc`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Event, Struct

#: Enumeration `CommandLineParameterType`, since 1.5.
CommandLineParameterType = Literal["string", "boolean", "number", "size"]


class AddfdInfo(Struct):
    """Struct `AddfdInfo`, since 1.2."""

    fdset_id: int
    fd: int


class CommandLineOptionInfo(Struct):
    """Struct `CommandLineOptionInfo`, since 1.5."""

    option: str
    parameters: list[CommandLineParameterInfo]


class CommandLineParameterInfo(Struct):
    """Struct `CommandLineParameterInfo`, since 1.5."""

    name: str
    type: CommandLineParameterType
    help: str | None = None
    default: str | None = None


class FdsetFdInfo(Struct):
    """Struct `FdsetFdInfo`, since 1.2."""

    fd: int
    opaque: str | None = None


class FdsetInfo(Struct):
    """Struct `FdsetInfo`, since 1.2."""

    fdset_id: int
    fds: list[FdsetFdInfo]


class IOThreadInfo(Struct):
    """Struct `IOThreadInfo`, since 2.0."""

    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int
    poll_weight: int | None = None  # since 11.1
    aio_max_batch: int


class NameInfo(Struct):
    """Struct `NameInfo`, since 0.14."""

    name: str | None = None


class RtcChangeEvent(Event, wire_name="RTC_CHANGE"):
    """Event `RTC_CHANGE`, since 0.13."""

    offset: int
    qom_path: str


class VfuClientHangupEvent(Event, wire_name="VFU_CLIENT_HANGUP"):
    """Event `VFU_CLIENT_HANGUP`, since 7.1."""

    vfu_id: str
    vfu_qom_path: str
    dev_id: str
    dev_qom_path: str


class AddClient(Command[None], wire_name="add_client"):
    """Command `add_client`, since 0.14."""

    protocol: str
    fdname: str
    skipauth: bool | None = None
    tls: bool | None = None


class AddFd(Command["AddfdInfo"], wire_name="add-fd"):
    """Command `add-fd`, since 1.2. Returns `AddfdInfo`."""

    fdset_id: int | None = None
    opaque: str | None = None


class Closefd(Command[None], wire_name="closefd"):
    """Command `closefd`, since 0.14."""

    fdname: str


class Cont(Command[None], wire_name="cont"):
    """Command `cont`, since 0.14."""


class GetWin32Socket(Command[None], wire_name="get-win32-socket"):
    """Command `get-win32-socket`, since 8.0. Needs CONFIG_WIN32."""

    info: str
    fdname: str


class Getfd(Command[None], wire_name="getfd"):
    """Command `getfd`, since 0.14. Needs CONFIG_POSIX."""

    fdname: str


class HumanMonitorCommand(Command[str], wire_name="human-monitor-command"):
    """Command `human-monitor-command`, since 0.14. Returns `str`."""

    command_line: str
    cpu_index: int | None = None


class QueryCommandLineOptions(Command["list[CommandLineOptionInfo]"], wire_name="query-command-line-options"):
    """Command `query-command-line-options`, since 1.5. Returns a list of `CommandLineOptionInfo`. Allowed before the
    machine is made.
    """

    option: str | None = None


class QueryFdsets(Command["list[FdsetInfo]"], wire_name="query-fdsets"):
    """Command `query-fdsets`, since 1.2. Returns a list of `FdsetInfo`."""


class QueryIothreads(Command["list[IOThreadInfo]"], wire_name="query-iothreads"):
    """Command `query-iothreads`, since 2.0. Returns a list of `IOThreadInfo`. Allowed before the machine is made."""


class QueryName(Command["NameInfo"], wire_name="query-name"):
    """Command `query-name`, since 0.14. Returns `NameInfo`. Allowed before the machine is made."""


class RemoveFd(Command[None], wire_name="remove-fd"):
    """Command `remove-fd`, since 1.2."""

    fdset_id: int
    fd: int | None = None


class Stop(Command[None], wire_name="stop"):
    """Command `stop`, since 0.14."""


class XExitPreconfig(Command[None], wire_name="x-exit-preconfig"):
    """Command `x-exit-preconfig`, since 3.0. Unstable. Allowed before the machine is made."""
