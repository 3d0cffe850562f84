# SPDX-License-Identifier: BSD-2-Clause
"""Bring an instance up: all of it, or nothing.

Preparing looks and decides, and makes nothing. Bringing up makes one thing after the other, each with its undoing, and
keeps what is remembered ahead of what exists: whoever dies here leaves something that the next one can find and end.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import InstanceStartError, InstanceStateError, RuntimeStateError
from hvkit.hypervisor.kvm.capabilities import Accelerator, Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.command_line import build_argv
from hvkit.hypervisor.kvm.devices import TapFiles
from hvkit.hypervisor.kvm.disks import read_block_devices
from hvkit.hypervisor.kvm.machine import SERIAL_ID, MachinePlan, MachineSockets, plan_machine
from hvkit.hypervisor.kvm.network import NetworkError, Tap, TapOptions
from hvkit.hypervisor.kvm.nics import open_nic, plan_interface, take_down_nic, tap_files
from hvkit.hypervisor.kvm.parameters import TABLE, CpuSet
from hvkit.hypervisor.kvm.paths import InstancePaths
from hvkit.hypervisor.kvm.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.process import (
    Process,
    ProcessError,
    describe_exit,
    find_listener,
    listen,
    open_process,
    read_log_tail,
    set_affinity,
    set_process_affinity,
    spawn,
)
from hvkit.hypervisor.kvm.runtime import DeviceRecord, Phase, Runtime, write_runtime
from hvkit.hypervisor.model import Instance, InstanceState, Nic
from hvkit.qmp import ConnectError, ConnectionLost, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, DeviceAdd, QueryCpusFast, QueryName, QueryUuid

#: Seconds from the start of the process to its monitor's first answer. Taking the guest's memory beforehand is slow.
_GREETING_S: Final = 60.0
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
    """

    instance: Instance
    parameters: Mapping[str, Any]
    capabilities: Capabilities
    accelerator: Accelerator
    block_devices: frozenset[UUID]

    def plan(self, sockets: MachineSockets, taps: Mapping[UUID, TapFiles]) -> MachinePlan:
        """Plan the machine, as `plan_machine` does. It can be planned with any ends if it can with some."""
        return plan_machine(
            self.instance,
            self.parameters,
            self.capabilities,
            self.accelerator,
            sockets,
            taps,
            block_devices=self.block_devices,
        )

    def imagine_taps(self) -> dict[UUID, TapFiles]:
        """Return what stands for the taps that will be made, in a plan that nobody starts."""
        imagined = TapFiles(queues=(str(_NO_FD),))
        return {nic.uuid: imagined for nic in self.instance.nics if nic.has_tap}


def prepare(instance: Instance, *, cache_dir: Path | None) -> Preparation:
    """Look at everything that an instance needs on this node, and find out whether it can be planned. Makes nothing.

    Args:
        instance: what is to be started.
        cache_dir: where to keep what a QEMU program can do; None: nowhere.

    Raises:
        ParameterError: a parameter or a disk cannot be used, or they do not go together.
        InstanceStartError: the program is not QEMU, or too old.
    """
    parameters = TABLE.validate(instance.parameters)
    block_devices = read_block_devices(instance.disks)
    try:
        capabilities = probe_capabilities(parameters["kvm_path"], cache_dir=cache_dir)
    except InstanceStartError as error:
        raise InstanceStartError(instance.name, error.reason, error.log) from error
    preparation = Preparation(
        instance=instance,
        parameters=parameters,
        capabilities=capabilities,
        accelerator=choose_accelerator(parameters["kvm_flag"], read_kvm_host(), capabilities),
        block_devices=block_devices,
    )
    # What cannot be planned is found out here, while an earlier life of the instance can still be left as it is.
    preparation.plan(
        MachineSockets(control=_NO_FD, watch=_NO_FD, serial=_NO_FD, agent=_NO_FD), preparation.imagine_taps()
    )
    return preparation


def bring_up(preparation: Preparation, paths: InstancePaths, *, start_paused: bool) -> None:
    """Start the QEMU of an instance, make sure that it is the right one, and let it run.

    The caller holds the instance's lock, and nothing of an earlier life is there. After failure its process and taps
    are gone, what its network script set up is taken down, and all of its files are removed.

    Raises:
        InstanceStartError: it did not come up; carries the end of what QEMU said.
        InstanceStateError: it did not come up, and its process cannot be found or ended. It is remembered.
    """
    launch = None
    with ExitStack() as unmaking:
        try:
            paths.make()
            launch = _launch(preparation, paths, unmaking)
            _let_run(launch, paths, start_paused=start_paused)
            unmaking.pop_all()
        except BaseException as error:
            process = launch.process if launch is not None else None
            failure = _explain(error, process, preparation, paths)
            try:
                _end_started(process, paths)
            except BaseException:
                unmaking.pop_all()  # what it uses is left to whoever finds it
                raise
            unmaking.callback(paths.remove)
            if failure is None:
                raise
            raise failure from error
        finally:
            if launch is not None:
                launch.process.close()


@attrs.frozen
class _Launch:
    """A QEMU that was started: what it is to be, what is to be remembered of it, and its process."""

    plan: MachinePlan
    runtime: Runtime
    process: Process


