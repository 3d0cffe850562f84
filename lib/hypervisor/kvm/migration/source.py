# SPDX-License-Identifier: BSD-2-Clause
"""The source of a migration: its start, and its end on this node.

Only QEMU knows whether a migration has ended, and only the cluster manager knows whether both nodes may finalize it.
Both halves compare the caller's statement with the status of their own QEMU. A guest that may run on the destination is
never resumed on the source, and never stopped on the destination.
"""

import contextlib
import logging
from functools import partial
from typing import Final

import attrs

from hvkit.hypervisor.errors import MigrationError, translate_errors
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.migration.abort import cancel_migration
from hvkit.hypervisor.kvm.migration.addresses import check_target, migration_uri, with_port
from hvkit.hypervisor.kvm.migration.configuration import configure_migration
from hvkit.hypervisor.kvm.migration.disk_copies import are_ready, cancel_copies
from hvkit.hypervisor.kvm.migration.session import ANSWER_S, remove_instance, require_phase, unknown_outcome
from hvkit.hypervisor.kvm.migration.status import query_migration
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.migration_capabilities import reset_migration_capabilities
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MigrationState, check_kind
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.schema import Cont, Migrate, MigrationCapability, QueryStatus, Stop

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: The oldest QEMU that tracks every guest write without KVM (TCG). QEMU 7.2 was seen to miss most of them.
TCG_TRACKING_VERSION: Final = (10, 0, 0)


class MigrationSourceVerbs(KvmSubject):
    """The verbs of the capability MIGRATION that begin and finalize a migration on its source."""

    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Begin to migrate an instance. The parameter `migration_mode` can make every migration non-live."""
        handle = self._instances.require_managed(name)
        with translate_errors(partial(MigrationError, name)), handle.locked():
            handle.require_alive("cannot be migrated")
            runtime = handle.load()
            parameters = TABLE.fill(runtime.instance.parameters)
            if runtime.backup is not None:  # QEMU would fail only at the switchover
                raise MigrationError(name, "a backup of its disks is running or was interrupted")
            target = with_port(target, parameters)
            check_target(name, target, parameters)
            is_live = live and parameters["migration_mode"] == "live"
            with handle.connected() as monitor:
                outgoing = attrs.evolve(
                    runtime,
                    phase=Phase.OUTGOING,
                    was_running=monitor.execute(QueryStatus()).running,
                    is_postcopy=False,
                    is_copied=are_ready(monitor, handle),
                )
                handle.persist(outgoing)
                try:
                    _begin(monitor, outgoing, target, is_live=is_live)
                except CommandError:
                    # After other errors the migration may be running, which `finalize_migration_source` queries.
                    _resume(monitor, outgoing, handle)
                    raise

    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        check_kind(success, bool)
        check_kind(live, bool)
        handle = self._instances.require_managed(name)
        with handle.locked():
            runtime = handle.load()
            require_phase(handle, runtime, Phase.OUTGOING, "cannot finalize a migration")
            process = find_process(runtime, handle.paths)
            if process is None:
                if not success:
                    raise MigrationError(name, "its process has ended: the guest does not run on this node")
                remove_instance(handle, runtime)
                return
            with process, translate_errors(unknown_outcome(name)):
                with handle.connected(timeout_s=ANSWER_S) as monitor:
                    if not success:
                        _cancel(monitor, runtime, handle)
                        return
                    status = query_migration(monitor)
                    if status.status is not MigrationState.COMPLETED:
                        reason = f": {status.reason}" if status.reason else ""
                        raise MigrationError(name, f"QEMU reports the status {status.status.value}{reason}")
                stop_process(process, handle.paths, guest_timeout_s=0)
            remove_instance(handle, runtime)


def _begin(monitor: QmpConnection, runtime: Runtime, target: str | int, *, is_live: bool) -> None:
    """Configure QEMU and begin to migrate."""
    parameters = TABLE.fill(runtime.instance.parameters)
    more: tuple[MigrationCapability, ...] = ("pause-before-switchover",) if runtime.is_copied else ()
    configure_migration(monitor, parameters, "client", *more)
    if not is_live:
        monitor.execute(Stop())
    elif runtime.was_running and runtime.accelerator == "tcg" and runtime.qemu_version < TCG_TRACKING_VERSION:
        version = ".".join(map(str, runtime.qemu_version))
        name = runtime.instance.name
        _log.warning("%s: QEMU %s without KVM may lose guest writes: see docs/migration.md", name, version)
    with migration_uri(monitor, target) as uri:
        monitor.execute(Migrate(uri=uri))


def _cancel(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> None:
    """Cancel a migration, and resume the guest on this node.

    Raises:
        MigrationError: the guest may run on the destination.
        QmpError: QEMU refused, or does not answer.
    """
    if cancel_migration(monitor, runtime, handle).status is MigrationState.COMPLETED:
        raise MigrationError(handle.name, "QEMU reports that it completed: the guest may run on the destination")
    if runtime.is_postcopy and not monitor.execute(QueryStatus()).running:
        # QEMU 11 reports a failed migration if the link was broken after the switchover.
        raise MigrationError(handle.name, "postcopy was started: the guest may run on the destination")
    _resume(monitor, runtime, handle)


def _resume(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> None:
    """Resume the guest on this node, and cancel the copies of its disks."""
    with contextlib.suppress(CommandError):  # the guest can run with capabilities set
        reset_migration_capabilities(monitor)
    if runtime.was_running and not monitor.execute(QueryStatus()).running:
        monitor.execute(Cont())
    handle.persist(attrs.evolve(runtime, phase=Phase.RUNNING, is_copied=False))
    cancel_copies(monitor, handle)
