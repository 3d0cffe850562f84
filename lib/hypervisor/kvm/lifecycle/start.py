# SPDX-License-Identifier: BSD-2-Clause
"""Bring an instance up: all of it, or nothing.

Preparing looks and decides, and makes nothing. Bringing up makes one thing after the other, each with its undoing, and
keeps what is remembered ahead of what exists: whoever dies here leaves something that the next one can find and end.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import InstanceStartError, InstanceStateError, ProgramError, RuntimeStateError
from hvkit.hypervisor.kvm.host.accounts import kvm_groups
from hvkit.hypervisor.kvm.host.disks import read_block_devices
from hvkit.hypervisor.kvm.host.firmware import choose_firmware
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.nics import plan_interface
from hvkit.hypervisor.kvm.host.node_checks import NODE_TABLE, resolve_interfaces
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.host.process import (
    Process,
    ProcessError,
    describe_exit,
    find_listener,
    open_process,
    read_log_tail,
    spawn,
)
from hvkit.hypervisor.kvm.host.resources import HostResources, allocate, imagine_ends
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, DimmRecord, Phase, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement, plan_confinement
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits
from hvkit.hypervisor.kvm.plan.firmware import Firmware
from hvkit.hypervisor.kvm.plan.machine import MachinePlan, Placement
from hvkit.hypervisor.kvm.plan.machine_devices import SERIAL_ID
from hvkit.hypervisor.kvm.plan.planning import plan_machine
from hvkit.hypervisor.kvm.qemu.passwords import give_passwords
from hvkit.hypervisor.kvm.qemu.pinning import bind_threads
from hvkit.hypervisor.model import Instance, InstanceState
from hvkit.qmp import ConnectError, ConnectionLost, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, DeviceAdd, QueryName, QueryUuid

#: Seconds from the start of the process to its monitor's first answer.
_GREETING_S: Final = 60.0
#: Seconds more for each GiB of memory that is taken beforehand.
_TAKING_S_PER_GIB: Final = 2.0
#: How a QEMU that did not come up is ended: it has nothing to write out, since its guest never ran.
_UNDO_SIGNALS: Final = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0))
#: Stands for a descriptor where nothing will be started.
_NO_FD: Final = -1
#: Seconds in which a process whose monitor went away is expected to end.
_END_S: Final = 2.0


class _Mistaken(Exception):
    """Raised when the machine that answers is not the one that was started."""


@attrs.frozen(kw_only=True)
class Preparation:
    """What was found out about an instance that is to be started.

    Attributes:
        instance: the instance.
        parameters: its parameters, filled and checked.
        capabilities: of the QEMU program.
        accelerator: what will run the guest's instructions.
        block_devices: uuids of the disks that are block devices.
        firmware: the UEFI firmware that was found for it; None for QEMU's own BIOS.
        placement: where its devices have to sit, if it comes from another node; None for a new machine.
        incoming_socket: the unix socket on which it will wait for its guest; empty for none.
        copies_target: the address at which its disks will be written to meanwhile; empty for none.
    """

    instance: Instance
    parameters: Mapping[str, Any]
    capabilities: Capabilities
    accelerator: Accelerator
    block_devices: frozenset[UUID]
    firmware: Firmware | None = None
    placement: Placement | None = None
    incoming_socket: str = ""
    copies_target: str = ""

    def plan(self, resources: HostResources) -> MachinePlan:
        """Plan the machine, as `plan_machine` does. It can be planned with any ends if it can with some."""
        return plan_machine(
            self.instance,
            self.parameters,
            self.capabilities,
            self.accelerator,
            resources.sockets,
            resources.taps,
            block_devices=self.block_devices,
            disk_files=resources.disk_files,
            firmware=self.firmware,
            files=resources.files,
            confinement=resources.confinement,
            placement=self.placement,
        )

    def confine(self, account: Account | None, handle: InstanceHandle | None) -> Confinement:
        """Plan what QEMU is confined to, as `plan_confinement` does; without `handle` for a look only."""
        has_kvm = self.accelerator.name == "kvm"
        return plan_confinement(
            self.parameters,
            self.capabilities,
            account=account,
            root_dir="" if handle is None else str(handle.paths.root_dir),
            can_open_devices=not has_kvm or account is None or kvm_groups(account) is not None,
        )

    def imagine_ends(self) -> HostResources:
        """Return what stands for the ends that will be made, in a plan that nobody starts."""
        return imagine_ends(self.instance, self.confine(None, None))


def prepare(instance: Instance, *, cache_dir: Path | None) -> Preparation:
    """Look at everything that an instance needs on this node, and find out whether it can be planned. Makes nothing.

    Args:
        instance: what is to be started.
        cache_dir: where to keep what a QEMU program can do; None: nowhere.

    Raises:
        ParameterError: a parameter or a disk cannot be used, or they do not go together.
        InstanceStartError: the program is not QEMU, or too old.
    """
    parameters = resolve_interfaces(NODE_TABLE.validate(instance.parameters))
    block_devices = read_block_devices(instance.disks)
    try:
        capabilities = probe_capabilities(parameters["kvm_path"], cache_dir=cache_dir)
    except ProgramError as error:
        raise InstanceStartError(instance.name, error.reason, error.log) from error
    preparation = Preparation(
        instance=instance,
        parameters=parameters,
        capabilities=capabilities,
        accelerator=choose_accelerator(parameters["kvm_flag"], read_kvm_host(), capabilities),
        block_devices=block_devices,
        firmware=choose_firmware(parameters, capabilities),
    )
    # What cannot be planned is found out here, while an earlier life of the instance can still be left as it is.
    preparation.plan(preparation.imagine_ends())
    return preparation


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
        confinement = preparation.confine(account, handle)
        runtime = _describe(preparation, confinement)
        handle.persist(runtime)
    with ExitStack() as inherited:
        resources = allocate(
            preparation.instance,
            preparation.parameters,
            confinement,
            handle.paths,
            firmware=preparation.firmware,
            inherited=inherited,
            unmaking=unmaking,
        )
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
    """Describe what will be. Which descriptors it inherits is nothing that anybody has to remember."""
    instance = preparation.instance
    plan = preparation.plan(preparation.imagine_ends())
    disks = [
        DeviceRecord(uuid=disk.uuid, device=_id(disk.device), backends=disk.node_names, address=disk.address)
        for disk in plan.disks
    ]
    interfaces = {nic.uuid: plan_interface(nic) for nic in instance.nics}
    nics = [
        DeviceRecord(
            uuid=nic.uuid,
            device=_id(nic.device),
            backends=(nic.netdev.id,),
            address=nic.address,
            ifname=interfaces[nic.uuid],
            script=preparation.parameters["network_script"] if interfaces[nic.uuid] else "",
        )
        for nic in plan.nics
    ]
    placement = preparation.placement
    return Runtime(
        instance=instance,
        phase=Phase.STARTING,
        binary=plan.binary,
        qemu_version=preparation.capabilities.version,
        machine_type=plan.machine.name,
        accelerator=plan.accelerator.name,
        accelerator_reason=plan.accelerator.reason,
        has_acpi=plan.has_acpi,
        has_serial=any(chardev.id == SERIAL_ID for chardev in plan.chardevs),
        topology=plan.topology,
        devices=(*disks, *nics),
        account=confinement.account,
        was_running=placement is None or placement.was_running,
        has_pid_file=confinement.opens_by_name,
        cpu_model=plan.processors.model,
        incoming_socket=preparation.incoming_socket,
        copies_target=preparation.copies_target,
        processors=tuple(ProcessorRecord(processor=each) for each in plan.processors.plugged),
        dimms=tuple(DimmRecord(dimm=each) for each in plan.dimms),
    )


def _id(device: DeviceAdd) -> str:
    assert device.id is not None
    return device.id


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
        gib = launch.plan.memory_mib / 1024 if launch.plan.memory.is_taken else 0
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
