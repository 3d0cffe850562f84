# SPDX-License-Identifier: BSD-2-Clause
"""The interface of every hypervisor, with the names of operations that Ganeti uses.

The states of an instance::

    (none) --start--> RUNNING, PAUSED --stop, or the guest--> SHUTDOWN, CRASHED --cleanup--> (none)
                            ^                                         |
                            +------------------start------------------+

MIGRATING and UNRESPONSIVE are described at `InstanceState`. An instance exists from its start until its cleanup, for
every process that uses the same `run_dir`. Hypervisor objects with the same `run_dir` are interchangeable: all state is
on disk. Optional methods raise `NotSupported`, and change nothing, unless the plugin overrides them;
`BaseHypervisor.CAPABILITIES` lists the capabilities that it has.

Methods may be called from several processes at a time. A method that changes an instance holds its lock, and raises
`InstanceBusy` if another operation holds the lock for too long.

Every method can raise these errors; its own Raises section does not repeat them:

* `ParameterError`: the name of an instance is invalid, or `run_dir` is accessible to other users or cannot be used.
* `RuntimeStateError`: the state file of the instance cannot be read or written. `stop_instance` and `cleanup_instance`
  work even if the state file is damaged.
* `InstanceError`: the process of the instance cannot be identified.
* `ProgrammerError`: an argument has the wrong type. Exceptions: the name of an instance and integers of the wrong type
  raise `ParameterError`, like any other invalid value; flags and callbacks are not checked.

A timeout is in seconds. It may be ``math.inf`` for no limit; negative numbers and NaN raise `ParameterError`.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hvkit.hypervisor.adoption import AdoptionMethods
from hvkit.hypervisor.capture import CaptureMethods
from hvkit.hypervisor.devices import DeviceMethods
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.migration import MigrationMethods
from hvkit.hypervisor.model import Capability, Instance, check_kind, is_absolute_path
from hvkit.hypervisor.model.reports import AncillaryFiles, Console, InstanceInfo, NodeCheck, NodeInfo
from hvkit.hypervisor.optional import optional, optional_methods
from hvkit.hypervisor.parameters import ParameterTable
from hvkit.hypervisor.storage import StorageMethods
from hvkit.hypervisor.watch import InstanceWatch

if TYPE_CHECKING:
    from hvkit.qmp import QmpConnection


class BaseHypervisor(AdoptionMethods, CaptureMethods, DeviceMethods, MigrationMethods, StorageMethods, abc.ABC):
    """Runs instances on this node.

    A plugin is a subclass that an entry point of the group ``hvkit.hypervisors`` names.

    Attributes:
        name: the name of the hypervisor and of its entry point.
        PARAMETERS: the parameters it accepts.
        CAPABILITIES: the optional parts of the interface that it has; computed from its methods.
        run_dir: the directory of its state; absolute.
    """

    PARAMETERS: ClassVar[ParameterTable]

    def __init__(self, *, run_dir: str | os.PathLike[str]) -> None:
        """Use a run directory. Nothing on the node is changed before an instance is started, accepted or adopted.

        Args:
            run_dir: the directory for the state of instances. It is created when it is first needed, with mode 0700.

        Raises:
            ParameterError: the path is not valid for a directory.
        """
        check_kind(run_dir, str, os.PathLike)
        path = os.path.abspath(run_dir) if os.fspath(run_dir) else ""
        if not is_absolute_path(path):
            raise ParameterError("run_dir", path, f"not the path of a directory: {os.fspath(run_dir)!r}")
        self.run_dir = Path(path)

    def has(self, capability: Capability) -> bool:
        """Return whether the hypervisor has a capability."""
        return capability in self.CAPABILITIES

    @abc.abstractmethod
    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        """Start an instance.

        Allowed if there is no such instance, or it is SHUTDOWN or CRASHED. A stopped instance of that name is cleaned
        up first, after all checks that need no change on the node.

        After success it is RUNNING, or PAUSED if requested; its uuid was verified. After failure nothing of the new
        start is left, unless its process cannot be ended. A stopped instance of that name is unchanged if a check
        failed, and otherwise cleaned up.

        Args:
            instance: the instance.
            start_paused: do not start its vCPUs.

        Raises:
            ParameterError: a parameter or a device cannot be used, or another instance has the same uuid.
            InstanceStateError: it exists already, and is not stopped; or it did not start, and its process cannot be
                ended.
            InstanceBusy: another operation holds its lock.
            InstanceStartError: it did not start.
        """

    @abc.abstractmethod
    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        """Stop an instance: by a graceful shutdown (ACPI), and after the timeout by force.

        Allowed in every state. An instance that is SHUTDOWN or CRASHED stays so; if it still has a process, that is
        ended.

        After success it is SHUTDOWN or CRASHED, has no process, and exists until `cleanup_instance`. After failure it
        is in its previous state, but the guest may have been asked to shut down.

        Args:
            name: the instance.
            force: do not ask the guest; its memory and unwritten data are lost.
            timeout: seconds for the guest to shut down; None: the hypervisor's default.
            retry: only wait for the guest, which an earlier call has asked to shut down.

        Raises:
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: its process cannot be ended, even by force.
            InstanceBusy: another operation holds its lock.
        """

    @abc.abstractmethod
    def reboot_instance(self, name: str) -> None:
        """Reset an instance. Unwritten data of the guest is lost. It must be RUNNING.

        After success it is RUNNING, with the same uuid. After failure query its state with `get_instance_info`.

        Raises:
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is not RUNNING. Nothing was changed.
            InstanceBusy: another operation holds its lock.
            InstanceError: the reset failed.
        """

    @optional(Capability.PAUSE)
    def pause_instance(self, name: str) -> None:
        """Stop the vCPUs of an instance. It must be RUNNING or PAUSED.

        After success it is PAUSED; it keeps its memory and its connections. After failure it is in the state that
        `get_instance_info` returns: a QEMU that did not answer in time may still execute the command.

        Raises:
            NotSupported: the hypervisor does not have PAUSE.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or it is PAUSED by an operation that must not be
                interrupted, such as a snapshot. Nothing was changed.
            InstanceBusy: another operation holds its lock.
            InstanceError: QEMU refuses, or does not answer.
        """
        raise NotImplementedError

    @optional(Capability.PAUSE)
    def resume_instance(self, name: str) -> None:
        """Start the vCPUs of a PAUSED instance. Does nothing if it is RUNNING.

        After success it is RUNNING. It is paused again if the cause of the pause, such as a full disk, persists. After
        failure it is in the state that `get_instance_info` returns: a QEMU that did not answer in time may still
        execute the command.

        Raises:
            NotSupported: the hypervisor does not have PAUSE.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or it cannot be resumed from its pause, for example
                because the guest is suspended. Nothing was changed.
            InstanceBusy: another operation holds its lock.
            InstanceError: QEMU refuses, or does not answer.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def cleanup_instance(self, name: str) -> None:
        """Remove a stopped instance from this node: its state and its files. Its disks are not touched.

        It must be SHUTDOWN or CRASHED. If there is no such instance, leftover files of that name are removed; it is not
        an error if there are none.

        After success there is no such instance. After failure, retry.

        Raises:
            InstanceStateError: it is not stopped. Nothing was changed.
            InstanceBusy: another operation holds its lock.
            HypervisorError: something could not be removed.
        """

    def purge_instance(self, name: str) -> None:
        """Clean up an instance, and delete the UEFI variables and TPM state that `cleanup_instance` keeps.

        For an instance that will not return to this node. Its disks are not touched. After failure, retry.

        Raises:
            InstanceStateError: it is not stopped. Nothing was changed.
            InstanceBusy: another operation holds its lock.
            HypervisorError: something could not be removed.
        """
        self.cleanup_instance(name)

    @abc.abstractmethod
    def list_instances(self) -> list[str]:
        """List the names of all instances, sorted. Does not query any of them."""

    @abc.abstractmethod
    def get_instance_info(self, name: str) -> InstanceInfo:
        """Return the state of an instance. Changes nothing.

        An instance that does not answer is UNRESPONSIVE, which is not an error.

        Raises:
            InstanceNotFound: there is no such instance.
        """

    @abc.abstractmethod
    def get_all_instances_info(self) -> list[InstanceInfo]:
        """Return the state of every instance, in the order of `list_instances`. Changes nothing.

        An instance that does not answer, or whose state file is damaged, does not affect the others: it is UNRESPONSIVE
        or CRASHED, with the reason. An instance that is removed meanwhile is left out.
        """

    def watch(self) -> InstanceWatch:
        """Return a watch, which queries all instances repeatedly; close it, or use it in a ``with`` block.

        Its queries have the same results as `get_all_instances_info`, and may be cheaper, because a hypervisor can keep
        connections open between them. May be called at any time, also while there is another watch. If the process of a
        watch dies, nothing needs to be cleaned up.
        """
        return InstanceWatch(self.get_all_instances_info)

    @abc.abstractmethod
    def get_node_info(self) -> NodeInfo:
        """Return the resources of this node. Changes nothing."""

    @abc.abstractmethod
    def verify(self) -> list[str]:
        """Return the problems that prevent the hypervisor from working here, one sentence each. Changes nothing."""

    @classmethod
    def get_node_checks(cls, **options: Any) -> list[NodeCheck]:
        """Check the software and devices of this node that instances need. Changes nothing.

        Needs no `run_dir`. `verify` checks one hypervisor object and its run_dir.

        Args:
            options: the constructor options that the checks depend on; others are ignored.

        Returns:
            The results, in a fixed order. Empty for a hypervisor without requirements.
        """
        return []

    def get_ancillary_files(self) -> AncillaryFiles:
        """Return the files that all nodes of a cluster must have in common for this hypervisor."""
        return AncillaryFiles()

    @classmethod
    def check_parameter_syntax(cls, parameters: Mapping[str, object]) -> None:
        """Check parameters as far as that is possible without the node.

        Raises:
            ParameterError: a name is unknown, or a value is invalid.
        """
        cls.PARAMETERS.check_syntax(parameters)

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on the node that will use them. Changes nothing.

        Raises:
            ParameterError: the syntax is wrong, or this node does not support a value.
        """
        self.PARAMETERS.validate(parameters)

    @classmethod
    def assess_parameters(cls, parameters: Mapping[str, object]) -> list[str]:
        """Return advice for operators about valid parameters, one sentence each.

        Raises:
            ParameterError: the syntax is wrong.
        """
        return cls.PARAMETERS.assess(parameters)

    @optional(Capability.CONSOLE)
    def get_instance_console(self, name: str) -> Console:
        """Return how to connect to the console of an instance. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have CONSOLE.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process.
        """
        raise NotImplementedError

    @optional(Capability.MONITOR)
    def monitor(self, name: str) -> AbstractContextManager[QmpConnection]:
        """Connect to a monitor of an instance; the connection is closed at the end of the ``with`` block.

        Allowed in every state in which the instance has a process. Does not affect other operations.

        Raises:
            NotSupported: the hypervisor does not have MONITOR.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process.
            ConnectError: another client uses the monitor, or it does not answer.
        """
        raise NotImplementedError

    @optional(Capability.RESTORE)
    def verify_instance(self, name: str) -> bool:
        """Return whether everything outside its process that a running instance needs on this node exists.

        That is its environment, such as network interfaces. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have RESTORE.
            InstanceNotFound: there is no such instance.
        """
        raise NotImplementedError

    @optional(Capability.RESTORE)
    def restore_instance(self, name: str) -> None:
        """Recreate the missing parts of the environment of a running instance. The guest is not affected.

        After success `verify_instance` returns True. After failure, retry.

        Raises:
            NotSupported: the hypervisor does not have RESTORE.
            InstanceNotFound: there is no such instance.
            InstanceBusy: another operation holds its lock.
            HypervisorError: something could not be recreated.
        """
        raise NotImplementedError

    @optional(Capability.POWERCYCLE)
    def powercycle_node(self) -> None:
        """Reboot this node at once, without stopping its instances. Does not return after success.

        Raises:
            NotSupported: the hypervisor does not have POWERCYCLE.
            HypervisorError: the node could not be rebooted.
        """
        raise NotImplementedError


#: The optional methods of the interface, by capability.
OPTIONAL_METHODS: Final[Mapping[Capability, tuple[str, ...]]] = MappingProxyType(
    {capability: tuple(methods) for capability, methods in optional_methods(BaseHypervisor).items()}
)
