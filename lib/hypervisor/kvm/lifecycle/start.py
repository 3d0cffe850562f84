# SPDX-License-Identifier: BSD-2-Clause
"""Start of an instance. A failed start is undone completely.

Each step registers its undo, and is persisted in the state file before it is done. After a crash at any point the next
operation finds and terminates the process.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import InstanceError, InstanceStartError, InstanceStateError, RuntimeStateError, reason_of
from hvkit.hypervisor.kvm.host.accounts import kvm_groups
from hvkit.hypervisor.kvm.host.log import read_log_tail
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.process import Process, ProcessError, describe_exit
from hvkit.hypervisor.kvm.host.resources import allocate
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, DimmRecord, Phase, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.host.spawn import spawn
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation, prepare
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.machine_devices import SERIAL_ID
from hvkit.hypervisor.kvm.qemu.passwords import set_passwords
from hvkit.hypervisor.kvm.qemu.pinning import bind_threads
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance, InstanceState, check_kind
from hvkit.qmp import ConnectError, ConnectionLost, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, QueryName, QueryUuid

#: Seconds from the start of the process to the greeting of its monitor.
_GREETING_S: Final = 60.0
#: Additional seconds for each GiB of preallocated memory.
_PREALLOCATION_S_PER_GIB: Final = 2.0
#: The signals for the QEMU of a failed start, each with its timeout in seconds. QEMU has no data to flush, because the
#: guest never ran.
_UNDO_SIGNALS: Final = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0))
#: Seconds for a process to exit after its monitor was closed.
_EXIT_S: Final = 2.0


class _IdentityMismatch(Exception):
    """Raised when the QEMU that answers on the control monitor is not the one that was started."""


class StartVerbs(KvmSubject):
    """Starts instances."""

    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        """Start an instance.

        If the process of the caller is killed during the start, the instance is CRASHED afterwards, even if its QEMU
        still exists: its guest has not run.
        """
        check_kind(instance, Instance)
        handle = self._instances.handle(instance.name)
        instance = self._with_program(instance)
        preparation = prepare(instance, cache_dir=self._instances.find_cache_dir())
        self._instances.check_no_internal_paths(instance)
        self._instances.directory.make()
        with handle.locked():
            self._instances.check_reservable(instance, preparation.parameters)
            handle.reap_stopped("cannot be started")
            reserved = self._instances.reserving(instance, preparation.parameters)
            bring_up(preparation, handle, reserved, start_paused=start_paused)


def bring_up(
    preparation: Preparation,
    handle: InstanceHandle,
    reserved: AbstractContextManager[Account | None],
    *,
    start_paused: bool,
    await_guest: Callable[[QmpConnection], None] | None = None,
) -> None:
    """Start the QEMU of an instance, check its identity, and run the guest.

    The caller holds the lock, and the instance has no files. After failure the process has ended, its taps are removed,
    the network script has taken its interfaces down, and all files of the instance are removed.

    Args:
        preparation: the prepared instance.
        handle: its handle.
        reserved: yields the account for QEMU, and reserves it and the uuid until both are persisted.
        start_paused: leave the vCPUs stopped.
        await_guest: for an incoming migration, makes QEMU wait for the source; called instead of running the guest.

    Raises:
        InstanceStartError: the instance did not start. Its `log` is the end of QEMU's log.
        InstanceStateError: the instance did not start, and its process cannot be identified or ended. Its state stays
            persisted.
    """
    launch = None
    with ExitStack() as undo:
        try:
            undo.callback(handle.paths.remove)
            handle.paths.make()
            launch = _launch(preparation, handle, reserved, undo)
            _run(launch, handle, start_paused=start_paused, await_guest=await_guest)
            undo.pop_all()
        except BaseException as error:
            process = launch.process if launch is not None else None
            failure = _to_start_error(error, process, handle)
            try:
                _end_process(process, handle)
            except BaseException:
                undo.pop_all()  # the process may still use these; the next operation on the instance removes them
                raise
            if failure is None:
                raise
            raise failure from error
        finally:
            if launch is not None:
                launch.process.close()


@attrs.frozen
class _Launch:
    """A QEMU that was started, with its plan and the state to persist."""

    parameters: Mapping[str, Any]
    plan: MachinePlan
    runtime: Runtime
    process: Process


def _launch(
    preparation: Preparation,
    handle: InstanceHandle,
    reserved: AbstractContextManager[Account | None],
    undo: ExitStack,
) -> _Launch:
    """Persist the intent, allocate the resources that QEMU inherits, and start QEMU.

    Args:
        preparation: the prepared instance.
        handle: its handle.
        reserved: see `bring_up`.
        undo: the steps to undo after QEMU has ended are added to it.
    """
    with reserved as account:
        confinement = preparation.confine(account, root_dir=str(handle.paths.root_dir))
        runtime = _build_runtime(preparation, confinement)
        handle.persist(runtime)
    with ExitStack() as inherited:
        resources = allocate(preparation.request, confinement, handle.paths, inherited=inherited, cleanup=undo)
        plan = preparation.plan(resources)
        keeps_account = account is None or confinement.drops_account_itself
        process = spawn(
            build_argv(plan),
            log_file=handle.paths.log_file,
            pass_fds=resources.descriptors,
            account=None if keeps_account else account,
            groups=(account and kvm_groups(account)) or (),
        )
        return _Launch(preparation.parameters, plan, runtime, process)


def _build_runtime(preparation: Preparation, confinement: Confinement) -> Runtime:
    """Build the state to persist before the start. It does not depend on the allocated resources."""
    request = preparation.request
    plan = preparation.plan_with_placeholders()
    script = request.parameters["network_script"]
    disks = [DeviceRecord.of_disk(disk) for disk in plan.disks]
    nics = [
        DeviceRecord.of_nic(nic, planned.address, script=script)
        for nic, planned in zip(request.instance.nics, plan.nics, strict=True)
    ]
    return Runtime(
        instance=request.instance,
        phase=Phase.STARTING,
        binary=plan.binary,
        qemu_version=request.capabilities.version,
        machine_type=plan.machine.name,
        accelerator=plan.accelerator.name,
        accelerator_reason=plan.accelerator.reason,
        has_acpi=plan.has_acpi,
        has_serial=any(chardev.id == SERIAL_ID for chardev in plan.chardevs),
        topology=plan.topology,
        devices=(*disks, *nics),
        account=confinement.account,
        was_running=request.placement is None or request.placement.was_running,
        has_pid_file=confinement.opens_by_name,
        cpu_model=plan.processors.model,
        incoming_socket=preparation.incoming_socket,
        copies_target=preparation.copies_target,
        processors=tuple(ProcessorRecord(processor=each) for each in plan.processors.plugged),
        dimms=tuple(DimmRecord(dimm=each) for each in plan.dimms),
    )


def _run(
    launch: _Launch,
    handle: InstanceHandle,
    *,
    start_paused: bool,
    await_guest: Callable[[QmpConnection], None] | None,
) -> None:
    """Check the identity of the started QEMU, configure it, and run the guest. Each phase is persisted first."""
    runtime = attrs.evolve(launch.runtime, process=launch.process.identity)
    handle.persist(runtime)
    with ExitStack() as stack:
        monitor = QmpConnection(handle.paths.control_socket)
        stack.callback(monitor.close)
        gib = launch.plan.memory_mib / 1024 if launch.plan.memory.is_preallocated else 0
        monitor.connect(timeout=_GREETING_S + gib * _PREALLOCATION_S_PER_GIB)
        _check_identity(monitor, runtime.instance)
        set_passwords(monitor, launch.parameters)
        bind_threads(monitor, launch.process, launch.plan)
        _limit_disks(monitor, runtime.instance, launch.parameters)
        if await_guest is not None:
            handle.persist(attrs.evolve(runtime, phase=Phase.INCOMING))
            await_guest(monitor)
            return
        # Extra arguments may add monitors that hvkit does not know.
        if not launch.parameters["kvm_extra"]:
            handle.mark_balloon_unused()
        # From here on the guest may have run: an interrupted start must not be undone any more.
        handle.persist(attrs.evolve(runtime, phase=Phase.RUNNING))
        if not start_paused:
            monitor.execute(Cont())


def _check_identity(monitor: QmpConnection, instance: Instance) -> None:
    """Check that the QEMU behind a monitor is that of the instance.

    Raises:
        _IdentityMismatch: its name or uuid differs.
    """
    uuid = monitor.execute(QueryUuid()).UUID
    name = monitor.execute(QueryName()).name
    if (uuid, name) != (str(instance.uuid), instance.name):
        raise _IdentityMismatch(f"the QEMU that answers has name {name} and uuid {uuid}")


def _limit_disks(monitor: QmpConnection, instance: Instance, parameters: Mapping[str, Any]) -> None:
    """Set the I/O limits of the disks that have any."""
    for disk in instance.disks:
        if disk.limits is not None:
            monitor.execute(build_limits(disk, DiskSettings.from_parameters(parameters)))


def _to_start_error(error: BaseException, process: Process | None, handle: InstanceHandle) -> InstanceStartError | None:
    """Translate the error of a failed start; None for an error that is to be raised unchanged."""
    if not isinstance(error, (ProcessError, NetworkError, QmpError, RuntimeStateError, _IdentityMismatch)):
        return None
    reason = reason_of(error)
    # A QEMU that fails to start closes its monitor and exits; its log has the reason.
    if process is not None and process.wait(_EXIT_S if isinstance(error, (ConnectError, ConnectionLost)) else 0):
        reason = describe_exit(process.identity)
    return InstanceStartError(handle.name, reason, read_log_tail(handle.paths.log_file))


def _end_process(process: Process | None, handle: InstanceHandle) -> None:
    """End the QEMU of a failed start.

    Args:
        process: the QEMU; None if it was not started, or if an interruption left that unknown.
        handle: the handle of the instance.

    Raises:
        InstanceStateError: it cannot be identified or ended.
    """
    try:
        process = process or find_process(None, handle.paths)
        if process is not None:
            with process:
                if not process.end(_UNDO_SIGNALS):
                    raise ProcessError(f"process {process.identity.pid} survives SIGKILL: it is blocked in the kernel")
    except (InstanceError, ProcessError) as error:
        problem = f"did not start, and its QEMU may be running: {reason_of(error)}"
        raise InstanceStateError(handle.name, InstanceState.UNRESPONSIVE.value, problem) from error
