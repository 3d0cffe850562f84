# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `run-state`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Event, Struct, Union

#: Enumeration `GuestPanicAction`, since 2.1.
GuestPanicAction = Literal["pause", "poweroff", "run"]

#: Enumeration `GuestPanicInformationType`, since 2.9.
GuestPanicInformationType = Literal[
    "hyper-v",
    "s390",
    "tdx",  # since 10.1
    "sev",  # since 11.0
]

#: Enumeration `MemoryFailureAction`, since 5.2.
MemoryFailureAction = Literal["ignore", "inject", "fatal", "reset"]

#: Enumeration `MemoryFailureRecipient`, since 5.2.
MemoryFailureRecipient = Literal["hypervisor", "guest"]

#: Enumeration `PanicAction`, since 6.0.
PanicAction = Literal["none", "pause", "shutdown", "exit-failure"]

#: Enumeration `RebootAction`, since 6.0.
RebootAction = Literal["reset", "shutdown"]

#: Enumeration `RunState`.
RunState = Literal[
    "debug",
    "finish-migrate",
    "inmigrate",
    "internal-error",
    "io-error",
    "paused",
    "postmigrate",
    "prelaunch",
    "restore-vm",
    "running",
    "save-vm",
    "shutdown",
    "suspended",
    "watchdog",
    "guest-panicked",
    "colo",
]

#: Enumeration `S390CrashReason`, since 2.12.
S390CrashReason = Literal["unknown", "disabled-wait", "extint-loop", "pgmint-loop", "opint-loop"]

#: Enumeration `ShutdownAction`, since 6.0.
ShutdownAction = Literal["poweroff", "pause"]

#: Enumeration `ShutdownCause`.
ShutdownCause = Literal[
    "none",
    "host-error",
    "host-qmp-quit",
    "host-qmp-system-reset",
    "host-signal",
    "host-ui",
    "guest-shutdown",
    "guest-reset",
    "guest-panic",
    "subsystem-reset",
    "snapshot-load",
]

#: Enumeration `WatchdogAction`, since 2.1.
WatchdogAction = Literal["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"]


class GuestPanicInformation(
    Union,
    tag="type",
    branches={
        "hyper-v": "GuestPanicInformationHyperV",
        "s390": "GuestPanicInformationS390",
        "tdx": "GuestPanicInformationTdx",
        "sev": "GuestPanicInformationSev",
    },
):
    """Union `GuestPanicInformation`, since 2.9."""

    type: GuestPanicInformationType


class GuestPanicInformationHyperV(GuestPanicInformation):
    """Struct `GuestPanicInformationHyperV`, since 2.9. Branch of `GuestPanicInformation` where `type` is `hyper-v`."""

    type: Literal["hyper-v"] = "hyper-v"
    arg1: int
    arg2: int
    arg3: int
    arg4: int
    arg5: int


class GuestPanicInformationS390(GuestPanicInformation):
    """Struct `GuestPanicInformationS390`, since 2.12. Branch of `GuestPanicInformation` where `type` is `s390`."""

    type: Literal["s390"] = "s390"
    core: int
    psw_mask: int
    psw_addr: int
    reason: S390CrashReason


class GuestPanicInformationTdx(GuestPanicInformation):
    """Struct `GuestPanicInformationTdx`, since 10.1. Branch of `GuestPanicInformation` where `type` is `tdx`."""

    type: Literal["tdx"] = "tdx"
    error_code: int
    message: str
    gpa: int | None = None


class GuestPanicInformationSev(GuestPanicInformation):
    """Struct `GuestPanicInformationSev`, since 11.0. Branch of `GuestPanicInformation` where `type` is `sev`."""

    type: Literal["sev"] = "sev"
    set: int
    code: int


class MemoryFailureFlags(Struct):
    """Struct `MemoryFailureFlags`, since 5.2."""

    action_required: bool
    recursive: bool


class StatusInfo(Struct):
    """Struct `StatusInfo`, since 0.14."""

    running: bool
    status: RunState
    singlestep: bool | None = None  # 7.2 only


class GuestCrashloadedEvent(Event, wire_name="GUEST_CRASHLOADED"):
    """Event `GUEST_CRASHLOADED`, since 5.0."""

    action: GuestPanicAction
    info: GuestPanicInformation | None = None


class GuestPanickedEvent(Event, wire_name="GUEST_PANICKED"):
    """Event `GUEST_PANICKED`, since 1.5."""

    action: GuestPanicAction
    info: GuestPanicInformation | None = None


class GuestPvshutdownEvent(Event, wire_name="GUEST_PVSHUTDOWN"):
    """Event `GUEST_PVSHUTDOWN`, since 9.1."""


class MemoryFailureEvent(Event, wire_name="MEMORY_FAILURE"):
    """Event `MEMORY_FAILURE`, since 5.2."""

    recipient: MemoryFailureRecipient
    action: MemoryFailureAction
    flags: MemoryFailureFlags


class PowerdownEvent(Event, wire_name="POWERDOWN"):
    """Event `POWERDOWN`, since 0.12."""


class ResetEvent(Event, wire_name="RESET"):
    """Event `RESET`, since 0.12."""

    guest: bool
    reason: ShutdownCause


class ResumeEvent(Event, wire_name="RESUME"):
    """Event `RESUME`, since 0.12."""


class ShutdownEvent(Event, wire_name="SHUTDOWN"):
    """Event `SHUTDOWN`, since 0.12."""

    guest: bool
    reason: ShutdownCause


class StopEvent(Event, wire_name="STOP"):
    """Event `STOP`, since 0.12."""


class SuspendDiskEvent(Event, wire_name="SUSPEND_DISK"):
    """Event `SUSPEND_DISK`, since 1.2."""


class SuspendEvent(Event, wire_name="SUSPEND"):
    """Event `SUSPEND`, since 1.1."""


class WakeupEvent(Event, wire_name="WAKEUP"):
    """Event `WAKEUP`, since 1.1."""


class WatchdogEvent(Event, wire_name="WATCHDOG"):
    """Event `WATCHDOG`, since 0.13."""

    action: WatchdogAction


class QueryStatus(Command["StatusInfo"], wire_name="query-status"):
    """Command `query-status`, since 0.14. Returns `StatusInfo`. Allowed before the machine is made."""


class SetAction(Command[None], wire_name="set-action"):
    """Command `set-action`, since 6.0. Allowed before the machine is made."""

    reboot: RebootAction | None = None
    shutdown: ShutdownAction | None = None
    panic: PanicAction | None = None
    watchdog: WatchdogAction | None = None


class WatchdogSetAction(Command[None], wire_name="watchdog-set-action"):
    """Command `watchdog-set-action`, since 2.11."""

    action: WatchdogAction
