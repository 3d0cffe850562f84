# SPDX-License-Identifier: BSD-2-Clause
"""The KVM hypervisor: what `BaseHypervisor` promises, put together from the modules beside this one."""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.base import BaseHypervisor
from hvkit.hypervisor.convergence import ConvergencePolicy
from hvkit.hypervisor.errors import (
    HotplugCause,
    HotplugError,
    InstanceStartError,
    InstanceStateError,
    MigrationObstacle,
    ParameterError,
)
from hvkit.hypervisor.kvm import snapshots
from hvkit.hypervisor.kvm.backups import abort as abort_backup
from hvkit.hypervisor.kvm.backups import back_up, drop_checkpoint, read_checkpoints
from hvkit.hypervisor.kvm.capabilities import Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.console import describe_console
from hvkit.hypervisor.kvm.disk_copies import begin_copies, read_copies
from hvkit.hypervisor.kvm.display_console import find_display
from hvkit.hypervisor.kvm.hotplug import check_support, hot_add, hot_del, hot_mod
from hvkit.hypervisor.kvm.instances import Instances
from hvkit.hypervisor.kvm.migration import read_status
from hvkit.hypervisor.kvm.migration_follow import follow
from hvkit.hypervisor.kvm.migration_source import abort, begin, finalize_source, read_info
from hvkit.hypervisor.kvm.migration_target import accept, finalize_destination
from hvkit.hypervisor.kvm.parameters import TABLE
from hvkit.hypervisor.kvm.paths import RunDirectory
from hvkit.hypervisor.kvm.planning import plan_cpu_model
from hvkit.hypervisor.kvm.postcopy import pause, resume_destination, resume_source, start_postcopy
from hvkit.hypervisor.kvm.preflight import examine, prepare_destination
from hvkit.hypervisor.kvm.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.reboot import reset_instance
from hvkit.hypervisor.kvm.start import bring_up, prepare
from hvkit.hypervisor.kvm.state import find_process
from hvkit.hypervisor.kvm.stop import stop_process, stop_remembered
from hvkit.hypervisor.model import (
    Backup,
    BackupProgress,
    Capability,
    Checkpoint,
    Console,
    DeviceAction,
    DeviceKind,
    Disk,
    DiskCopies,
    DiskCopy,
    HotplugDevice,
    Instance,
    InstanceInfo,
    InstanceState,
    MigrationInfo,
    MigrationStatus,
    Nic,
    NodeInfo,
    Snapshot,
    check_kind,
    check_timeout,
    check_whole,
)
from hvkit.hypervisor.node import read_node_info
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import Balloon, BlockResize, QueryNamedBlockNodes

_ALIVE: Final = (InstanceState.RUNNING, InstanceState.PAUSED)
_MIB: Final = 1 << 20
#: The largest disk that QEMU can be told of.
_MOST_BYTES: Final = (1 << 63) - 1

#: Seconds that a guest has to shut down when the caller does not say.
_GUEST_S: Final = 60.0
#: Seconds that a guest has to let go of a device.
_UNPLUG_S: Final = 30.0


