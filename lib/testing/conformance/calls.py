# SPDX-License-Identifier: BSD-2-Clause
"""Sample calls of the methods of `BaseHypervisor`, with valid arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import (
    Backup,
    BaseHypervisor,
    Capability,
    DeviceAction,
    DeviceKind,
    Disk,
    DiskCopies,
    DiskLimits,
    DiskRate,
    ExternalInstance,
    Instance,
    MediaDrive,
    MigrationInfo,
    Nic,
    ParameterError,
)
from hvkit.hypervisor.base import OPTIONAL_METHODS

BAD_NAMES: Final = ("", ".", "..", "../x", "a/b", "/etc/passwd", "-rf", "a..b", "a b", "a\nb", "a\0b", "ü", "x" * 255)

#: Invalid timeouts, and the error that each raises.
BAD_TIMEOUTS: Final = (
    (-1, ParameterError),
    (math.nan, ParameterError),
    ("5", ProgrammerError),
    (True, ProgrammerError),
)

DISK: Final = Disk(path="/nonexistent")
_NIC: Final = Nic(mac="52:54:00:12:34:56", mode="user")
_INSTANCE: Final = Instance(name="conform", memory_mib=16)
_EXTERNAL: Final = ExternalInstance(
    monitor="/nonexistent/monitor",
    name="conform",
    uuid=None,
    pid=1,
    start_ticks=0,
    uid=0,
    gid=0,
    binary="/nonexistent/program",
    version=(0, 0, 0),
    machine_type="none",
    has_kvm=False,
    has_acpi=False,
    memory_mib=16,
    vcpus=1,
    status="running",
    is_running=True,
)
_INFO: Final = MigrationInfo(instance="conform", hypervisor="none")

Call = Callable[[BaseHypervisor, str], object]

#: Calls of the required methods that take the name of an instance.
BY_NAME: Final[Mapping[str, Call]] = {
    "stop_instance": lambda hypervisor, name: hypervisor.stop_instance(name, force=True),
    "reboot_instance": lambda hypervisor, name: hypervisor.reboot_instance(name),
    "cleanup_instance": lambda hypervisor, name: hypervisor.cleanup_instance(name),
    "get_instance_info": lambda hypervisor, name: hypervisor.get_instance_info(name),
}

#: Calls of the optional methods.
OPTIONAL: Final[Mapping[str, Call]] = {
    "balloon_instance_memory": lambda hypervisor, name: hypervisor.balloon_instance_memory(name, 16),
    "set_instance_vcpus": lambda hypervisor, name: hypervisor.set_instance_vcpus(name, 1),
    "set_instance_memory": lambda hypervisor, name: hypervisor.set_instance_memory(name, 16),
    "get_instance_console": lambda hypervisor, name: hypervisor.get_instance_console(name),
    "monitor": lambda hypervisor, name: hypervisor.monitor(name).__enter__(),
    "pause_instance": lambda hypervisor, name: hypervisor.pause_instance(name),
    "resume_instance": lambda hypervisor, name: hypervisor.resume_instance(name),
    "verify_hotplug_support": lambda hypervisor, name: hypervisor.verify_hotplug_support(
        name, DeviceAction.ADD, DeviceKind.DISK
    ),
    "hot_add_device": lambda hypervisor, name: hypervisor.hot_add_device(name, DISK),
    "hot_del_device": lambda hypervisor, name: hypervisor.hot_del_device(name, DISK),
    "hot_mod_device": lambda hypervisor, name: hypervisor.hot_mod_device(name, _NIC),
    "inspect_monitor": lambda hypervisor, _name: hypervisor.inspect_monitor("/nonexistent/monitor"),
    "adopt_instance": lambda hypervisor, name: hypervisor.adopt_instance(_EXTERNAL, name=name),
    "get_instance_screenshot": lambda hypervisor, name: hypervisor.get_instance_screenshot(name),
    "get_dump_formats": lambda hypervisor, name: hypervisor.get_dump_formats(name),
    "dump_instance_memory": lambda hypervisor, name: hypervisor.dump_instance_memory(name, "/nonexistent/dump"),
    "resize_disk": lambda hypervisor, name: hypervisor.resize_disk(name, DISK, 1 << 20),
    "limit_disk": lambda hypervisor, name: hypervisor.limit_disk(name, DISK, DiskLimits(total_bytes=DiskRate(1 << 20))),
    "change_medium": lambda hypervisor, name: hypervisor.change_medium(name, MediaDrive.CDROM, "/nonexistent"),
    "eject_medium": lambda hypervisor, name: hypervisor.eject_medium(name, MediaDrive.CDROM),
    "migration_info": lambda hypervisor, name: hypervisor.migration_info(name),
    "find_migration_obstacles": lambda hypervisor, _name: hypervisor.find_migration_obstacles(_INSTANCE, _INFO),
    "accept_instance": lambda hypervisor, _name: hypervisor.accept_instance(_INSTANCE, _INFO, "127.0.0.1"),
    "copy_disks": lambda hypervisor, name: hypervisor.copy_disks(name, DiskCopies(target="/x")),
    "get_disk_copies": lambda hypervisor, name: hypervisor.get_disk_copies(name),
    "migrate_instance": lambda hypervisor, name: hypervisor.migrate_instance(name, "127.0.0.1"),
    "get_migration_status": lambda hypervisor, name: hypervisor.get_migration_status(name),
    "follow_migration": lambda hypervisor, name: hypervisor.follow_migration(name),
    "abort_migration": lambda hypervisor, name: hypervisor.abort_migration(name),
    "start_postcopy": lambda hypervisor, name: hypervisor.start_postcopy(name),
    "pause_migration": lambda hypervisor, name: hypervisor.pause_migration(name),
    "resume_migration_destination": lambda hypervisor, name: hypervisor.resume_migration_destination(name, "/x"),
    "resume_migration_source": lambda hypervisor, name: hypervisor.resume_migration_source(name, "/x"),
    "finalize_migration_source": lambda hypervisor, name: hypervisor.finalize_migration_source(name, True, True),
    "finalize_migration_destination": lambda hypervisor, _name: hypervisor.finalize_migration_destination(
        _INSTANCE, _INFO, True
    ),
    "save_snapshot": lambda hypervisor, name: hypervisor.save_snapshot(name, "tag"),
    "load_snapshot": lambda hypervisor, name: hypervisor.load_snapshot(name, "tag"),
    "delete_snapshot": lambda hypervisor, name: hypervisor.delete_snapshot(name, "tag"),
    "get_snapshots": lambda hypervisor, name: hypervisor.get_snapshots(name),
    "add_overlays": lambda hypervisor, name: hypervisor.add_overlays(name, {DISK.uuid: "/nonexistent/overlay"}),
    "merge_overlays": lambda hypervisor, name: hypervisor.merge_overlays(name, [DISK.uuid]),
    "backup_disks": lambda hypervisor, name: hypervisor.backup_disks(
        name, Backup(files={DISK.uuid: "/nonexistent/backup"})
    ),
    "abort_backup": lambda hypervisor, name: hypervisor.abort_backup(name),
    "get_checkpoints": lambda hypervisor, name: hypervisor.get_checkpoints(name),
    "drop_checkpoint": lambda hypervisor, name: hypervisor.drop_checkpoint(name, "monday"),
    "verify_instance": lambda hypervisor, name: hypervisor.verify_instance(name),
    "restore_instance": lambda hypervisor, name: hypervisor.restore_instance(name),
    "powercycle_node": lambda hypervisor, _name: hypervisor.powercycle_node(),
}

#: Optional methods that raise `InstanceNotFound` for an unknown instance.
OPTIONAL_BY_NAME: Final = tuple(
    method
    for method in OPTIONAL
    if method
    not in (
        "accept_instance",
        "adopt_instance",
        "inspect_monitor",
        "finalize_migration_destination",
        "finalize_migration_source",
        "find_migration_obstacles",
        "powercycle_node",
    )
)

#: Optional methods that do not hold the lock of the instance: queries, and methods for use during `follow_migration`.
_WITHOUT_LOCK: Final = frozenset(
    {
        "follow_migration",
        "get_checkpoints",
        "get_disk_copies",
        "get_dump_formats",
        "get_instance_console",
        "get_instance_screenshot",
        "get_migration_status",
        "get_snapshots",
        "migration_info",
        "monitor",
        "pause_migration",
        "verify_hotplug_support",
        "verify_instance",
    }
)

#: Optional methods that raise `InstanceBusy` while another operation holds the lock of the instance.
OPTIONAL_LOCKED: Final = tuple(method for method in OPTIONAL_BY_NAME if method not in _WITHOUT_LOCK)

#: Optional methods that are allowed on a stopped instance. All others raise `InstanceStateError`.
_ALLOWED_WHEN_STOPPED: Final = frozenset({"abort_backup", "restore_instance", "verify_instance"})

OPTIONAL_NOT_WHEN_STOPPED: Final = tuple(method for method in OPTIONAL_BY_NAME if method not in _ALLOWED_WHEN_STOPPED)


def call_optional_method(hypervisor: BaseHypervisor, method: str, name: str) -> object:
    """Call an optional method on an instance with valid arguments, and return its result."""
    return OPTIONAL[method](hypervisor, name)


def capability_of(method: str) -> Capability:
    """Return the capability that an optional method belongs to."""
    return next(capability for capability, methods in OPTIONAL_METHODS.items() if method in methods)
