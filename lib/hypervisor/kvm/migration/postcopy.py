# SPDX-License-Identifier: BSD-2-Clause
"""Postcopy: the guest switches over before its memory is transferred, and a broken link can be resumed.

In postcopy the guest needs both nodes: its vCPUs run on the destination, and part of its memory exists only on the
source. If either node fails, the guest is lost. So the source persists that postcopy may have started before it sends
the command, and never resumes the guest afterwards.
"""

import contextlib

import attrs

from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.addresses import check_target, listening_path, migration_uri
from hvkit.hypervisor.kvm.migration.session import CHANGE_S, POLL_S, migration_monitor, require_phase
from hvkit.hypervisor.kvm.migration.status import query_migration
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MigrationState
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Migrate, MigratePause, MigrateRecover, MigrateStartPostcopy, QueryStatus


class PostcopyVerbs(KvmSubject):
    """The verbs of the capability MIGRATION that are about postcopy."""

    def start_postcopy(self, name: str) -> None:
        """Start postcopy. The parameter `migration_caps` must name `postcopy-ram` on both ends."""
        handle = self._instances.require_managed(name)
        with migration_monitor(handle) as monitor:
            switch_to_postcopy(handle, monitor)

    def pause_migration(self, name: str) -> None:
        """Break the link of a migration in postcopy.

        If the link breaks before the destination has the state of all devices, the guest is lost. Only the destination
        knows whether it has that state.
        """
        handle = self._instances.require_managed(name)
        with migration_monitor(handle) as monitor:
            with handle.locked():
                if monitor.execute(QueryStatus()).status == "inmigrate":
                    raise MigrationError(name, "the switchover is not complete: the guest would be lost")
                _require_status(monitor, handle, MigrationState.POSTCOPY, "there is no postcopy link to break")
                with contextlib.suppress(CommandError):  # the link is already broken
                    monitor.execute(MigratePause())

            def has_ended() -> bool:
                return query_migration(monitor).status is not MigrationState.POSTCOPY

            if not poll_until(has_ended, Deadline(CHANGE_S), interval_s=POLL_S):
                raise MigrationError(name, f"its link did not break within {CHANGE_S:g} s")

    def resume_migration_destination(self, name: str, target: str | int) -> None:
        handle = self._instances.require_managed(name)
        with handle.locked(), migration_monitor(handle) as monitor:
            runtime = _require_broken_link(handle, monitor, target, Phase.INCOMING)
            socket = listening_path(target)
            if runtime.incoming_socket != socket:
                remove_socket(runtime.incoming_socket)
            handle.persist(attrs.evolve(runtime, incoming_socket=socket))
            with migration_uri(monitor, target) as uri:
                monitor.execute(MigrateRecover(uri=uri))

    def resume_migration_source(self, name: str, target: str | int) -> None:
        handle = self._instances.require_managed(name)
        with handle.locked(), migration_monitor(handle) as monitor:
            _require_broken_link(handle, monitor, target, Phase.OUTGOING)
            with migration_uri(monitor, target) as uri:
                monitor.execute(Migrate(uri=uri, resume=True))

            # QEMU replies before it has reached the destination, and does not report a failure to reach it.
            def is_resumed() -> bool:
                return query_migration(monitor).status is not MigrationState.PAUSED

            if not poll_until(is_resumed, Deadline(CHANGE_S), interval_s=POLL_S):
                raise MigrationError(name, f"the destination {target} was not reached within {CHANGE_S:g} s")


def switch_to_postcopy(handle: InstanceHandle, monitor: QmpConnection) -> None:
    """Start postcopy over an open monitor.

    Raises:
        InstanceStateError: the instance is stopped.
        MigrationError: there is no outgoing migration, or it is not ACTIVE.
        QmpError: QEMU refused, or does not answer.
    """
    with handle.locked():
        runtime = handle.load()
        require_phase(handle, runtime, Phase.OUTGOING, "cannot start postcopy")
        _require_status(monitor, handle, MigrationState.ACTIVE, "cannot start postcopy")
        handle.persist(attrs.evolve(runtime, is_postcopy=True))
        try:
            monitor.execute(MigrateStartPostcopy())
        except CommandError:
            handle.persist(runtime)
            raise


def _require_broken_link(handle: InstanceHandle, monitor: QmpConnection, target: str | int, phase: Phase) -> Runtime:
    """Check that a migration can be resumed over an address, and return the persisted state of the instance.

    Raises:
        MigrationError: the address is not valid, or the migration is not PAUSED in this phase.
    """
    runtime = handle.load()
    check_target(handle.name, target, TABLE.fill(runtime.instance.parameters))
    require_phase(handle, runtime, phase, "cannot resume a migration")
    _require_status(monitor, handle, MigrationState.PAUSED, "there is no broken link to resume")
    return runtime


def _require_status(monitor: QmpConnection, handle: InstanceHandle, state: MigrationState, problem: str) -> None:
    status = query_migration(monitor)
    if status.status is not state:
        reported = status.phase or status.status.value
        raise MigrationError(handle.name, f"{problem}: QEMU reports the status {reported}")
