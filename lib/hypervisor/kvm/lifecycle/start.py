# SPDX-License-Identifier: BSD-2-Clause
"""Start an instance: completely, or not at all.

The preparation checks and plans, and changes nothing. `bring_up` then allocates one resource after the other, each with
its undo step. Each step is persisted before it is taken, so the next operation finds and ends what a crash leaves.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import InstanceStartError, InstanceStateError, ProgramError, RuntimeStateError
from hvkit.hypervisor.kvm.host.disks import read_block_devices
from hvkit.hypervisor.kvm.host.firmware import choose_firmware
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.nics import plan_interface
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
from hvkit.hypervisor.kvm.plan.accounts import kvm_groups
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement, plan_confinement
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_limits
from hvkit.hypervisor.kvm.plan.firmware import Firmware
from hvkit.hypervisor.kvm.plan.machine import MachinePlan, Placement
from hvkit.hypervisor.kvm.plan.machine_devices import SERIAL_ID
from hvkit.hypervisor.kvm.plan.parameters import TABLE, resolve_places
from hvkit.hypervisor.kvm.plan.planning import plan_machine
from hvkit.hypervisor.kvm.qemu.passwords import give_passwords
from hvkit.hypervisor.kvm.qemu.pinning import bind_threads
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance, InstanceState, check_kind
from hvkit.qmp import ConnectError, ConnectionLost, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, DeviceAdd, QueryName, QueryUuid

#: Seconds from the start of the process to the greeting of its monitor.
_GREETING_S: Final = 60.0
#: Additional seconds for each GiB of preallocated memory.
_PREALLOCATION_S_PER_GIB: Final = 2.0
#: The signals for the QEMU of a failed start, with seconds. It has nothing to flush, as its guest never ran.
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
        is still there: its guest has not run.

        Raises:
            ParameterError: another instance that is not stopped has the same uuid.
        """
        check_kind(instance, Instance)
        handle = self._instances.handle(instance.name)
        instance = self._with_program(instance)
        preparation = prepare(instance, cache_dir=self._instances.find_cache_dir())
        self._instances.check_no_internal_paths(instance)
        self._instances.directory.make()
        with handle.locked():
            self._instances.check_uuid_unique(instance)
            handle.reap_stopped("cannot be started")
            reserved = self._instances.reserving(instance, preparation.parameters)
            bring_up(preparation, handle, reserved, start_paused=start_paused)


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
    parameters = resolve_places(TABLE.validate(instance.parameters))
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
    """Start the QEMU of an instance, check its identity, and run the guest.

    The caller holds the lock, and the instance has no state. After failure the process and its taps are gone, the
    network script has taken its interfaces down, and all files of the instance are removed.

    Args:
        preparation: the prepared instance.
        handle: its handle.
        reserved: yields the account for QEMU, and reserves it and the uuid until both are persisted.
        start_paused: leave the vCPUs stopped.
        await_guest: for an incoming migration, makes QEMU wait for it; called instead of running the guest.

    Raises:
        InstanceStartError: the instance did not start; it carries the end of QEMU's log.
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
                undo.pop_all()  # the process may still use these resources; the next operation removes them
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
        undo: receives what has to be undone after QEMU has ended.
    """
    with reserved as account:
        confinement = preparation.confine(account, handle)
        runtime = _build_runtime(preparation, confinement)
        handle.persist(runtime)
    with ExitStack() as inherited:
        resources = allocate(
            preparation.instance,
            preparation.parameters,
            confinement,
            handle.paths,
            firmware=preparation.firmware,
            inherited=inherited,
            unmaking=undo,
        )
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


def _run(
    launch: _Launch,
    handle: InstanceHandle,
    *,
    start_paused: bool,
    await_guest: Callable[[QmpConnection], None] | None,
) -> None:
    """Check the identity of the started QEMU, configure it and run the guest. Each step is persisted before it."""
    runtime = attrs.evolve(launch.runtime, process=launch.process.identity)
    handle.persist(runtime)
    with ExitStack() as stack:
        monitor = QmpConnection(handle.paths.control_socket)
        stack.callback(monitor.close)
        gib = launch.plan.memory_mib / 1024 if launch.plan.memory.is_taken else 0
        monitor.connect(timeout=_GREETING_S + gib * _PREALLOCATION_S_PER_GIB)
        _check_identity(monitor, runtime.instance)
        give_passwords(monitor, launch.parameters)
        bind_threads(monitor, launch.process, launch.plan)
        _limit_disks(monitor, runtime.instance, launch.parameters)
        if await_guest is not None:
            handle.persist(attrs.evolve(runtime, phase=Phase.INCOMING))
            await_guest(monitor)
            return
        # From here on the guest may have run, so that an interrupted start must not be undone.
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
    """Make an error from a failed start; None for an error that is to be raised as it is."""
    if not isinstance(error, (ProcessError, NetworkError, QmpError, RuntimeStateError, _IdentityMismatch)):
        return None
    reason = f"{error.path}: {error.reason}" if isinstance(error, RuntimeStateError) else str(error)
    # A QEMU that fails to start closes its monitor and exits; its log has the reason.
    if process is not None and process.wait(_EXIT_S if isinstance(error, (ConnectError, ConnectionLost)) else 0):
        reason = describe_exit(process.identity)
    return InstanceStartError(handle.name, reason, read_log_tail(handle.paths.log_file))


def _end_process(process: Process | None, handle: InstanceHandle) -> None:
    """End the QEMU of a failed start.

    Args:
        process: the QEMU; None if it was not started, or if an interrupted start may have started it.
        handle: the handle of the instance.

    Raises:
        InstanceStateError: it cannot be identified or ended.
    """
    try:
        process = process or _find_process(handle)
        if process is not None:
            with process:
                if not process.end(_UNDO_SIGNALS):
                    raise ProcessError(f"process {process.identity.pid} survives SIGKILL: it is blocked in the kernel")
    except ProcessError as error:
        problem = f"did not start, and its QEMU may be running: {error}"
        raise InstanceStateError(handle.name, InstanceState.UNRESPONSIVE.value, problem) from error


def _find_process(handle: InstanceHandle) -> Process | None:
    identity = find_listener(handle.paths.control_socket, handle.paths.pid_file)
    return None if identity is None else open_process(identity)