def _launch(preparation: Preparation, paths: InstancePaths, unmaking: ExitStack) -> _Launch:
    """Note down what will be, make what QEMU inherits, and start QEMU.

    What has to be undone once QEMU has ended is put on `unmaking`.
    """
    instance = preparation.instance
    with ExitStack() as inherited:
        sockets = _make_sockets(preparation.parameters, paths, inherited)
        runtime = _describe(instance, preparation.plan(sockets, preparation.imagine_taps()), preparation.capabilities)
        write_runtime(paths.runtime_file, runtime)
        taps = {nic.uuid: _open_nic(instance, nic, inherited, unmaking) for nic in instance.nics if nic.has_tap}
        plan = preparation.plan(sockets, {uuid: tap_files(tap) for uuid, tap in taps.items()})
        ends = (sockets.control, sockets.watch, sockets.serial, sockets.agent)
        descriptors = [each for each in ends if isinstance(each, int)]
        descriptors += [descriptor for tap in taps.values() for descriptor in tap.descriptors]
        return _Launch(plan, runtime, spawn(build_argv(plan), log_file=paths.log_file, pass_fds=descriptors))


def _make_sockets(parameters: Mapping[str, Any], paths: InstancePaths, inherited: ExitStack) -> MachineSockets:
    def make(path: Path) -> int:
        return inherited.enter_context(listen(path)).fileno()

    return MachineSockets(
        control=make(paths.control_socket),
        watch=make(paths.watch_socket),
        serial=make(paths.serial_socket) if parameters["serial_console"] else None,
        agent=make(paths.agent_socket) if parameters["use_guest_agent"] else None,
        pid_file=str(paths.pid_file),
    )


def _open_nic(instance: Instance, nic: Nic, inherited: ExitStack, unmaking: ExitStack) -> Tap:
    tap = open_nic(instance, nic, TapOptions(), script="")
    inherited.callback(tap.close)
    unmaking.callback(take_down_nic, instance, nic, script="")
    return tap


def _describe(instance: Instance, plan: MachinePlan, capabilities: Capabilities) -> Runtime:
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
        )
        for nic in plan.nics
    ]
    return Runtime(
        instance=instance,
        phase=Phase.STARTING,
        binary=plan.binary,
        qemu_version=capabilities.version,
        machine_type=plan.machine.name,
        accelerator=plan.accelerator.name,
        accelerator_reason=plan.accelerator.reason,
        has_acpi=plan.has_acpi,
        has_serial=any(chardev.id == SERIAL_ID for chardev in plan.chardevs),
        topology=plan.topology,
        devices=(*disks, *nics),
    )


def _id(device: DeviceAdd) -> str:
    assert device.id is not None
    return device.id


def _let_run(launch: _Launch, paths: InstancePaths, *, start_paused: bool) -> None:
    """Check the machine that came up, configure it and let it run, each noted down before it is done."""
    runtime = attrs.evolve(launch.runtime, process=launch.process.identity)
    write_runtime(paths.runtime_file, runtime)
    with ExitStack() as stack:
        monitor = QmpConnection(paths.control_socket)
        stack.callback(monitor.close)
        monitor.connect(timeout=_GREETING_S)
        _check_identity(monitor, runtime.instance)
        _bind_to_cpus(monitor, launch.process, launch.plan.processors.affinity)
        # From here on the guest may have run: whoever finds this must not take it for a start that can be undone.
        write_runtime(paths.runtime_file, attrs.evolve(runtime, phase=Phase.RUNNING))
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


def _bind_to_cpus(monitor: QmpConnection, process: Process, affinity: Sequence[CpuSet]) -> None:
    """Bind the whole instance, or each of its processors, while none of them runs yet."""
    if len(affinity) == 1:
        if affinity[0] is not None:
            set_process_affinity(process.identity.pid, affinity[0])
        return
    for processor in monitor.execute(QueryCpusFast()):
        cpus = affinity[processor.cpu_index]
        if cpus is not None:
            set_affinity(processor.thread_id, cpus)


def _explain(
    error: BaseException, process: Process | None, preparation: Preparation, paths: InstancePaths
) -> InstanceStartError | None:
    """Say what kept an instance from coming up; None where the error says that itself."""
    if not isinstance(error, (ProcessError, NetworkError, QmpError, RuntimeStateError, _Mistaken)):
        return None
    reason = str(error)
    # A monitor that goes away is how a QEMU that gives up is noticed; why is in its log.
    if process is not None and process.wait(_END_S if isinstance(error, (ConnectError, ConnectionLost)) else 0):
        reason = describe_exit(process.identity)
    return InstanceStartError(preparation.instance.name, reason, read_log_tail(paths.log_file))


def _end_started(process: Process | None, paths: InstancePaths) -> None:
    """End what was started.

    Args:
        process: the QEMU; None where none was started, or nobody knows: who was interrupted may have started it.
        paths: the instance's files.

    Raises:
        InstanceStateError: it cannot be found or ended.
    """
    try:
        process = process or _find_started(paths)
        if process is not None:
            with process:
                if not process.end(_UNDO_SIGNALS):
                    raise ProcessError(f"process {process.identity.pid} cannot be ended: the kernel holds it")
    except ProcessError as error:
        problem = f"it did not come up, and what was started may be there: {error}"
        raise InstanceStateError(paths.name, InstanceState.UNRESPONSIVE.value, problem) from error


def _find_started(paths: InstancePaths) -> Process | None:
    identity = find_listener(paths.control_socket, paths.pid_file)
    return None if identity is None else open_process(identity)