class KvmHypervisor(BaseHypervisor):
    """Runs instances as QEMU processes on this node, with KVM where that works.

    What belongs to an instance is in `run_dir`, as `hvkit.hypervisor.kvm.paths` says. An instance whose guest powered
    off is SHUTDOWN and still has a process, which holds its disks until `stop_instance`, `cleanup_instance` or
    `start_instance` ends it.
    """

    name = "kvm"
    PARAMETERS: ClassVar = TABLE
    CAPABILITIES: ClassVar = frozenset(
        {
            Capability.BACKUP,
            Capability.BALLOON,
            Capability.CONSOLE,
            Capability.HOTPLUG,
            Capability.MIGRATION,
            Capability.MONITOR,
            Capability.RESIZE_DISK,
            Capability.SNAPSHOT,
        }
    )

    def __init__(
        self,
        *,
        run_dir: str | os.PathLike[str],
        state_dir: str | os.PathLike[str] | None = None,
        lock_timeout_s: float = 10.0,
        kvm_path: str | None = None,
    ) -> None:
        """Use what is, or will be, in a directory. Nothing is touched before an instance is started.

        Args:
            run_dir: where instances are remembered. It is made when first needed, for this user only (mode 0700).
            state_dir: where what outlives instances is kept, such as the variables of their firmware: a directory that
                outlives the node's reboot, and is ours alone. None: ``state`` in `run_dir`.
            lock_timeout_s: seconds to wait for whoever is working on an instance before raising InstanceBusy.
            kvm_path: the QEMU of instances whose parameters name none; None for the default of that parameter.

        Raises:
            ParameterError: the path is too long for the sockets in it.
        """
        super().__init__(run_dir=run_dir)
        self._instances = Instances(
            RunDirectory(self.run_dir, None if state_dir is None else Path(state_dir)), lock_timeout_s
        )
        self._kvm_path = str(TABLE["kvm_path"].default) if kvm_path is None else kvm_path

    # ---- the life of an instance

    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        """Start an instance, as `BaseHypervisor.start_instance` says.

        A start that somebody died over leaves an instance that is CRASHED, even if its process is there: its guest
        never ran.

        Raises:
            ParameterError: another instance here, which is not over, has the same uuid.
        """
        check_kind(instance, Instance)
        paths = self._instances.directory.instance(instance.name)
        instance = self._with_program(instance)
        preparation = prepare(instance, cache_dir=self._instances.cache_dir())
        self._instances.directory.make()
        with self._instances.locked(paths):
            self._instances.refuse_twin(instance)
            self._instances.end_what_is_over(paths, "cannot be started")
            reserved = self._instances.reserving(instance, preparation.parameters)
            bring_up(preparation, paths, reserved, start_paused=start_paused)

    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        """Stop an instance, as `BaseHypervisor.stop_instance` says.

        The power button is pressed again every few seconds, because a guest that boots misses it. When the time is
        over, or with `force` at once, QEMU is told to quit; a QEMU that does not is sent SIGTERM and SIGKILL. A guest
        whose processors stand still cannot obey and is not waited for. An instance of which nothing sensible is
        remembered is stopped all the same.

        Raises:
            InstanceStateError: not even SIGKILL ends its process.
        """
        timeout = check_timeout(timeout)
        paths = self._instances.known(name)
        guest_timeout_s = 0.0 if force else _GUEST_S if timeout is None else timeout
        with self._instances.locked(paths):
            runtime = self._instances.read_if_sound(paths)
            process = find_process(runtime, paths)
            if process is None:
                return
            with process:
                if runtime is None:
                    stop_process(process, paths, guest_timeout_s=guest_timeout_s, press=not retry)
                else:
                    stop_remembered(runtime, process, paths, guest_timeout_s=guest_timeout_s, press=not retry)
            paths.remove_traces()

    def reboot_instance(self, name: str) -> None:
        """Reset an instance, as `BaseHypervisor.reboot_instance` says: as its reset button would, unasked.

        What the guest did not write to its disks is lost. The process, its monitors and taps stay.
        """
        reset_instance(self._instances, self._instances.known(name))

    def cleanup_instance(self, name: str) -> None:
        """Forget an instance that is over, as `BaseHypervisor.cleanup_instance` says."""
        paths = self._instances.directory.instance(name)
        self._instances.directory.check()  # what may not be looked at is not there either, for lexists
        if not os.path.lexists(self.run_dir):
            return
        self._instances.directory.make()
        with self._instances.locked(paths):
            self._instances.end_what_is_over(paths, "cannot be cleaned up")

    def purge_instance(self, name: str) -> None:
        """Forget an instance for good, as `BaseHypervisor.purge_instance` says."""
        self.cleanup_instance(name)
        self._instances.directory.instance(name).remove_state()

    # ---- what there is

    def list_instances(self) -> list[str]:
        """Return the names of all instances known here, sorted. Asks no instance anything.

        Raises:
            ParameterError: `run_dir` is not ours alone.
        """
        return self._instances.directory.names()

    def get_instance_info(self, name: str) -> InstanceInfo:
        """Return what an instance is doing, as `BaseHypervisor.get_instance_info` says; takes no lock."""
        return self._instances.look(self._instances.known(name))

    def get_all_instances_info(self) -> list[InstanceInfo]:
        """Return what every instance is doing, as `BaseHypervisor.get_all_instances_info` says.

        All are asked before any is waited for; those that do not answer are waited for together, two seconds at most.
        """
        return self._instances.look_at_all()

    def get_node_info(self) -> NodeInfo:
        """Return what this node has. Changes nothing."""
        try:
            version = self._probe(self._kvm_path).version
        except InstanceStartError:
            version = None
        return read_node_info(hypervisor_version=version)

    def verify(self) -> list[str]:
        """Return what keeps this hypervisor from working on this node, a sentence each. Changes nothing."""
        problems: list[str] = []
        with _noting(problems):
            self._probe(self._kvm_path)
        with _noting(problems):
            problems += [f"{stray}: no instance can have that name" for stray in self._instances.directory.strays()]
            for name in self._instances.directory.names():
                with _noting(problems):
                    self._instances.recall(self._instances.directory.instance(name))
        return problems

    # ---- parameters

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on this node, also against what the QEMU program they name can do. Changes nothing."""
        filled = TABLE.validate({"kvm_path": self._kvm_path, **parameters})
        binary = filled["kvm_path"]
        try:
            capabilities = self._probe(binary)
        except InstanceStartError as error:
            raise ParameterError("kvm_path", binary, str(error)) from error
        capabilities.find_machine(filled["machine_version"])
        accelerator = choose_accelerator(filled["kvm_flag"], read_kvm_host(), capabilities)
        plan_cpu_model(filled["cpu_type"], capabilities, accelerator)

    # ---- BALLOON, CONSOLE, MONITOR, HOTPLUG, RESIZE_DISK

    def balloon_instance_memory(self, name: str, memory_mib: int) -> None:
        """Set the memory a guest is to make do with, as `BaseHypervisor.balloon_instance_memory` says."""
        paths = self._instances.known(name)
        most = self._instances.recall(paths).instance.memory_mib
        check_whole("memory_mib", memory_mib, 1, most)
        with self._instances.locked(paths):
            self._instances.need_state(paths, _ALIVE, "its memory cannot be changed")
            with self._instances.connected(paths) as monitor:
                monitor.execute(Balloon(value=memory_mib * _MIB))

    def get_instance_console(self, name: str) -> Console:
        """Return how to reach an instance's serial console, or else its VNC or SPICE. Changes nothing."""
        paths = self._instances.known(name)
        runtime = self._instances.recall(paths)
        return describe_console(runtime, paths) if runtime.has_serial else find_display(self._instances, paths)

    @contextlib.contextmanager
    def monitor(self, name: str) -> Iterator[QmpConnection]:
        """Open the control monitor of an instance, as `BaseHypervisor.monitor` says.

        Nobody else gets this monitor meanwhile; the hypervisor itself goes on with the watchers' monitor.
        """
        paths = self._instances.known(name)
        runtime = self._instances.recall(paths)
        process = find_process(runtime, paths)
        if process is None:
            raise InstanceStateError(
                name, self._instances.look(paths).state.value, "it has no process, and so no monitor"
            )
        process.close()
        with QmpConnection(paths.control_socket) as connection:
            yield connection

    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        """Return if devices can be plugged in this way, as `BaseHypervisor.verify_hotplug_support` says."""
        check_kind(action, DeviceAction)
        check_kind(kind, DeviceKind)
        paths = self._instances.known(name)
        if kind is DeviceKind.DISK and action is DeviceAction.MODIFY:
            problem = "a disk cannot be changed; take it out and plug the new one in"
            raise HotplugError(name, kind.value, problem, HotplugCause.UNFIT)
        check_support(self._instances, paths, kind, needs_room=action is DeviceAction.ADD)

    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Plug a disk or a NIC in, as `BaseHypervisor.hot_add_device` says.

        Raises:
            ParameterError: the disk is not there, or the instance has one like it.
        """
        check_kind(device, Disk, Nic)
        hot_add(self._instances, self._instances.known(name), device)

    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Take a disk or a NIC out, as `BaseHypervisor.hot_del_device` says.

        The guest is asked again every few seconds, because one that boots misses it. A guest whose processors stand
        still cannot let go of most devices. A device that the guest lets go of later is forgotten when the next one is
        plugged in or taken out.
        """
        check_kind(device, Disk, Nic)
        hot_del(self._instances, self._instances.known(name), device.uuid, timeout_s=_UNPLUG_S)

    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Change a NIC, as `BaseHypervisor.hot_mod_device` says; a disk cannot be changed."""
        check_kind(device, Disk, Nic)
        paths = self._instances.known(name)
        if isinstance(device, Disk):
            self.verify_hotplug_support(name, DeviceAction.MODIFY, DeviceKind.DISK)
        else:
            hot_mod(self._instances, paths, device, timeout_s=_UNPLUG_S)

    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Tell a guest that a disk has grown, as `BaseHypervisor.resize_disk` says.

        An image is made larger by that; a block device has to have the size already.

        Raises:
            ParameterError: the instance has no such disk, or the disk is larger than that.
        """
        check_kind(disk, Disk)
        check_whole("new_size_bytes", new_size_bytes, 1, _MOST_BYTES)
        paths = self._instances.known(name)
        with self._instances.locked(paths):
            self._instances.need_state(paths, _ALIVE, "its disks cannot be resized")
            runtime = self._instances.recall(paths)
            record = runtime.device(disk.uuid)
            if record is None or disk.uuid not in {each.uuid for each in runtime.instance.disks}:
                raise ParameterError("Disk.uuid", str(disk.uuid), f"{name} has no disk of that uuid")
            node_name = record.backends[-1]
            with self._instances.connected(paths) as monitor:
                nodes = {node.node_name: node for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
                if node_name not in nodes:
                    raise ParameterError("Disk.uuid", str(disk.uuid), f"somebody took that disk from {name}")
                size = nodes[node_name].image.virtual_size
                if new_size_bytes < size:
                    problem = f"the disk has {size} bytes, and only grows"
                    raise ParameterError("new_size_bytes", new_size_bytes, problem)
                monitor.execute(BlockResize(node_name=node_name, size=new_size_bytes))

    # ---- snapshots

    def save_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Keep an instance as it is now, as `BaseHypervisor.save_snapshot` says. All its disks have to be qcow2."""
        snapshots.save(self._instances, self._instances.known(name), tag, timeout_s=timeout)

    def load_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Make an instance what it was, as `BaseHypervisor.load_snapshot` says."""
        snapshots.load(self._instances, self._instances.known(name), tag, timeout_s=timeout)

    def delete_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Forget what an instance was, as `BaseHypervisor.delete_snapshot` says."""
        snapshots.delete(self._instances, self._instances.known(name), tag, timeout_s=timeout)

    def get_snapshots(self, name: str) -> tuple[Snapshot, ...]:
        """Return what an instance can be made again, as `BaseHypervisor.get_snapshots` says."""
        return snapshots.read_snapshots(self._instances, self._instances.known(name))

    def add_overlays(self, name: str, overlays: Mapping[UUID, str], *, freezes: bool = False) -> tuple[Disk, ...]:
        """Have disks write to new files, as `BaseHypervisor.add_overlays` says. QEMU must not be confined."""
        return snapshots.add_overlays(self._instances, self._instances.known(name), overlays, freezes=freezes)

    def merge_overlays(
        self,
        name: str,
        disks: Collection[UUID],
        *,
        report: Callable[[BackupProgress], None] | None = None,
        timeout: float = math.inf,
    ) -> tuple[Disk, ...]:
        """Merge disks' topmost files into those below, as `BaseHypervisor.merge_overlays` says."""
        paths = self._instances.known(name)
        return snapshots.merge_overlays(self._instances, paths, disks, report=report, timeout_s=timeout)

    # ---- backups

    def backup_disks(
        self,
        name: str,
        backup: Backup,
        *,
        report: Callable[[BackupProgress], None] | None = None,
        timeout: float = math.inf,
    ) -> None:
        """Back up disks, as `BaseHypervisor.backup_disks` says, into files that QEMU is given open."""
        check_kind(backup, Backup)
        back_up(self._instances, self._instances.known(name), backup, report=report, timeout_s=timeout)

    def abort_backup(self, name: str) -> None:
        """End a backup and remove what it left, as `BaseHypervisor.abort_backup` says."""
        abort_backup(self._instances, self._instances.known(name))

    def get_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return what incremental backups can begin at, as `BaseHypervisor.get_checkpoints` says."""
        return read_checkpoints(self._instances, self._instances.known(name))

    def drop_checkpoint(self, name: str, checkpoint: str) -> None:
        """Forget a checkpoint, as `BaseHypervisor.drop_checkpoint` says."""
        drop_checkpoint(self._instances, self._instances.known(name), checkpoint)

    # ---- MIGRATION

    def migration_info(self, name: str) -> MigrationInfo:
        """Return what the destination must know of an instance, as `BaseHypervisor.migration_info` says."""
        return read_info(self._instances, self._instances.known(name), self.name)

    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """Return all that keeps an instance from coming here, as `BaseHypervisor.find_migration_obstacles` says."""
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        return examine(self._with_program(instance), info, self.name, cache_dir=self._instances.cache_dir())[1]

    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Make ready for an instance that is to come, as `BaseHypervisor.accept_instance` says.

        The machine is the source's, down to the slot of each device; where this node cannot be that, it is refused.
        """
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        paths = self._instances.directory.instance(instance.name)
        instance = self._with_program(instance)
        preparation = prepare_destination(instance, info, self.name, cache_dir=self._instances.cache_dir())
        self._instances.directory.make()
        with self._instances.locked(paths):
            self._instances.refuse_twin(instance)
            self._instances.end_what_is_over(paths, "cannot be accepted")
            accept(self._instances, preparation, paths, target, self.name, copies)

    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Begin to copy disks to the node that their instance will move to, as `BaseHypervisor.copy_disks` says."""
        check_kind(copies, DiskCopies)
        begin_copies(self._instances, self._instances.known(name), copies)

    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        """Return how far copies of disks are, as `BaseHypervisor.get_disk_copies` says."""
        return read_copies(self._instances, self._instances.known(name))

    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Begin to send an instance to a node that has accepted it, as `BaseHypervisor.migrate_instance` says."""
        begin(self._instances, self._instances.known(name), target, live=live)

    def get_migration_status(self, name: str) -> MigrationStatus:
        """Return how far a migration from here is, as `BaseHypervisor.get_migration_status` says.

        Raises:
            MigrationError: QEMU does not say.
        """
        return read_status(self._instances, self._instances.known(name))

    def follow_migration(
        self,
        name: str,
        policy: ConvergencePolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        """Watch a migration from here until it is over, as `BaseHypervisor.follow_migration` says."""
        return follow(self._instances, self._instances.known(name), policy or ConvergencePolicy(), on_progress)

    def abort_migration(self, name: str) -> None:
        """End a migration from here before it is over, as `BaseHypervisor.abort_migration` says."""
        abort(self._instances, self._instances.known(name))

    def start_postcopy(self, name: str) -> None:
        """Let a guest leave before its memory does, as `BaseHypervisor.start_postcopy` says.

        Both ends have the capability `postcopy-ram` for that, from the parameter `migration_caps`.
        """
        start_postcopy(self._instances, self._instances.known(name))

    def pause_migration(self, name: str) -> None:
        """Break the link of a guest that has left, as `BaseHypervisor.pause_migration` says."""
        pause(self._instances, self._instances.known(name))

    def resume_migration_destination(self, name: str, target: str | int) -> None:
        """Wait for the source on another link, as `BaseHypervisor.resume_migration_destination` says."""
        resume_destination(self._instances, self._instances.known(name), target)

    def resume_migration_source(self, name: str, target: str | int) -> None:
        """Go on over another link, as `BaseHypervisor.resume_migration_source` says."""
        resume_source(self._instances, self._instances.known(name), target)

    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        """End a migration on its source, as `BaseHypervisor.finalize_migration_source` says.

        Whether the guest has left is what QEMU says; where that contradicts the caller, nothing is done.
        """
        del live  # what was running before is remembered
        finalize_source(self._instances, self._instances.known(name), success=success)

    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        """End a migration on its destination, as `BaseHypervisor.finalize_migration_destination` says.

        Whether the guest has come is what QEMU says; where that contradicts the caller, nothing is done.
        """
        check_kind(instance, Instance)
        del info  # the machine was made by it
        return finalize_destination(self._instances, self._instances.known(instance.name), success=success)

    # ---- what the methods have in common

    def _with_program(self, instance: Instance) -> Instance:
        """Note down with an instance what runs it: what the next one to look at it takes for the default may differ."""
        return attrs.evolve(instance, parameters={"kvm_path": self._kvm_path, **instance.parameters})

    def _probe(self, binary: str) -> Capabilities:
        """Return what a QEMU program can do, without keeping it for others: they would find something changed."""
        return probe_capabilities(binary, cache_dir=self._instances.cache_dir(), keeps=False)


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Put down what goes wrong, instead of failing."""
    try:
        yield
    except HypervisorError as error:
        problems.append(str(error))
