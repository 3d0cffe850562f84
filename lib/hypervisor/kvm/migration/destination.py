# SPDX-License-Identifier: BSD-2-Clause
"""The destination of a migration: the start of a QEMU that waits for its guest, and the end of the migration."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceStartError, InstanceStateError, MigrationError, translate_errors
from hvkit.hypervisor.kvm.host.listeners import is_listening
from hvkit.hypervisor.kvm.host.log import read_log_tail
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.probe import probe_capabilities
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.lifecycle.start import bring_up
from hvkit.hypervisor.kvm.migration.addresses import check_target, listening_path, migration_uri, with_port
from hvkit.hypervisor.kvm.migration.configuration import configure_migration
from hvkit.hypervisor.kvm.migration.description import check_owner
from hvkit.hypervisor.kvm.migration.disk_copies import offer_disks
from hvkit.hypervisor.kvm.migration.preflight import prepare_destination
from hvkit.hypervisor.kvm.migration.session import (
    ANSWER_S,
    CHANGE_S,
    POLL_S,
    remove_instance,
    require_phase,
    unknown_outcome,
)
from hvkit.hypervisor.kvm.migration.status import POSTCOPY_STATES, query_migration
from hvkit.hypervisor.kvm.qemu.migration_capabilities import reset_migration_capabilities
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import DiskCopies, Instance, check_kind
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Cont, MigrateIncoming, NbdServerStop, QueryStatus

#: Seconds for a QEMU to end after its monitor connection was lost.
_END_S: Final = 2.0


class MigrationDestinationVerbs(KvmSubject):
    """The verbs of the capability MIGRATION that accept and finalize a migration on its destination."""

    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Start a QEMU that waits for its guest, with the machine of the source and every device in the same slot."""
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        handle = self._instances.handle(instance.name)
        instance = self._with_program(instance)
        preparation = prepare_destination(
            instance, info, self.name, partial(probe_capabilities, cache_dir=self._instances.find_cache_dir())
        )
        self._instances.check_no_internal_paths(instance)
        self._instances.directory.make()
        with handle.locked():
            self._instances.check_reservable(instance, preparation.parameters)
            handle.reap_stopped("cannot be accepted")
            self._accept(preparation, handle, target, copies)

    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        handle = self._instances.require_managed(instance.name)
        with handle.locked():
            runtime = handle.load()
            if success and runtime.has_arrived and runtime.phase is not Phase.INCOMING:
                return ""
            require_phase(handle, runtime, Phase.INCOMING, "cannot finalize a migration")
            check_owner(info, instance, self.name)
            return _finalize(handle, runtime, success=success)

    def _accept(
        self, preparation: Preparation, handle: InstanceHandle, target: str | int, copies: DiskCopies | None
    ) -> None:
        """Start the QEMU, and have it listen on the target. The caller holds the lock.

        Raises:
            MigrationError: it did not start, or cannot listen on the target.
            InstanceStateError: it did not start, and its process could not be killed.
        """
        instance, parameters = preparation.instance, preparation.parameters
        name = instance.name
        target = with_port(target, parameters)
        check_target(name, target, parameters)
        if copies is not None:
            check_target(name, copies.target, parameters)
        socket_path = listening_path(target)
        _check_unused(name, socket_path, "" if copies is None else listening_path(copies.target))

        def await_guest(monitor: QmpConnection) -> None:
            configure_migration(monitor, parameters, "server")
            if copies is not None:
                offer_disks(monitor, handle.load(), copies)
            with migration_uri(monitor, target) as uri:
                monitor.execute(MigrateIncoming(uri=uri))

        reserved = self._instances.reserving(instance, parameters)
        copies_target = "" if copies is None else copies.target
        preparation = attrs.evolve(preparation, incoming_socket=socket_path, copies_target=copies_target)
        try:
            bring_up(preparation, handle, reserved, start_paused=False, await_guest=await_guest)
        except InstanceStateError:
            raise  # the process still exists and uses its sockets
        except HypervisorError as error:
            remove_socket(socket_path)
            remove_socket(copies_target)
            if isinstance(error, InstanceStartError):
                log = _one_line(error.log)
                reason = f"cannot accept the instance: {error.reason}" + (f": {log}" if log else "")
                raise MigrationError(name, reason) from error
            raise


