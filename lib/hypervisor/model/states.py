# SPDX-License-Identifier: BSD-2-Clause
"""Enumerations: states of instances and migrations, causes of stops, capabilities, kinds of devices and consoles."""

from __future__ import annotations

import enum


class InstanceState(enum.Enum):
    """The state of an instance, from its start until its cleanup.

    Attributes:
        RUNNING: the vCPUs run.
        PAUSED: the vCPUs are stopped; the guest has neither shut down nor crashed.
        SHUTDOWN: it was shut down: the guest powered off, or it was stopped on request.
        CRASHED: it crashed: its process ended unexpectedly, or the guest panicked.
        MIGRATING: it is being migrated to or from another node.
        UNRESPONSIVE: its process exists, but its monitor does not answer.
    """

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    MIGRATING = "migrating"
    UNRESPONSIVE = "unresponsive"

    @property
    def is_over(self) -> bool:
        """Whether the instance is SHUTDOWN or CRASHED: it can be cleaned up or started again.

        Its process may still exist; `stop_instance`, `cleanup_instance` and `start_instance` end it.
        """
        return self in (InstanceState.SHUTDOWN, InstanceState.CRASHED)

    @property
    def is_alive(self) -> bool:
        """Whether the instance is RUNNING or PAUSED, which most operations require."""
        return self in (InstanceState.RUNNING, InstanceState.PAUSED)


class StopCause(enum.Enum):
    """The cause of the pause or the stop of an instance.

    Attributes:
        GUEST: the guest: it powered off or suspended, or it rebooted and its parameters turn that into a stop.
        REQUEST: a request from outside: by the hypervisor, by another client of the monitor, or by a signal.
        PANIC: a panic of the guest's kernel.
        DISK: an I/O error, or a full disk.
        WATCHDOG: the guest's watchdog device.
        QEMU: QEMU failed, or was killed.
        NODE: a reboot of the node.
    """

    GUEST = "guest"
    REQUEST = "request"
    PANIC = "panic"
    DISK = "disk"
    WATCHDOG = "watchdog"
    QEMU = "qemu"
    NODE = "node"


class Capability(enum.Enum):
    """An optional part of the hypervisor interface. A plugin has it if it overrides all of its methods."""

    ADOPT = "adopt"
    BACKUP = "backup"
    BALLOON = "balloon"
    CONSOLE = "console"
    DUMP = "dump"
    HOTPLUG = "hotplug"
    LIMIT_DISK = "limit-disk"
    MEDIA = "media"
    MEMORY = "memory"
    MIGRATION = "migration"
    MONITOR = "monitor"
    PAUSE = "pause"
    POWERCYCLE = "powercycle"
    RESIZE_DISK = "resize-disk"
    RESTORE = "restore"
    SCREENSHOT = "screenshot"
    SNAPSHOT = "snapshot"
    VCPUS = "vcpus"


class DeviceKind(enum.Enum):
    """A kind of device that can be hot-added."""

    DISK = "disk"
    NIC = "nic"


class MediaDrive(enum.Enum):
    """A drive with removable media."""

    CDROM = "cdrom"
    CDROM2 = "cdrom2"
    FLOPPY = "floppy"


class DeviceAction(enum.Enum):
    """An operation on a device of a running instance."""

    ADD = "hotadd"
    REMOVE = "hotremove"
    MODIFY = "hotmod"


class ConsoleKind(enum.Enum):
    """How to connect to a console."""

    SERIAL = "serial"
    VNC = "vnc"
    SPICE = "spice"
    MESSAGE = "message"


class MigrationState(enum.Enum):
    """The state of a migration. After FAILED and CANCELLED the instance is on its source.

    Attributes:
        NONE: there is no migration.
        ACTIVE: precopy: the guest runs on the source, and its memory is being sent.
        POSTCOPY: the guest runs on the destination, and fetches the rest of its memory. It needs both nodes, and the
            migration cannot be cancelled.
        PAUSED: as POSTCOPY, but the connection is broken. The guest blocks when it needs memory that is missing.
        COMPLETED: the guest is on the destination, with all of its memory.
        FAILED: it failed before the switchover.
        CANCELLED: it was cancelled before the switchover.
    """

    NONE = "none"
    ACTIVE = "active"
    POSTCOPY = "postcopy"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self in (MigrationState.COMPLETED, MigrationState.FAILED, MigrationState.CANCELLED)
