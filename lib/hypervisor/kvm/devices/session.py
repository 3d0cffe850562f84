# SPDX-License-Identifier: BSD-2-Clause
"""Hold a running instance while its hardware is changed, and survive the loss of a reply.

A command whose reply is lost may or may not have been executed. Only the machine knows, so it is asked over a fresh
connection, and what is done next follows from that.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import HotplugCause, HotplugError, InstanceStateError, ParameterError
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.host.state_file import write_runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.qemu.unplug import is_plugged_in, unplug
from hvkit.hypervisor.model import Disk, HotplugDevice, InstanceState, Nic
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline

T = TypeVar("T")


def is_loss(error: BaseException) -> bool:
    """Tell whether an error leaves open if what was asked of the machine was done."""
    return isinstance(error, (QmpError, InstanceStateError)) and not isinstance(error, CommandError)


@attrs.define
class HotplugSession:
    """An instance that is held: what is remembered of it, and a monitor.

    Attributes:
        instances: those of this node.
        handle: files of the instance.
        runtime: what is remembered of it now.
        monitor: of the machine; another one after `reconnect`.
    """

    handle: InstanceHandle
    runtime: Runtime
    monitor: QmpConnection
    _connections: ExitStack

    def persist(self, runtime: Runtime) -> None:
        """Write down what is to be remembered from now on.

        Raises:
            RuntimeStateError: it could not be written; what was remembered before still is.
        """
        write_runtime(self.handle.paths.runtime_file, runtime)
        self.runtime = runtime

    def reconnect(self) -> None:
        """Go on with a fresh connection, in the place of one that lost a reply.

        Raises:
            InstanceStateError: the machine has ended.
            ConnectError: it does not answer.
        """
        self.monitor.close()
        self.monitor = self._connections.enter_context(self.handle.connected())

    def retry_once(self, act: Callable[[QmpConnection], T]) -> T:
        """Do what may be done twice; where a reply is lost, do it again over a fresh connection.

        Raises:
            QmpError: QEMU refuses, or a reply was lost both times.
            InstanceStateError: the machine has ended.
        """
        try:
            return act(self.monitor)
        except QmpError as error:
            if not is_loss(error):
                raise
        self.reconnect()
        return act(self.monitor)

    def error(self, device: str, reason: str, cause: HotplugCause = HotplugCause.REFUSED) -> HotplugError:
        """Return the error that says what is wrong with a device of this instance."""
        return HotplugError(self.handle.name, device, reason, cause)

    def unplug(self, device: str, deadline: Deadline) -> None:
        """Have the guest let go of a device; what it stood on is still there afterwards.

        That it is being taken out is remembered already, for where the guest does not, it may do so later.

        Raises:
            HotplugError: the guest refuses, or does not do it before the deadline.
            QmpError: QEMU does not answer, or refuses.
        """
        cause = self.retry_once(lambda monitor: unplug(monitor, device, timeout_s=max(deadline.remaining_s(), 0.0)))
        if cause is HotplugCause.GUEST_REFUSED:
            raise self.error(device, "the guest refuses to let go of it", cause)
        if cause is not None:
            raise self.error(device, f"the guest did not let go of it within {deadline.timeout_s:g} s", cause)

    @contextlib.contextmanager
    def translate_errors(self, device: str) -> Iterator[None]:
        """Have what the machine says, or fails to say, be said of a device.

        Raises:
            HotplugError: with the cause REFUSED, or UNKNOWN where the machine does not answer.
        """
        try:
            yield
        except QmpError as error:
            cause = HotplugCause.UNKNOWN if is_loss(error) else HotplugCause.REFUSED
            raise self.error(device, str(error), cause) from error


@contextlib.contextmanager
def plugging(
    handle: InstanceHandle, problem: str, reconcile: Callable[[HotplugSession], None]
) -> Iterator[HotplugSession]:
    """Hold an instance that is RUNNING or PAUSED, for as long as the block lasts.

    Args:
        instances: those of this node.
        handle: files of the instance.
        problem: what cannot be done where it is in another state.
        reconcile: brings what is remembered and what the machine has together, where somebody died over a device.

    Raises:
        InstanceBusy: somebody else is working on it.
        InstanceStateError: it is neither RUNNING nor PAUSED, or does not answer.
    """
    with handle.locked(), ExitStack() as connections:
        handle.require_alive(problem)
        monitor = connections.enter_context(handle.connected())
        session = HotplugSession(handle, handle.load(), monitor, connections)
        try:
            reconcile(session)
        except QmpError as error:
            raise InstanceStateError(handle.name, InstanceState.UNRESPONSIVE.value, str(error)) from error
        yield session


@contextlib.contextmanager
def adding(session: HotplugSession, device: str, undo: Callable[[QmpConnection], None]) -> Iterator[None]:
    """Undo what was made for a device where the block that adds it fails.

    Where the block fails because a reply was lost, the machine is asked over a fresh connection if it has the device:
    if so, all is well. Where it does not answer even then, the device stays as it was remembered before the block.

    Args:
        session: the instance.
        device: the device's id. That it is being added is remembered already.
        undo: removes what is left of a device that the machine does not have, and forgets it. May be done twice.

    Raises:
        HotplugError: the device could not be added; with the cause UNKNOWN where that is not certain.
    """
    fate = f"what became of {device} is settled when the instance is next plugged on"
    try:
        yield
    except (QmpError, NetworkError) as error:
        try:
            has_it = _has_or_undo(session, device, undo, is_lost=is_loss(error))
        except (QmpError, InstanceStateError) as problem:
            raise session.error(device, f"{error}; {fate}: {problem}", HotplugCause.UNKNOWN) from error
        if not has_it:
            raise session.error(device, str(error)) from error
    except BaseException as error:
        try:
            _has_or_undo(session, device, undo, is_lost=False)
        except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"{fate}: {problem}")
        raise


def _has_or_undo(session: HotplugSession, device: str, undo: Callable[[QmpConnection], None], *, is_lost: bool) -> bool:
    """Tell whether the machine has a device whose adding failed, and remove what was made for it where it has not."""
    if is_lost:
        session.reconnect()
    if session.retry_once(lambda monitor: is_plugged_in(monitor, device)):
        return True
    session.retry_once(undo)
    return False


# ---- what is remembered, changed by one device


def find_disk(runtime: Runtime, disk: Disk) -> DeviceRecord:
    """Return the record of a disk, known by its uuid, of an instance.

    Raises:
        ParameterError: it has no disk of that uuid.
    """
    record = runtime.device(disk.uuid)
    if record is None or disk.uuid not in {each.uuid for each in runtime.instance.disks}:
        problem = f"{runtime.instance.name} has no disk of that uuid"
        raise ParameterError("Disk.uuid", str(disk.uuid), problem)
    return record


def with_record(runtime: Runtime, record: DeviceRecord) -> Runtime:
    """Return what is to be remembered with one record replaced, or added."""
    devices = tuple(record if each.uuid == record.uuid else each for each in runtime.devices)
    return attrs.evolve(runtime, devices=devices if record in devices else (*devices, record))


def with_device(runtime: Runtime, device: HotplugDevice, record: DeviceRecord) -> Runtime:
    """Return what is to be remembered with a device replaced, or added at the end.

    Raises:
        ParameterError: the instance could not have been started with it beside those that it has.
    """
    instance = runtime.instance
    if isinstance(device, Nic):
        nics = tuple(device if each.uuid == device.uuid else each for each in instance.nics)
        instance = attrs.evolve(instance, nics=nics if device in nics else (*nics, device))
    else:
        instance = attrs.evolve(instance, disks=(*instance.disks, device))
    return with_record(attrs.evolve(runtime, instance=instance), record)


def without_device(runtime: Runtime, uuid: UUID) -> Runtime:
    """Return what is to be remembered without a device."""
    instance = attrs.evolve(
        runtime.instance,
        disks=tuple(each for each in runtime.instance.disks if each.uuid != uuid),
        nics=tuple(each for each in runtime.instance.nics if each.uuid != uuid),
    )
    devices = tuple(each for each in runtime.devices if each.uuid != uuid)
    return attrs.evolve(runtime, instance=instance, devices=devices)
