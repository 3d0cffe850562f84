# SPDX-License-Identifier: BSD-2-Clause
"""I/O limits of disks of running instances.

The new limits are persisted, marked as not yet set, before the command is sent to QEMU. After a crash between the two
steps, the disk has the old or the new limits; the next operation on the devices of the instance sets the new ones.
"""

import logging
from typing import Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import HotplugCause, HotplugError
from hvkit.hypervisor.kvm.devices.session import HotplugSession, hotplug_session, require_disk_record, with_record
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits, check_can_be_limited
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Disk, DiskLimits, check_kind
from hvkit.qmp import CommandError

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")


class DiskLimitVerbs(KvmSubject):
    """The verb of the capability LIMIT_DISK."""

    def limit_disk(self, name: str, disk: Disk, limits: DiskLimits | None) -> None:
        check_kind(disk, Disk)
        check_kind(limits, DiskLimits, type(None))
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot change the limits of a disk", reconcile_limits) as session:
            before = session.runtime
            record = attrs.evolve(require_disk_record(before, disk), awaits_limits=True)
            check_can_be_limited(attrs.evolve(disk, limits=limits), _settings(before))
            session.persist(with_record(_with_limits(before, disk.uuid, limits), record))
            try:
                with session.translate_errors(record.device):
                    set_limits(session, record)
            except HotplugError as error:
                if error.cause is HotplugCause.REFUSED:
                    session.persist(before)
                raise


def reconcile_limits(session: HotplugSession) -> None:
    """Set the limits of disks that are marked as not having them yet.

    Raises:
        QmpError: QEMU does not answer.
    """
    for record in session.runtime.devices:
        if record.awaits_limits:
            try:
                set_limits(session, record)
            except CommandError as error:  # QEMU does not have the disk, which `reconcile_devices` handles
                name = session.handle.name
                _log.warning("%s: device %s: its limits are not set: %s", name, record.device, error.reason)


def set_limits(session: HotplugSession, record: DeviceRecord) -> None:
    """Set the limits of a disk in QEMU, and persist that they are set.

    Raises:
        CommandError: QEMU refused.
        QmpError: QEMU does not answer.
        InstanceStateError: the process has ended.
    """
    disk = next(disk for disk in session.runtime.instance.disks if disk.uuid == record.uuid)
    command = build_limits(disk, _settings(session.runtime))
    session.retry_once(lambda monitor: monitor.execute(command))
    session.persist(with_record(session.runtime, attrs.evolve(record, awaits_limits=False)))


def _settings(runtime: Runtime) -> DiskSettings:
    return DiskSettings.from_parameters(TABLE.fill(runtime.instance.parameters))


def _with_limits(runtime: Runtime, uuid: UUID, limits: DiskLimits | None) -> Runtime:
    disks = [attrs.evolve(disk, limits=limits) if disk.uuid == uuid else disk for disk in runtime.instance.disks]
    return attrs.evolve(runtime, instance=attrs.evolve(runtime.instance, disks=tuple(disks)))
