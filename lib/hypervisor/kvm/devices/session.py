# SPDX-License-Identifier: BSD-2-Clause
"""Hotplug sessions: a locked instance, its persisted state and a monitor that is replaced when a reply is lost.

A command whose reply is lost may or may not have been executed. Only QEMU knows, so it is queried over a new
connection, and the answer decides how the operation continues.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import (
    HotplugCause,
    HotplugError,
    InstanceStateError,
    ParameterError,
    reason_of,
    translate_errors,
)
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.session import InstanceSession
from hvkit.hypervisor.kvm.qemu.unplug import is_plugged_in, unplug
from hvkit.hypervisor.model import Disk, HotplugDevice, InstanceState, Nic
from hvkit.qmp import CommandError, EventTimeout, QmpConnection, QmpError, Subscription
from hvkit.qmp.deadlines import Deadline

T = TypeVar("T")

#: Seconds that a guest has to release a device, unless the caller sets a timeout.
RELEASE_S: Final = 30.0


@attrs.define
class HotplugSession(InstanceSession):
    """A locked instance whose devices are being changed; `reconnect` replaces its monitor."""

    _connections: ExitStack

    def reconnect(self) -> None:
        """Replace the monitor connection by a new one.

        Raises:
            InstanceStateError: the process has ended.
            ConnectError: QEMU does not answer.
        """
        self.monitor.close()
        self.monitor = self._connections.enter_context(self.handle.connected())

    def retry_once(self, act: Callable[[QmpConnection], T]) -> T:
        """Call a function that may be repeated; if a reply is lost, repeat it over a new connection.

        Raises:
            QmpError: QEMU refused, or a reply was lost both times.
            InstanceStateError: the process has ended.
        """
        try:
            return act(self.monitor)
        except QmpError as error:
            if not is_outcome_unknown(error):
                raise
        self.reconnect()
        return act(self.monitor)

    def error(self, device: str, reason: str, cause: HotplugCause = HotplugCause.REFUSED) -> HotplugError:
        """Return an error about a device of this instance."""
        return HotplugError(self.handle.name, device, reason, cause)

    def unplug(self, device: str, deadline: Deadline) -> None:
        """Ask the guest to release a device and wait until QEMU has deleted it. Its backends remain.

        The caller has already marked the device as pending removal, because the guest may release it later.

        Raises:
            HotplugError: the guest refused, or did not release the device before the deadline.
            QmpError: QEMU refused, or does not answer.
        """
        cause = self.retry_once(lambda monitor: unplug(monitor, device, timeout_s=deadline.remaining_s()))
        if cause is HotplugCause.GUEST_REFUSED:
            raise self.error(device, "the guest refused to release it", cause)
        if cause is not None:
            raise self.error(device, f"the guest did not release it within {deadline.timeout_s:g} s", cause)

    @contextlib.contextmanager
    def translate_errors(self, device: str) -> Iterator[None]:
        """Translate failures inside the block into errors about a device, as `translate_hotplug_errors` does."""
        with translate_hotplug_errors(self.handle.name, device):
            yield


def is_outcome_unknown(error: BaseException) -> bool:
    """Return whether it is unknown if QEMU executed a command, because its reply was lost."""
    return isinstance(error, QmpError) and not isinstance(error, CommandError)


@contextlib.contextmanager
def translate_hotplug_errors(instance: str, device: str) -> Iterator[None]:
    """Translate failures inside the block, as `translate_errors` does, into a HotplugError that tells their cause.

    Args:
        instance: the name of the instance.
        device: the id of the device.

    Raises:
        HotplugError: with the cause UNKNOWN if a reply was lost, otherwise REFUSED.
    """
    with translate_errors(partial(HotplugError, instance, device)):
        try:
            yield
        except QmpError as error:
            if is_outcome_unknown(error):
                raise HotplugError(instance, device, error.reason, HotplugCause.UNKNOWN) from error
            raise


@contextlib.contextmanager
def hotplug_session(
    handle: InstanceHandle, problem: str, reconcile: Callable[[HotplugSession], None]
) -> Iterator[HotplugSession]:
    """Lock an instance that is RUNNING or PAUSED for the duration of the block, and reconcile its devices first.

    Args:
        handle: the instance.
        problem: what cannot be done if it is in another state.
        reconcile: brings persisted state and QEMU into agreement after an interrupted operation.

    Raises:
        InstanceBusy: another operation holds the lock for too long.
        InstanceStateError: the instance is neither RUNNING nor PAUSED, or its QEMU does not answer.
    """
    with handle.locked(), ExitStack() as connections:
        handle.require_alive(problem)
        try:
            monitor = connections.enter_context(handle.connected())
            session = HotplugSession(handle, handle.load(), monitor, connections)
            reconcile(session)
        except QmpError as error:
            reason = f"{problem}: {reason_of(error)}"
            raise InstanceStateError(handle.name, InstanceState.UNRESPONSIVE.value, reason) from error
        yield session


@contextlib.contextmanager
def rollback_on_failure(session: HotplugSession, device: str, undo: Callable[[QmpConnection], None]) -> Iterator[None]:
    """Undo the addition of a device if the block that adds it fails.

    If the block fails because a reply was lost, QEMU is queried over a new connection; if it has the device, the block
    has succeeded. If QEMU does not answer the query either, the device stays marked as pending addition.

    Args:
        session: the session of the instance.
        device: the id of the device, which is already marked as pending addition.
        undo: deletes the backends and the record of a device that the machine does not have. It may be repeated.

    Raises:
        HotplugError: the device was not added; with the cause UNKNOWN if QEMU does not answer.
        InstanceStateError: the process of the instance has ended.
    """
    later = f"the next hotplug operation reconciles {device}"
    try:
        yield
    except (QmpError, NetworkError) as error:
        try:
            if is_outcome_unknown(error):
                session.reconnect()
            is_added = _is_added_or_undone(session, device, undo)
        except QmpError as problem:
            raise session.error(
                device, f"{reason_of(error)}; {later}: {reason_of(problem)}", HotplugCause.UNKNOWN
            ) from error
        if not is_added:
            raise session.error(device, reason_of(error)) from error
    except BaseException as error:
        try:
            _is_added_or_undone(session, device, undo)
        except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"{later}: {problem}")
        raise


def _is_added_or_undone(session: HotplugSession, device: str, undo: Callable[[QmpConnection], None]) -> bool:
    """Return whether the machine has the device after all; if not, undo its addition."""
    if session.retry_once(lambda monitor: is_plugged_in(monitor, device)):
        return True
    session.retry_once(undo)
    return False


def wait_for_event(events: Subscription[Any]) -> Callable[[float], None]:
    """Return a function that waits for the next event, or for the given number of seconds: `wait` of `poll_until`."""

    def wait(timeout_s: float) -> None:
        with contextlib.suppress(EventTimeout):
            events.get(timeout=timeout_s)

    return wait


def require_disk_record(runtime: Runtime, disk: Disk) -> DeviceRecord:
    """Return the record of a disk, which is identified by its uuid.

    Raises:
        ParameterError: the instance has no such disk.
    """
    record = runtime.disk_record(disk.uuid)
    if record is None:
        raise ParameterError("Disk.uuid", str(disk.uuid), f"{runtime.instance.name} has no disk with this uuid")
    return record


def with_record(runtime: Runtime, record: DeviceRecord) -> Runtime:
    """Return the state with the record of one device replaced or appended."""
    devices = tuple(record if each.uuid == record.uuid else each for each in runtime.devices)
    return attrs.evolve(runtime, devices=devices if record in devices else (*devices, record))


def with_device(runtime: Runtime, device: HotplugDevice, record: DeviceRecord) -> Runtime:
    """Return the state with a NIC replaced, or with a NIC or a disk appended.

    Raises:
        ParameterError: the device conflicts with another device of the instance.
    """
    instance = runtime.instance
    if isinstance(device, Nic):
        nics = tuple(device if each.uuid == device.uuid else each for each in instance.nics)
        instance = attrs.evolve(instance, nics=nics if device in nics else (*nics, device))
    else:
        instance = attrs.evolve(instance, disks=(*instance.disks, device))
    return with_record(attrs.evolve(runtime, instance=instance), record)


def without_device(runtime: Runtime, uuid: UUID) -> Runtime:
    """Return the state without a device."""
    instance = attrs.evolve(
        runtime.instance,
        disks=tuple(each for each in runtime.instance.disks if each.uuid != uuid),
        nics=tuple(each for each in runtime.instance.nics if each.uuid != uuid),
    )
    devices = tuple(each for each in runtime.devices if each.uuid != uuid)
    return attrs.evolve(runtime, instance=instance, devices=devices)
