# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for instances that another program started."""

from __future__ import annotations

import os

from hvkit.hypervisor.model import Capability
from hvkit.hypervisor.model.reports import ExternalInstance
from hvkit.hypervisor.optional import OptionalMethods, optional


class AdoptionMethods(OptionalMethods):
    """Inspection and adoption of external instances."""

    @optional(Capability.ADOPT)
    def inspect_monitor(self, monitor: str | os.PathLike[str]) -> ExternalInstance:
        """Describe an external instance through its monitor. Changes nothing.

        Args:
            monitor: the absolute path of its monitor socket.

        Raises:
            NotSupported: the hypervisor does not have ADOPT.
            ParameterError: the path is not absolute.
            AdoptionError: the process behind the monitor cannot be identified or inspected.
            ConnectError: the monitor does not exist, another client uses it, or it does not answer.
            QmpError: a query failed.
        """
        raise NotImplementedError

    @optional(Capability.ADOPT)
    def adopt_instance(
        self,
        external: ExternalInstance,
        *,
        name: str | None = None,
        shared_monitor: str | os.PathLike[str] | None = None,
    ) -> str:
        """Adopt an external instance that was inspected before. Its guest is not affected.

        After success it is an instance of this hypervisor, in its current state, for every process that uses this
        `run_dir`, until `cleanup_instance`. The program that started it must not manage it any more. After failure
        nothing of it is stored. In both cases it keeps running.

        An adopted instance can be queried, stopped, rebooted, paused, ballooned, captured and cleaned up like any
        other. Operations that need the configuration of its machine raise `InstanceStateError`: those of BACKUP,
        HOTPLUG, LIMIT_DISK, MEDIA, MEMORY, MIGRATION, RESIZE_DISK, SNAPSHOT and VCPUS.

        Args:
            external: the result of `inspect_monitor`.
            name: its name on this node; None: the name that it reports.
            shared_monitor: the absolute path of a second monitor; None if it has only one. A monitor serves one client
                at a time.

        Returns:
            The name.

        Raises:
            NotSupported: the hypervisor does not have ADOPT.
            ParameterError: the name is invalid, another instance has its uuid, or the path is not absolute.
            AdoptionError: there is an instance of that name, this QEMU is an instance already, or it changed since the
                inspection.
            InstanceStateError: there is no instance of that name, but a QEMU that hvkit started with it is running.
            InstanceBusy: another operation holds the lock of an instance of that name.
            ConnectError: a monitor does not exist, another client uses it, or it does not answer.
        """
        raise NotImplementedError