def _check_unused(name: str, *sockets: str) -> None:
    """Check that no process listens on these unix sockets, because QEMU would replace them.

    Raises:
        MigrationError: a process does, or the kernel refuses the check.
    """
    with translate_errors(partial(MigrationError, name)):
        for path in filter(None, sockets):
            if is_listening(Path(path)):
                raise MigrationError(name, f"cannot accept the instance: another process listens on {path}")


def _finalize(handle: InstanceHandle, runtime: Runtime, *, success: bool) -> str:
    """End an incoming migration. The caller holds the lock."""
    process = find_process(runtime, handle.paths)
    if process is None:
        return _remove_ended(handle, runtime, success=success)
    with process, translate_errors(unknown_outcome(handle.name)):
        try:
            has_guest = _complete(handle, runtime) if success else _has_guest(handle)
        except (QmpError, InstanceStateError):
            # A destination that loses its source ends by itself.
            if not process.wait(_END_S):
                raise
            has_guest = False
        if success and has_guest:
            remove_socket(runtime.incoming_socket)
            remove_socket(runtime.copies_target)
            runtime = attrs.evolve(runtime, phase=Phase.RUNNING, incoming_socket="", copies_target="", has_arrived=True)
            handle.persist(runtime)
            return ""
        if success and not process.wait(0):
            raise MigrationError(handle.name, _with_log("it has not completed on this node", handle))
        if has_guest:
            raise MigrationError(handle.name, "the switchover is complete: the guest may run on this node")
        stop_process(process, handle.paths, guest_timeout_s=0)
    return _remove_ended(handle, runtime, success=success)


def _has_guest(handle: InstanceHandle) -> bool:
    """Return whether the switchover is complete, even if part of the memory is still on the source (postcopy)."""
    with handle.connected(timeout_s=ANSWER_S) as monitor:
        return monitor.execute(QueryStatus()).status != "inmigrate"


def _complete(handle: InstanceHandle, runtime: Runtime) -> bool:
    """Wait until the migration is complete with all of the memory, and resume the guest if it ran on the source.

    The source may detect the end of a migration before the destination.

    Returns:
        Whether it is complete.
    """
    with handle.connected(timeout_s=ANSWER_S) as monitor:

        def is_complete() -> bool:
            if monitor.execute(QueryStatus()).status == "inmigrate":
                return False
            return query_migration(monitor).status not in POSTCOPY_STATES

        if not poll_until(is_complete, Deadline(CHANGE_S), interval_s=POLL_S):
            return False
        if runtime.copies_target:
            with contextlib.suppress(CommandError):  # an earlier, interrupted call stopped it
                monitor.execute(NbdServerStop())
        with contextlib.suppress(CommandError):  # the guest can run with capabilities set
            reset_migration_capabilities(monitor)
        # A guest that was stopped for a non-live migration stays paused unless it is resumed.
        if runtime.was_running and monitor.execute(QueryStatus()).status == "paused":
            monitor.execute(Cont())
        return True


def _remove_ended(handle: InstanceHandle, runtime: Runtime, *, success: bool) -> str:
    """Remove a destination whose process has ended, and return the end of its log.

    Raises:
        MigrationError: the caller expected the guest on this node.
    """
    log = _one_line(read_log_tail(handle.paths.log_file))
    problem = _with_log("its process has ended: the guest does not run on this node", handle)
    remove_instance(handle, runtime)
    if success:
        raise MigrationError(handle.name, problem)
    return log


def _with_log(problem: str, handle: InstanceHandle) -> str:
    log = _one_line(read_log_tail(handle.paths.log_file))
    return f"{problem}: {log}" if log else problem


def _one_line(log: str) -> str:
    return " | ".join(log.splitlines())
