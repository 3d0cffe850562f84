# SPDX-License-Identifier: BSD-2-Clause
"""What every hypervisor can do, in the words that Ganeti has for it.

The life of an instance::

    (unknown) --start--> RUNNING, PAUSED --stop, or the guest--> SHUTDOWN, CRASHED --cleanup--> (unknown)
                               ^                                         |
                               +------------------start------------------+

An instance is known from its start until its cleanup, to every process that uses the same `run_dir`; nothing is kept
in the object that another object would need. A hypervisor declares what it can do beyond that in `CAPABILITIES`;
what it does not declare raises `NotSupported` and changes nothing.

Every method may be called from several processes at a time. One that changes an instance takes it for itself first,
and raises `InstanceBusy` where that takes too long. Every method that takes an instance's name raises `ParameterError`
for one that no instance can have. An instance or a device that is no `Instance` or device is a `ProgrammerError`; other
values that cannot be used are a `ParameterError`, whatever their type.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.convergence import ConvergencePolicy
from hvkit.hypervisor.errors import MigrationObstacle, ParameterError
from hvkit.hypervisor.model import (
    AncillaryFiles,
    Capability,
    Console,
    DeviceAction,
    DeviceKind,
    Disk,
    DiskCopies,
    DiskCopy,
    HotplugDevice,
    Instance,
    InstanceInfo,
    MigrationInfo,
    MigrationStatus,
    NodeInfo,
    check_kind,
    is_absolute_path,
)
from hvkit.hypervisor.parameters import ParameterTable
from hvkit.hypervisor.storage import StorageMethods

if TYPE_CHECKING:
    from hvkit.qmp import QmpConnection

#: The methods that a capability stands for. A plugin has them if and only if it declares it.
OPTIONAL_METHODS: Final[Mapping[Capability, tuple[str, ...]]] = MappingProxyType(
    {
        Capability.BACKUP: ("backup_disks", "abort_backup", "get_checkpoints", "drop_checkpoint"),
        Capability.BALLOON: ("balloon_instance_memory",),
        Capability.CONSOLE: ("get_instance_console",),
        Capability.HOTPLUG: ("verify_hotplug_support", "hot_add_device", "hot_del_device", "hot_mod_device"),
        Capability.MIGRATION: (
            "migration_info",
            "find_migration_obstacles",
            "accept_instance",
            "copy_disks",
            "get_disk_copies",
            "migrate_instance",
            "get_migration_status",
            "follow_migration",
            "abort_migration",
            "start_postcopy",
            "pause_migration",
            "resume_migration_destination",
            "resume_migration_source",
            "finalize_migration_source",
            "finalize_migration_destination",
        ),
        Capability.MONITOR: ("monitor",),
        Capability.POWERCYCLE: ("powercycle_node",),
        Capability.RESIZE_DISK: ("resize_disk",),
        Capability.RESTORE: ("verify_instance", "restore_instance"),
        Capability.SNAPSHOT: (
            "save_snapshot",
            "load_snapshot",
            "delete_snapshot",
            "get_snapshots",
            "add_overlays",
            "merge_overlays",
        ),
    }
)


class BaseHypervisor(StorageMethods, abc.ABC):
    """Runs instances on this node.

    A plugin is a subclass that an entry point of the group ``hvkit.hypervisors`` names.

    Attributes:
        name: what the hypervisor is called, the name of its entry point.
        PARAMETERS: the parameters it knows.
        CAPABILITIES: what it can do beyond running instances.
        run_dir: where it remembers its instances; absolute.
    """

    name: ClassVar[str]
    PARAMETERS: ClassVar[ParameterTable]
    CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for capability, methods in OPTIONAL_METHODS.items():
            declared = capability in cls.CAPABILITIES
            for method in methods:
                if declared is not (getattr(cls, method) is not getattr(BaseHypervisor, method)):
                    what = "does not have" if declared else "has"
                    but = "declares" if declared else "does not declare"
                    raise ProgrammerError(f"{cls.__name__} {what} {method}() and {but} {capability}")

    def __init__(self, *, run_dir: str | os.PathLike[str]) -> None:
        """Use what is, or will be, in a directory. Nothing is touched before an instance is started.

        Args:
            run_dir: where instances are remembered. It is made when first needed, for this user only (mode 0700).

        Raises:
            ParameterError: no directory can have that path.
        """
        check_kind(run_dir, str, os.PathLike)
        path = os.path.abspath(run_dir) if os.fspath(run_dir) else ""
        if not is_absolute_path(path):
            raise ParameterError("run_dir", path, f"no path of a directory: {os.fspath(run_dir)!r}")
        self.run_dir = Path(path)

    def has(self, capability: Capability) -> bool:
        """Whether this hypervisor declares a capability."""
        return capability in self.CAPABILITIES

    # ---- the life of an instance

    @abc.abstractmethod
    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        """Start an instance.

        May be called when the instance is unknown here, SHUTDOWN or CRASHED; what is left of an earlier life is
        cleaned up first.

        After success it is RUNNING, or PAUSED if that was asked for, and is the instance described: its uuid was
        checked. After failure nothing of it is here, whatever was made for it is unmade; but with `InstanceStateError`,
        `ParameterError` and `InstanceBusy` everything is as it was.

        Args:
            instance: what to start.
            start_paused: leave its processors standing still.

        Raises:
            InstanceStateError: it is there already. It stays as it was.
            ParameterError: a parameter or a device cannot be used.
            InstanceStartError: it did not come up.
            InstanceBusy: somebody else is working on it.
        """

    @abc.abstractmethod
    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        """Stop an instance: its power button, and where the guest does not obey in time, harder means.

        May be called in every state; when it is SHUTDOWN or CRASHED already, nothing happens.

        After success it is SHUTDOWN or CRASHED, and remains known until `cleanup_instance`. After failure it is in
        whatever state it was in, or has just been asked to shut down.

        Args:
            name: the instance's name.
            force: do not ask the guest; its memory and what it did not write are lost.
            timeout: seconds that the guest has, finite and not negative, None for the hypervisor's own idea of enough.
            retry: the guest has been asked before; do not ask again, only wait.

        Raises:
            ParameterError: nobody can wait for that long.
            InstanceNotFound: no instance of that name is known here.
            InstanceBusy: somebody else is working on it.
            HypervisorError: it resists even the hardest means.
        """

    @abc.abstractmethod
    def reboot_instance(self, name: str) -> None:
        """Reset an instance: its guest starts anew, on the machine it has.

        May be called when it is RUNNING.

        After success it is RUNNING, with the same uuid. After failure it is in whatever state `get_instance_info`
        says; it is never forgotten.

        Raises:
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is not RUNNING. It stays as it was.
            InstanceBusy: somebody else is working on it.
            HypervisorError: the reset failed.
        """

    @abc.abstractmethod
    def cleanup_instance(self, name: str) -> None:
        """Remove everything that an ended instance left on this node, and forget it. Its disks are not touched.

        May be called when it is SHUTDOWN or CRASHED, and when it is unknown: then whatever may bear its name here is
        removed, and it is no error if nothing does.

        After success it is unknown here. After failure call it again.

        Raises:
            InstanceStateError: it is not over. It stays as it was.
            InstanceBusy: somebody else is working on it.
            HypervisorError: something could not be removed.
        """

    def purge_instance(self, name: str) -> None:
        """Clean up an instance that will not come back to this node, with what is kept between its lives.

        That is what hardware would remember: variables of its firmware, state of its TPM. Its disks are not touched.

        Raises:
            InstanceStateError: it is not over. It stays as it was.
            InstanceBusy: somebody else is working on it.
            HypervisorError: something could not be removed.
        """
        self.cleanup_instance(name)

    # ---- what there is

    @abc.abstractmethod
    def list_instances(self) -> list[str]:
        """Return the names of all instances known here, sorted. Asks no instance anything."""

    @abc.abstractmethod
    def get_instance_info(self, name: str) -> InstanceInfo:
        """Return what an instance is doing. Changes nothing.

        An instance that does not answer is UNRESPONSIVE, which is no error.

        Raises:
            InstanceNotFound: no instance of that name is known here.
            RuntimeStateError: what is remembered of it cannot be read.
        """

    @abc.abstractmethod
    def get_all_instances_info(self) -> list[InstanceInfo]:
        """Return what every instance known here is doing, in the order of `list_instances`. Changes nothing.

        One that does not answer, or of which nothing sensible is remembered, costs the others nothing: it is listed
        as UNRESPONSIVE or CRASHED, with the reason. One that goes while we look is left out.
        """

    @abc.abstractmethod
    def get_node_info(self) -> NodeInfo:
        """Return what this node has. Changes nothing."""

    @abc.abstractmethod
    def verify(self) -> list[str]:
        """Return what keeps this hypervisor from working on this node, a sentence each. Changes nothing."""

    def get_ancillary_files(self) -> AncillaryFiles:
        """Return the files that all nodes of a cluster must have in common for this hypervisor."""
        return AncillaryFiles()

    # ---- parameters

    @classmethod
    def check_parameter_syntax(cls, parameters: Mapping[str, object]) -> None:
        """Check parameters as far as that can be done anywhere.

        Raises:
            ParameterError: a name is not known or a value cannot be used.
        """
        cls.PARAMETERS.check_syntax(parameters)

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on this node, which is to use them. Changes nothing.

        Raises:
            ParameterError: the syntax is wrong, or this node cannot honour a value.
        """
        self.PARAMETERS.validate(parameters)

    @classmethod
    def assess_parameters(cls, parameters: Mapping[str, object]) -> list[str]:
        """Return what an operator should know about parameters that are allowed, a sentence each.

        Raises:
            ParameterError: the syntax is wrong.
        """
        return cls.PARAMETERS.assess(parameters)

    # ---- BALLOON, CONSOLE, MONITOR

    def balloon_instance_memory(self, name: str, memory_mib: int) -> None:
        """Ask a guest to make do with less memory than it was started with, or give it back.

        May be called when it is RUNNING or PAUSED.

        After success the target is set; the guest moves there as it can, and `get_instance_info` says how far it is.
        After failure the target is what it was.

        Args:
            name: the instance's name.
            memory_mib: what it is to have, in MiB: at least 1 and not more than it was started with.

        Raises:
            NotSupported: this hypervisor does not declare BALLOON.
            ParameterError: the memory is out of range, or no whole number.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
        """
        self._lacks(Capability.BALLOON)

    def get_instance_console(self, name: str) -> Console:
        """Return how to reach an instance's console. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare CONSOLE.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.CONSOLE)

    def monitor(self, name: str) -> AbstractContextManager[QmpConnection]:
        """Open a monitor of an instance; it is closed at the end of the ``with`` block.

        May be called in every state in which the instance has a process. Does not keep the hypervisor from its work.

        Raises:
            NotSupported: this hypervisor does not declare MONITOR.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it has no process.
            ConnectError: the monitor is taken, or does not answer.
        """
        self._lacks(Capability.MONITOR)

    # ---- HOTPLUG, RESIZE_DISK

    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        """Return if devices of a kind can be plugged in this way, on this instance and now. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            HotplugError: they cannot, and why.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Add a device to an instance that is RUNNING or PAUSED.

        After success the instance has the device, also after a reboot. After failure it does not, and nothing made
        for the device is left.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: the device could not be added.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Take a device, known by its uuid, from an instance that is RUNNING or PAUSED.

        After success the guest has let go of it and the instance does not have it. After failure the instance has it;
        the guest may have been asked to let go, and may do so later.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it has no such device, or the guest does not let go.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Change a device, known by its uuid, of an instance that is RUNNING or PAUSED to what is given.

        After success the instance has the device as given. After failure it has the old one, or none of the two where
        the error says so.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it has no such device, or it could not be changed.
        """
        self._lacks(Capability.HOTPLUG)

    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Tell the guest of an instance that is RUNNING or PAUSED that a disk, known by its uuid, has grown.

        After success the guest sees the new size. After failure it sees the old one.

        Raises:
            NotSupported: this hypervisor does not declare RESIZE_DISK.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            ParameterError: it has no such disk, or that is no size.
            HypervisorError: the disk could not be resized.
        """
        self._lacks(Capability.RESIZE_DISK)

    # ---- MIGRATION: the source's half and the destination's half

    def migration_info(self, name: str) -> MigrationInfo:
        """Return what the destination of a migration must know of an instance that runs here. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.MIGRATION)

    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """Look for all that keeps an instance from coming to this node from another one. Changes nothing.

        Without obstacles `accept_instance` can be expected to succeed; with them it raises MigrationRefused.

        Args:
            instance: what would come.
            info: what `migration_info` said on the source.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: `info` is of another instance, or of another version of this hypervisor.
        """
        self._lacks(Capability.MIGRATION)

    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Make ready on the destination for an instance that is to come.

        After success it is MIGRATING here and waits for its source. After failure it is unknown here.

        Args:
            instance: what is coming.
            info: what `migration_info` said on the source.
            target: the address of this node on which to wait: ``host:port``, or the path of a unix socket; or a socket
                of this process that is connected to the source, which stays the caller's to close.
            copies: disks of this node that the source will write to, which are there and as large as the source's; None
                where both nodes reach the same ones.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceStateError: an instance of that name is here already.
            MigrationRefused: this node cannot be what the instance is on its source; carries every reason.
            MigrationError: it cannot be accepted.
        """
        self._lacks(Capability.MIGRATION)

    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Begin to copy disks of an instance to a node that has accepted it, and return at once.

        The instance goes on as before, and what it writes is copied, too. When `get_disk_copies` says that all is
        ready, `migrate_instance` may be called; then `follow_migration` has the guest leave only when nothing is
        missing. `abort_migration` ends copies at any moment before. After failure nothing is being copied.

        Args:
            name: the instance's name.
            copies: what `accept_instance` was told.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            MigrationError: the disks cannot be copied.
        """
        self._lacks(Capability.MIGRATION)

    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        """Return how far the copies of an instance's disks are; nothing where none is being copied. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the hypervisor does not say.
        """
        self._lacks(Capability.MIGRATION)

    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Begin to send an instance from here to a node that has accepted it, and return at once.

        After success it is MIGRATING; follow it with `get_migration_status`. After failure it runs here as before.

        Args:
            name: the instance's name.
            target: the address on which the destination waits; or a socket of this process that is connected to it,
                which stays the caller's to close.
            live: keep the guest running while its memory is sent.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            MigrationError: the migration could not be started, or its disks are not all copied yet.
        """
        self._lacks(Capability.MIGRATION)

    def get_migration_status(self, name: str) -> MigrationStatus:
        """Return how far a migration from here is. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.MIGRATION)

    def follow_migration(
        self,
        name: str,
        policy: ConvergencePolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        """Watch a migration from here until it is over, and see to it that it does get over.

        One whose guest has left is watched until it is PAUSED, or nothing is sent any more, too; then it is as it was.

        May be called from its begin on; it is over at once if the migration is. Nothing is finalized by it. Whoever is
        interrupted over it leaves the migration going.

        Args:
            name: the instance's name.
            policy: when to let the guest stand still for longer, and when to give the migration up; None for the
                defaults of `ConvergencePolicy`.
            on_progress: called with the status several times a second, the last one included.

        Returns:
            How it ended; where it was given up or stands still, why.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the hypervisor does not say how far it is, or what is to be done to it fails.
        """
        self._lacks(Capability.MIGRATION)

    def abort_migration(self, name: str) -> None:
        """End a migration from here before it is over. Both halves are finalized afterwards, as after a failure.

        May be called from a migration's begin to its end. After success it is CANCELLED, or FAILED already. After
        failure call it again, or see what `get_migration_status` says.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the instance is on the other node already, or the migration does not end.
        """
        self._lacks(Capability.MIGRATION)

    def start_postcopy(self, name: str) -> None:
        """Let the guest of a migration from here leave now, and fetch the rest of its memory afterwards.

        After success the migration becomes POSTCOPY, and there is no way back: until it is COMPLETED the guest needs
        both nodes. After failure it goes on as before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the migration is not ACTIVE, or was not begun in a way that allows for this.
        """
        self._lacks(Capability.MIGRATION)

    def pause_migration(self, name: str) -> None:
        """Break the link of a POSTCOPY migration, which nothing comes over any more; first on its destination.

        Only the destination knows whether the guest is there by then, or would be lost. After its success do the same
        on the source, which may not see that the link broke. Then the migration is PAUSED, or COMPLETED just in time.
        After failure it is as before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not POSTCOPY, or the guest is still arriving.
        """
        self._lacks(Capability.MIGRATION)

    def resume_migration_destination(self, name: str, target: str | int) -> None:
        """Wait on the destination for the source of a PAUSED migration, before `resume_migration_source`.

        Args:
            name: the instance's name.
            target: the address of this node on which to wait, which may be another one than before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not PAUSED, which this node may see later than the other, or cannot wait there.
        """
        self._lacks(Capability.MIGRATION)

    def resume_migration_source(self, name: str, target: str | int) -> None:
        """Have a PAUSED migration from here go on. After success it is POSTCOPY, after failure still PAUSED.

        Args:
            name: the instance's name.
            target: the address on which the destination waits again.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not PAUSED, the hypervisor refuses, or the destination is not reached.
        """
        self._lacks(Capability.MIGRATION)

    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        """End a migration on its source.

        After a success of the migration the instance is unknown here; after its failure it runs here as before.

        Args:
            name: the instance's name.
            success: whether it runs on the destination now.
            live: what `migrate_instance` was told.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: it is not certain that no guest runs twice, or that one runs at all.
        """
        self._lacks(Capability.MIGRATION)

    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        """End a migration on its destination.

        After a success of the migration the instance is RUNNING here, or PAUSED if it was paused on its source; after
        its failure it is unknown here. A success may be told again, by somebody who does not know that it was.

        Returns:
            After a failure, the last that the hypervisor said here, which may be why; otherwise nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: it is not certain that no guest runs twice, or that one runs at all.
        """
        self._lacks(Capability.MIGRATION)

    # ---- RESTORE, POWERCYCLE

    def verify_instance(self, name: str) -> bool:
        """Return whether what surrounds a running instance on this node is all there. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare RESTORE.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.RESTORE)

    def restore_instance(self, name: str) -> None:
        """Bring back what surrounds a running instance and is missing. The guest is not disturbed.

        After success `verify_instance` says True. After failure more or less of it is missing; call it again.

        Raises:
            NotSupported: this hypervisor does not declare RESTORE.
            InstanceNotFound: no instance of that name is known here.
            HypervisorError: something could not be brought back.
        """
        self._lacks(Capability.RESTORE)

    def powercycle_node(self) -> None:
        """Reboot this node at once, without asking anything that runs on it. Does not return after success.

        Raises:
            NotSupported: this hypervisor does not declare POWERCYCLE.
            HypervisorError: the node did not go down.
        """
        self._lacks(Capability.POWERCYCLE)
