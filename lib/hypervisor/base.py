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
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.adoption import AdoptionMethods
from hvkit.hypervisor.capture import CaptureMethods
from hvkit.hypervisor.devices import DeviceMethods
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.migration import MigrationMethods
from hvkit.hypervisor.model import Capability, Instance, check_kind, is_absolute_path
from hvkit.hypervisor.model.reports import AncillaryFiles, Console, InstanceInfo, NodeInfo
from hvkit.hypervisor.parameters import ParameterTable
from hvkit.hypervisor.storage import StorageMethods
from hvkit.hypervisor.watch import InstanceWatch

if TYPE_CHECKING:
    from hvkit.qmp import QmpConnection

#: The methods that a capability stands for. A plugin has them if and only if it declares it.
OPTIONAL_METHODS: Final[Mapping[Capability, tuple[str, ...]]] = MappingProxyType(
    {
        Capability.ADOPT: ("inspect_monitor", "adopt_instance"),
        Capability.BACKUP: ("backup_disks", "abort_backup", "get_checkpoints", "drop_checkpoint"),
        Capability.BALLOON: ("balloon_instance_memory",),
        Capability.CONSOLE: ("get_instance_console",),
        Capability.DUMP: ("get_dump_formats", "dump_instance_memory"),
        Capability.HOTPLUG: ("verify_hotplug_support", "hot_add_device", "hot_del_device", "hot_mod_device"),
        Capability.LIMIT_DISK: ("limit_disk",),
        Capability.MEDIA: ("change_medium", "eject_medium"),
        Capability.MEMORY: ("set_instance_memory",),
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
        Capability.SCREENSHOT: ("get_instance_screenshot",),
        Capability.SNAPSHOT: (
            "save_snapshot",
            "load_snapshot",
            "delete_snapshot",
            "get_snapshots",
            "add_overlays",
            "merge_overlays",
        ),
        Capability.VCPUS: ("set_instance_vcpus",),
    }
)


class BaseHypervisor(AdoptionMethods, CaptureMethods, DeviceMethods, MigrationMethods, StorageMethods, abc.ABC):
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

    def watch(self) -> InstanceWatch:
        """Return what looks at all instances again and again; it is to be closed, or used in a ``with`` block.

        A look is as true as `get_all_instances_info`, and costs less where the hypervisor can do better than to begin
        anew each time. Nothing else is kept from its work. May be called at any time, also while another watch is
        open; one that dies with its process leaves nothing that has to be cleaned up.
        """
        return InstanceWatch(self.get_all_instances_info)

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

    # ---- CONSOLE, MONITOR

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
