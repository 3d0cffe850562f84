# SPDX-License-Identifier: BSD-2-Clause
"""Start of a prepared instance: completely, or not at all.

Each step registers how it is undone, and the state file is written before the step. After a crash at any point the next
operation finds and terminates the process.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import InstanceStartError, InstanceStateError, RuntimeStateError
from hvkit.hypervisor.kvm.host.accounts import kvm_groups
from hvkit.hypervisor.kvm.host.listeners import find_listener
from hvkit.hypervisor.kvm.host.log import read_log_tail
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.process import Process, ProcessError, describe_exit, open_process
from hvkit.hypervisor.kvm.host.resources import allocate
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, DimmRecord, Phase, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.host.spawn import spawn
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.machine_devices import SERIAL_ID
from hvkit.hypervisor.kvm.qemu.passwords import give_passwords
from hvkit.hypervisor.kvm.qemu.pinning import bind_threads
from hvkit.hypervisor.model import Instance, InstanceState
from hvkit.qmp import ConnectError, ConnectionLost, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, QueryName, QueryUuid

#: Seconds from the start of the process to its monitor's first answer.
_GREETING_S: Final = 60.0
#: Seconds more for each GiB of memory that is taken beforehand.
_TAKING_S_PER_GIB: Final = 2.0
#: How a QEMU that did not come up is ended: it has nothing to write out, since its guest never ran.
_UNDO_SIGNALS: Final = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0))
#: Seconds in which a process whose monitor went away is expected to end.
_END_S: Final = 2.0


class _Mistaken(Exception):
    """Raised when the machine that answers is not the one that was started."""


def bring_up(
    preparation: Preparation,
    handle: InstanceHandle,
    reserved: AbstractContextManager[Account | None],
    *,
    start_paused: bool,
    await_guest: Callable[[QmpConnection], None] | None = None,
) -> None:
    """Start the QEMU of an instance, make sure that it is the right one, and let it run.

    The caller holds the instance's lock, and nothing of an earlier life is there. After failure its process and taps
    are gone, what its network script set up is taken down, and all of its files are removed.

    Args:
        preparation: of the instance.
        handle: its files.
        reserved: gives the account that QEMU runs as; that, and the uuid, are nobody else's until they are remembered.
        start_paused: leave its processors standing still.
        await_guest: for a machine whose guest comes from another node, has it wait for that; it runs when it came.

    Raises:
        InstanceStartError: it did not come up; carries the end of what QEMU said.
        InstanceStateError: it did not come up, and its process cannot be found or ended. It is remembered.
    """
    launch = None
    with ExitStack() as unmaking:
        try:
            unmaking.callback(handle.paths.remove)
            handle.paths.make()
            launch = _launch(preparation, handle, reserved, unmaking)
            _let_run(launch, handle, start_paused=start_paused, await_guest=await_guest)
            unmaking.pop_all()
        except BaseException as error:
            process = launch.process if launch is not None else None
            failure = _explain(error, process, preparation, handle)
            try:
                _end_started(process, handle)
            except BaseException:
                unmaking.pop_all()  # what it uses is left to whoever finds it
                raise
            if failure is None:
                raise
            raise failure from error
        finally:
            if launch is not None:
                launch.process.close()


@attrs.frozen
class _Launch:
    """A QEMU that was started: what it is to be, what is to be remembered of it, and its process."""

    parameters: Mapping[str, Any]
    plan: MachinePlan
    runtime: Runtime
    process: Process


def _launch(
    preparation: Preparation,
    handle: InstanceHandle,
    reserved: AbstractContextManager[Account | None],
    unmaking: ExitStack,
) -> _Launch:
    """Note down what will be, make what QEMU inherits, and start QEMU.

    What has to be undone once QEMU has ended is put on `unmaking`.
    """
    with reserved as account:
        confinement = preparation.confine(account, root_dir=str(handle.paths.root_dir))
        runtime = _describe(preparation, confinement)
        handle.persist(runtime)
    with ExitStack() as inherited:
        resources = allocate(preparation.request, confinement, handle.paths, inherited=inherited, cleanup=unmaking)
        plan = preparation.plan(resources)
        is_ours = account is None or confinement.drops_account_itself
        process = spawn(
            build_argv(plan),
            log_file=handle.paths.log_file,
            pass_fds=resources.descriptors,
            account=None if is_ours else account,
            groups=(account and kvm_groups(account)) or (),
        )
        return _Launch(preparation.parameters, plan, runtime, process)


def _describe(preparation: Preparation, confinement: Confinement) -> Runtime:
    """Return the state to persist before QEMU is started. It names no descriptors: these are of no use later."""
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


def _let_run(
    launch: _Launch,
    handle: InstanceHandle,
    *,
    start_paused: bool,
    await_guest: Callable[[QmpConnection], None] | None,
) -> None:
    """Check the machine that came up, configure it and let it run, each noted down before it is done."""
    runtime = attrs.evolve(launch.runtime, process=launch.process.identity)
    handle.persist(runtime)
    with ExitStack() as stack:
        monitor = QmpConnection(handle.paths.control_socket)
        stack.callback(monitor.close)
        gib = launch.plan.memory_mib / 1024 if launch.plan.memory.is_preallocated else 0
        monitor.connect(timeout=_GREETING_S + gib * _TAKING_S_PER_GIB)
        _check_identity(monitor, runtime.instance)
        give_passwords(monitor, launch.parameters)
        bind_threads(monitor, launch.process, launch.plan)
        _limit_disks(monitor, runtime.instance, launch.parameters)
        if await_guest is not None:
            handle.persist(attrs.evolve(runtime, phase=Phase.INCOMING))
            await_guest(monitor)
            return
        # From here on the guest may have run: whoever finds this must not take it for a start that can be undone.
        handle.persist(attrs.evolve(runtime, phase=Phase.RUNNING))
        if not start_paused:
            monitor.execute(Cont())


def _check_identity(monitor: QmpConnection, instance: Instance) -> None:
    """Make sure that it is our machine that answers.

    Raises:
        _Mistaken: it is another one.
    """
    uuid = monitor.execute(QueryUuid()).UUID
    name = monitor.execute(QueryName()).name
    if (uuid, name) != (str(instance.uuid), instance.name):
        raise _Mistaken(f"the machine that answers calls itself {name}, with uuid {uuid}")


def _limit_disks(monitor: QmpConnection, instance: Instance, parameters: Mapping[str, Any]) -> None:
    """Limit the disks that have limits, while nobody uses them yet."""
    for disk in instance.disks:
        if disk.limits is not None:
            monitor.execute(build_limits(disk, DiskSettings.from_parameters(parameters)))


def _explain(
    error: BaseException, process: Process | None, preparation: Preparation, handle: InstanceHandle
) -> InstanceStartError | None:
    """Say what kept an instance from coming up; None where the error says that itself."""
    if not isinstance(error, (ProcessError, NetworkError, QmpError, RuntimeStateError, _Mistaken)):
        return None
    reason = str(error)
    # A monitor that goes away is how a QEMU that gives up is noticed; why is in its log.
    if process is not None and process.wait(_END_S if isinstance(error, (ConnectError, ConnectionLost)) else 0):
        reason = describe_exit(process.identity)
    return InstanceStartError(preparation.instance.name, reason, read_log_tail(handle.paths.log_file))


def _end_started(process: Process | None, handle: InstanceHandle) -> None:
    """End what was started.

    Args:
        process: the QEMU; None where none was started, or nobody knows: who was interrupted may have started it.
        handle: the instance's files.

    Raises:
        InstanceStateError: it cannot be found or ended.
    """
    try:
        process = process or _find_started(handle)
        if process is not None:
            with process:
                if not process.end(_UNDO_SIGNALS):
                    raise ProcessError(f"process {process.identity.pid} cannot be ended: the kernel holds it")
    except ProcessError as error:
        problem = f"it did not come up, and what was started may be there: {error}"
        raise InstanceStateError(handle.name, InstanceState.UNRESPONSIVE.value, problem) from error


def _find_started(handle: InstanceHandle) -> Process | None:
    identity = find_listener(handle.paths.control_socket, handle.paths.pid_file)
    return None if identity is None else open_process(identity)
