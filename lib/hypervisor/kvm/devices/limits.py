# SPDX-License-Identifier: BSD-2-Clause
"""Limit what a guest does with the disks of a running machine.

The new limits are remembered, with a mark that the machine may not have them yet, before it is told of them. Whoever
dies in between leaves a disk that has the old or the new ones; the next one to work on it sets the new ones.
"""

import logging
from typing import Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import HotplugCause, HotplugError
from hvkit.hypervisor.kvm.devices.session import HotplugSession, find_disk, plugging, with_record
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits, check_can_be_limited
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.model import Disk, DiskLimits
from hvkit.qmp import CommandError

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")


def limit(handle: InstanceHandle, disk: Disk, limits: DiskLimits | None) -> None:
    """Change the limits of a disk, as `BaseHypervisor.limit_disk` says.

    Raises:
        ParameterError: the instance has no such disk, or one that cannot be limited.
        InstanceStateError: it is neither RUNNING nor PAUSED.
        HotplugError: QEMU refuses the limits, which are the old ones then, or does not answer.
    """
    with plugging(handle, "its disks cannot be limited", reconcile_limits) as session:
        before = session.runtime
        record = attrs.evolve(find_disk(before, disk), awaits_limits=True)
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
    """Set the limits of disks that await theirs.

    Raises:
        QmpError: the machine does not answer.
    """
    for record in session.runtime.devices:
        if record.awaits_limits:
            try:
                set_limits(session, record)
            except CommandError as error:  # the disk has gone; who works on that comes by here
                _log.warning("%s: device %s: its limits are not set: %s", session.handle.name, record.device, error)


def set_limits(session: HotplugSession, record: DeviceRecord) -> None:
    """Tell the machine how a disk is limited, and remember that it knows.

    Raises:
        CommandError: it refuses.
        QmpError: it does not answer.
        InstanceStateError: it has ended.
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
