# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors may be able to do with a machine that somebody else started: look at it, and take it over.

`BaseHypervisor` has these methods; a plugin that declares ADOPT overrides all of them.
"""

from __future__ import annotations

import os

from hvkit.hypervisor.model import Capability
from hvkit.hypervisor.model.reports import ExternalInstance
from hvkit.hypervisor.optional import OptionalMethods


class AdoptionMethods(OptionalMethods):
    """The part of `BaseHypervisor` that is about machines of somebody else."""

    def inspect_monitor(self, monitor: str | os.PathLike[str]) -> ExternalInstance:
        """Return what a machine is that somebody else started, as far as it tells. Changes nothing.

        Args:
            monitor: the absolute path of the socket where it listens.

        Raises:
            NotSupported: this hypervisor does not declare ADOPT.
            ParameterError: that is no absolute path.
            AdoptionError: it is not the monitor's own process that listens there, or that cannot be looked at.
            ConnectError: the monitor is not there, is taken, or does not answer.
            QmpError: it does not tell.
        """
        self._lacks(Capability.ADOPT)

    def adopt_instance(
        self,
        external: ExternalInstance,
        *,
        name: str | None = None,
        shared_monitor: str | os.PathLike[str] | None = None,
    ) -> str:
        """Take over a machine that somebody else started, and that was looked at before. Its guest notices nothing.

        After success it is an instance here, in the state that it was in, for every process that uses this `run_dir`,
        until `cleanup_instance`. Whoever started it is to leave it alone from then on. After failure nothing of it is
        here. In both cases it runs on.

        An adopted instance is looked at, stopped, rebooted, ballooned, dumped and cleaned up like any other. What takes
        more than it tells is refused with `InstanceStateError`: HOTPLUG, RESIZE_DISK, MIGRATION, SNAPSHOT, BACKUP.

        Args:
            external: the result of `inspect_monitor`.
            name: what it is to be called here; None for the name that the machine has.
            shared_monitor: the absolute path of a second monitor that it has; None where it has one only, which then
                serves whoever comes first.

        Returns:
            The name.

        Raises:
            NotSupported: this hypervisor does not declare ADOPT.
            ParameterError: no instance can have that name, another one has its uuid, or that is no absolute path.
            AdoptionError: an instance of that name is known here, it is an instance here already, or it is not any more
                what it was when it was looked at.
            InstanceBusy: somebody else is working on an instance of that name.
            ConnectError: a monitor is not there, is taken, or does not answer.
        """
        self._lacks(Capability.ADOPT)
