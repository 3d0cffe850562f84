# SPDX-License-Identifier: BSD-2-Clause
"""Send an instance to another node, or take one in.

QEMU does not compare the machines at both ends: it says "completed" where a device is missing. So the source says what
its machine is, down to the slot of each device, and the destination makes that machine or none. Processors, memory and
the kinds of devices are those of the instance that the cluster manager gives to both.

Who knows when a migration is over is QEMU alone; who knows whether both ends may forget it is the cluster manager. It
finalizes both, and neither half believes a word that its QEMU contradicts: a guest that has left is never let run
again, one that has come is never ended.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.convergence import ConvergencePolicy, Sample, Step
from hvkit.hypervisor.errors import InstanceStateError, MigrationError, ParameterError
from hvkit.hypervisor.kvm.instances import Instances
from hvkit.hypervisor.kvm.machine import Placement
from hvkit.hypervisor.kvm.nics import take_down_nics
from hvkit.hypervisor.kvm.parameters import TABLE
from hvkit.hypervisor.kvm.paths import InstancePaths
from hvkit.hypervisor.kvm.process import read_log_tail
from hvkit.hypervisor.kvm.runtime import Phase, Runtime, from_plain, to_plain, write_runtime
from hvkit.hypervisor.kvm.start import Preparation, bring_up, prepare
from hvkit.hypervisor.kvm.state import find_process
from hvkit.hypervisor.kvm.stop import stop_process
from hvkit.hypervisor.kvm.topology import Address, Topology
from hvkit.hypervisor.model import Instance, InstanceState, MigrationInfo, MigrationState, MigrationStatus
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    Cont,
    Migrate,
    MigrateCancel,
    MigrateIncoming,
    MigrateSetCapabilities,
    MigrateSetParameters,
    MigrationCapabilityStatus,
    QueryMigrate,
    QueryStatus,
    Stop,
)
from hvkit.qmp.schema import MigrationInfo as Progress

#: The form of what the source tells the destination.
_FORMAT: Final = 1
_MIB: Final = 1 << 20
_ALIVE: Final = (InstanceState.RUNNING, InstanceState.PAUSED)

#: What each status of QEMU's means. One that is newer than this table is taken for a phase of a migration that goes on.
#: Source: QAPI module `migration`, definition `MigrationStatus`.
_STATES: Final = {
    None: MigrationState.NONE,
    "none": MigrationState.NONE,
    "completed": MigrationState.COMPLETED,
    "failed": MigrationState.FAILED,
    "cancelled": MigrationState.CANCELLED,
}

#: Seconds that a migration has to end when it is cancelled, or when both ends know that it is over.
_SETTLE_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.05
#: Seconds between two looks at a migration that is followed. QEMU reckons its rates anew ten times a second.
_FOLLOW_S: Final = 0.2
#: Seconds in which a QEMU whose monitor went away is expected to end.
_END_S: Final = 2.0


@attrs.frozen(kw_only=True)
class _Sent:
    """What the source tells of its machine.

    Attributes:
        format: the form of all this.
        machine_type: with its version.
        accelerator: what runs the guest's instructions; a guest cannot change that on its way.
        topology: the buses.
        addresses: of disks and NICs, by their uuids.
        is_running: whether the guest is to run when it has come.
    """

    format: int
    machine_type: str
    accelerator: str
    topology: Topology
    addresses: dict[str, Address]
    is_running: bool


def read_info(instances: Instances, paths: InstancePaths, hypervisor: str) -> MigrationInfo:
    """Say what the destination must know of a machine that is here, as `BaseHypervisor.migration_info` says.

    Raises:
        MigrationError: it has no QEMU that answers.
    """
    runtime = instances.recall(paths)
    try:
        with instances.connected(paths) as monitor:
            is_running = monitor.execute(QueryStatus()).running
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(paths.name, str(error)) from error
    sent = _Sent(
        format=_FORMAT,
        machine_type=runtime.machine_type,
        accelerator=runtime.accelerator,
        topology=runtime.topology,
        addresses={str(record.uuid): record.address for record in runtime.devices},
        is_running=is_running,
    )
    return MigrationInfo(instance=runtime.instance.name, hypervisor=hypervisor, data=to_plain(sent))


def prepare_destination(
    instance: Instance, info: MigrationInfo, hypervisor: str, *, cache_dir: Path | None
) -> Preparation:
    """Find out whether this node can be what the source describes. Makes nothing.

    Raises:
        MigrationError: it cannot, and why; or the description is none.
        ParameterError: a parameter or a disk cannot be used on this node.
    """
    if (info.instance, info.hypervisor) != (instance.name, hypervisor):
        raise MigrationError(instance.name, f"this is said of {info.instance}, by {info.hypervisor}")
    try:
        sent = from_plain(dict(info.data), _Sent)
    except ValueError as error:
        raise MigrationError(instance.name, f"what the source says cannot be understood: {error}") from error
    if sent.format != _FORMAT:
        raise MigrationError(instance.name, f"the source speaks form {sent.format}, and this node {_FORMAT}")
    devices = {str(disk.uuid) for disk in instance.disks} | {str(nic.uuid) for nic in instance.nics}
    if devices != set(sent.addresses):
        other = ", ".join(sorted(devices ^ set(sent.addresses)))
        raise MigrationError(instance.name, f"its devices are not those that it has on the source: {other}")
    parameters = {**instance.parameters, "machine_version": sent.machine_type}
    placement = Placement(
        topology=sent.topology,
        addresses={UUID(uuid): address for uuid, address in sent.addresses.items()},
        was_running=sent.is_running,
    )
    try:
        preparation = prepare(attrs.evolve(instance, parameters=parameters), cache_dir=cache_dir, placement=placement)
    except ParameterError as error:
        if error.name == "machine_version":
            raise MigrationError(instance.name, error.problem) from error
        raise
    if preparation.accelerator.name != sent.accelerator:
        here, there = preparation.accelerator, sent.accelerator
        raise MigrationError(
            instance.name, f"it runs by {there} on the source, and would by {here.name} here: {here.reason}"
        )
    return preparation


def accept(instances: Instances, preparation: Preparation, paths: InstancePaths, target: str, hypervisor: str) -> None:
    """Start the machine that waits for its guest, as `BaseHypervisor.accept_instance` says. The lock is the caller's.

    Raises:
        MigrationError: it did not come up, or cannot wait at that address.
        InstanceStateError: it did not come up, and its process cannot be ended.
    """
    instance, parameters = preparation.instance, preparation.parameters
    name = instance.name
    uri = to_uri(name, target)

    def await_guest(monitor: QmpConnection) -> None:
        _configure(monitor, parameters)
        monitor.execute(MigrateIncoming(uri=uri))

    reserved = instances.reserving(instance, parameters)
    try:
        bring_up(preparation, paths, reserved, start_paused=False, await_guest=await_guest)
    except InstanceStateError:
        raise
    except HypervisorError as error:
        raise MigrationError(name, f"{hypervisor} cannot accept it: {error}") from error


def to_uri(name: str, target: str) -> str:
    """Return how QEMU is told of an address: the path of a unix socket, or ``host:port``.

    Raises:
        MigrationError: it is neither.
    """
    if target.startswith("/") and "\0" not in target:
        return f"unix:{target}"
    host, colon, port = target.rpartition(":")
    if host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 and "," not in host:
        return f"tcp:{target}"
    raise MigrationError(name, f"expected an absolute path or host:port to migrate to, got {target!r}")


def _configure(monitor: QmpConnection, parameters: Mapping[str, Any]) -> None:
    """Set what both ends have to agree on, and how much the guest may be disturbed."""
    wanted = {"events", *filter(None, parameters["migration_caps"].split(":"))}
    monitor.execute(
        MigrateSetCapabilities(
            capabilities=[MigrationCapabilityStatus(capability=each, state=True) for each in sorted(wanted)]
        )
    )
    bandwidth = parameters["migration_bandwidth"] * _MIB
    monitor.execute(
        MigrateSetParameters(
            max_bandwidth=bandwidth, max_postcopy_bandwidth=bandwidth, downtime_limit=parameters["migration_downtime"]
        )
    )


def begin(instances: Instances, paths: InstancePaths, target: str, *, live: bool) -> None:
    """Begin to send an instance, as `BaseHypervisor.migrate_instance` says.

    Raises:
        MigrationError: QEMU refuses; the instance is as it was.
    """
    uri = to_uri(paths.name, target)
    with instances.locked(paths):
        instances.need_state(paths, _ALIVE, "it cannot be sent")
        runtime = instances.recall(paths)
        with instances.connected(paths) as monitor:
            was_running = monitor.execute(QueryStatus()).running
            outgoing = attrs.evolve(runtime, phase=Phase.OUTGOING, was_running=was_running)
            write_runtime(paths.runtime_file, outgoing)
            try:
                _configure(monitor, TABLE.fill(runtime.instance.parameters))
                if not live:
                    monitor.execute(Stop())
                monitor.execute(Migrate(uri=uri))
            except QmpError as error:
                # Where QEMU does not answer it may be on its way: that is for `finalize_source` to find out.
                if isinstance(error, CommandError):
                    _take_back(monitor, outgoing, paths)
                raise MigrationError(paths.name, str(error)) from error


def read_status(instances: Instances, paths: InstancePaths) -> MigrationStatus:
    """Return how far a migration is, as `BaseHypervisor.get_migration_status` says.

    Raises:
        MigrationError: its QEMU does not say.
    """
    try:
        with instances.connected(paths) as monitor:
            return _status(_ask_twice(monitor))
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(paths.name, str(error)) from error


def follow(
    instances: Instances,
    paths: InstancePaths,
    policy: ConvergencePolicy,
    on_progress: Callable[[MigrationStatus], None] | None,
) -> MigrationStatus:
    """Watch a migration until it is over, and do what a policy decides, as `BaseHypervisor.follow_migration` says."""
    downtime_ms = TABLE.fill(instances.recall(paths).instance.parameters)["migration_downtime"]
    samples: list[Sample] = []
    changed_at_s = 0.0
    began_s = time.monotonic()
    while True:
        status = read_status(instances, paths)
        if on_progress is not None:
            on_progress(status)
        if status.status is not MigrationState.ACTIVE:
            return status
        at_s = time.monotonic() - began_s
        samples.append(
            Sample(
                at_s=at_s,
                transferred_bytes=status.transferred_bytes or 0,
                remaining_bytes=status.remaining_bytes or 0,
            )
        )
        decision = policy.decide(samples, downtime_ms, changed_at_s)
        if decision.step is Step.GIVE_UP:
            abort(instances, paths)
            return attrs.evolve(read_status(instances, paths), reason=f"it was given up: {decision.reason}")
        if decision.step is Step.ALLOW_DOWNTIME:
            downtime_ms, changed_at_s = decision.downtime_ms, at_s
            with _explaining(paths):
                instances.execute(paths, MigrateSetParameters(downtime_limit=downtime_ms))
        time.sleep(_FOLLOW_S)


def abort(instances: Instances, paths: InstancePaths) -> None:
    """End a migration from here, as `BaseHypervisor.abort_migration` says.

    Raises:
        MigrationError: it is over already, or does not end.
    """
    with instances.locked(paths), _explaining(paths), instances.connected(paths) as monitor:
        if _cancel(monitor, paths) is MigrationState.COMPLETED:
            raise MigrationError(paths.name, "it is on the other node already")


def finalize_source(instances: Instances, paths: InstancePaths, *, success: bool) -> None:
    """End a migration on its source, as `BaseHypervisor.finalize_migration_source` says."""
    with instances.locked(paths):
        runtime = instances.recall(paths)
        if runtime.phase is not Phase.OUTGOING:
            raise MigrationError(paths.name, "it is not being sent from here")
        process = find_process(runtime, paths)
        if process is None:
            if not success:
                raise MigrationError(paths.name, "its process has gone: it does not run here")
            _remove(runtime, paths)
            return
        with process, _explaining(paths):
            with instances.connected(paths) as monitor:
                if not success:
                    if _cancel(monitor, paths) is MigrationState.COMPLETED:
                        raise MigrationError(paths.name, "QEMU says that it was sent: it may run on the other node")
                    _take_back(monitor, runtime, paths)
                    return
                status = _status(monitor.execute(QueryMigrate()))
                if status.status is not MigrationState.COMPLETED:
                    reason = f": {status.reason}" if status.reason else ""
                    raise MigrationError(paths.name, f"QEMU says that it is {status.status.value}{reason}")
            stop_process(process, paths, guest_timeout_s=0)
        _remove(runtime, paths)


def finalize_destination(instances: Instances, paths: InstancePaths, *, success: bool) -> None:
    """End a migration on its destination, as `BaseHypervisor.finalize_migration_destination` says."""
    with instances.locked(paths):
        runtime = instances.recall(paths)
        if runtime.phase is not Phase.INCOMING:
            raise MigrationError(paths.name, "it is not coming here")
        process = find_process(runtime, paths)
        if process is None:
            _remove_unarrived(runtime, paths, success)
            return
        with process, _explaining(paths):
            try:
                has_come = _is_here(instances, paths, runtime, timeout_s=_SETTLE_S if success else 0.0)
            except (QmpError, InstanceStateError):
                # A QEMU whose source goes away ends by itself.
                if not process.wait(_END_S):
                    raise
                has_come = False
            if success and has_come:
                write_runtime(paths.runtime_file, attrs.evolve(runtime, phase=Phase.RUNNING))
                return
            if success and not process.wait(0):
                raise MigrationError(paths.name, _with_last_words("it has not come", paths))
            if has_come:
                raise MigrationError(paths.name, "it has come, and may run here")
            stop_process(process, paths, guest_timeout_s=0)
        _remove_unarrived(runtime, paths, success)


def _is_here(instances: Instances, paths: InstancePaths, runtime: Runtime, *, timeout_s: float) -> bool:
    """Tell whether a guest has come, waiting for it; with a time to wait, let it run that is to run."""
    with instances.connected(paths) as monitor:
        has_come = _await_guest_here(monitor, timeout_s)
        # One that was stopped for the journey does not know that it ran before.
        if timeout_s and has_come and runtime.was_running and monitor.execute(QueryStatus()).status == "paused":
            monitor.execute(Cont())
        return has_come


def _remove_unarrived(runtime: Runtime, paths: InstancePaths, success: bool) -> None:
    """Remove a destination whose process has ended, and say so where it was expected to be there."""
    problem = _with_last_words("its process has gone: it does not run here", paths)
    _remove(runtime, paths)
    if success:
        raise MigrationError(paths.name, problem)


def _with_last_words(problem: str, paths: InstancePaths) -> str:
    said = read_log_tail(paths.log_file)
    return f"{problem}: {' | '.join(said.splitlines())}" if said else problem


# ---- what they have in common


@contextlib.contextmanager
def _explaining(paths: InstancePaths) -> Iterator[None]:
    """Tell of a QEMU that does not answer what that means for a migration."""
    try:
        yield
    except QmpError as error:
        raise MigrationError(paths.name, f"what became of it is not known: {error}") from error


def _ask_twice(monitor: QmpConnection) -> Progress:
    """Return what QEMU says; the first time it says that a migration is over, its figures may still be missing."""
    progress = monitor.execute(QueryMigrate())
    return progress if progress.status != "completed" else monitor.execute(QueryMigrate())


def _status(progress: Progress) -> MigrationStatus:
    ram = progress.ram
    return MigrationStatus(
        status=_STATES.get(progress.status, MigrationState.ACTIVE),
        phase=progress.status or "",
        transferred_bytes=None if ram is None else ram.transferred,
        remaining_bytes=None if ram is None else ram.remaining,
        total_bytes=None if ram is None else ram.total,
        total_time_ms=progress.total_time,
        downtime_ms=progress.downtime,
        expected_downtime_ms=progress.expected_downtime,
        reason=progress.error_desc or "",
    )


def _cancel(monitor: QmpConnection, paths: InstancePaths) -> MigrationState:
    """End a migration that goes on, and return how it ended; that may be well."""
    monitor.execute(MigrateCancel())
    deadline = Deadline(_SETTLE_S)
    while True:
        state = _status(monitor.execute(QueryMigrate())).status
        if state is not MigrationState.ACTIVE:
            return state
        if deadline.remaining_s() <= 0:
            raise MigrationError(paths.name, f"it was cancelled, and goes on after {_SETTLE_S:g} s")
        time.sleep(_LOOK_AGAIN_S)


def _take_back(monitor: QmpConnection, runtime: Runtime, paths: InstancePaths) -> None:
    """Have a guest that did not leave go on as before."""
    if runtime.was_running and not monitor.execute(QueryStatus()).running:
        monitor.execute(Cont())
    write_runtime(paths.runtime_file, attrs.evolve(runtime, phase=Phase.RUNNING))


def _await_guest_here(monitor: QmpConnection, timeout_s: float) -> bool:
    """Wait until a guest has come; the source may know that sooner than the destination."""
    deadline = Deadline(timeout_s)
    while monitor.execute(QueryStatus()).status == "inmigrate":
        if deadline.remaining_s() <= 0:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _remove(runtime: Runtime, paths: InstancePaths) -> None:
    take_down_nics(runtime)
    paths.remove()
