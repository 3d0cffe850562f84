# SPDX-License-Identifier: BSD-2-Clause
"""Send an instance to another node.

Who knows when a migration is over is QEMU alone; who knows whether both ends may forget it is the cluster manager. It
finalizes both, and neither half believes a word that its QEMU contradicts: a guest that has left is never let run
again, one that has come is never ended.
"""

import contextlib
import logging
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceStateError, MigrationError
from hvkit.hypervisor.kvm.devices.media import read_media
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.migration.common import (
    ANSWER_S,
    ask_status,
    cancel,
    check_target,
    configure,
    forget,
    migration_uri,
    reset_capabilities,
    translate_errors,
    with_port,
)
from hvkit.hypervisor.kvm.migration.disk_copies import are_ready, drop_copies
from hvkit.hypervisor.kvm.migration.preflight import describe_machine
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.schema import Cont, Migrate, MigrationCapability, QueryStatus, Stop

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: From here on QEMU notices all that a guest writes which it runs by itself. 7.2 was seen to miss most of it.
KEEPS_TRACK_OF_TCG: Final = (10, 0, 0)


def read_info(handle: InstanceHandle, hypervisor: str) -> MigrationInfo:
    """Say what the destination must know of a machine that is here, as `BaseHypervisor.migration_info` says.

    Raises:
        MigrationError: it has no QEMU that answers.
    """
    runtime = handle.load()
    try:
        with handle.connected() as monitor:
            return describe_machine(runtime, monitor, hypervisor, read_media(monitor, runtime))
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(handle.name, str(error)) from error


def begin(handle: InstanceHandle, target: str | int, *, live: bool) -> None:
    """Begin to send an instance, as `BaseHypervisor.migrate_instance` says.

    Raises:
        MigrationError: QEMU refuses; the instance is as it was.
    """
    with handle.locked():
        handle.require_alive("it cannot be sent")
        runtime = handle.load()
        parameters = TABLE.fill(runtime.instance.parameters)
        if runtime.backup is not None:  # which QEMU would notice when the guest stands still for the switch
            raise MigrationError(handle.name, "its disks are being backed up, or somebody died over that")
        target = with_port(target, parameters)
        check_target(handle.name, target, parameters)
        with handle.connected() as monitor:
            was_running = monitor.execute(QueryStatus()).running
            is_copied = are_ready(monitor, handle)
            outgoing = attrs.evolve(
                runtime, phase=Phase.OUTGOING, was_running=was_running, is_postcopy=False, is_copied=is_copied
            )
            handle.persist(outgoing)
            try:
                waiting: tuple[MigrationCapability, ...] = ("pause-before-switchover",) if is_copied else ()
                configure(monitor, parameters, "client", *waiting)
                if not live or parameters["migration_mode"] != "live":
                    monitor.execute(Stop())
                elif was_running and runtime.accelerator == "tcg" and runtime.qemu_version < KEEPS_TRACK_OF_TCG:
                    _log.warning(
                        "%s: its QEMU may lose what its guest writes on its way: see docs/migration.md", handle.name
                    )
                with migration_uri(monitor, target) as uri:
                    monitor.execute(Migrate(uri=uri))
            except QmpError as error:
                # Where QEMU does not answer it may be on its way: that is for `finalize_source` to find out.
                if isinstance(error, CommandError):
                    _take_back(monitor, outgoing, handle)
                raise MigrationError(handle.name, str(error)) from error


def abort(handle: InstanceHandle) -> None:
    """End a migration from here, as `BaseHypervisor.abort_migration` says.

    Raises:
        MigrationError: it is over already, does not end, or cannot be ended any more.
    """
    with handle.locked(), translate_errors(handle), handle.connected(timeout_s=ANSWER_S) as monitor:
        if cancel(monitor, handle.load(), handle).status is MigrationState.COMPLETED:
            raise MigrationError(handle.name, "it is on the other node already")
        drop_copies(monitor, handle)


def finalize_source(handle: InstanceHandle, *, success: bool) -> None:
    """End a migration on its source, as `BaseHypervisor.finalize_migration_source` says."""
    with handle.locked():
        runtime = handle.load()
        if runtime.phase is not Phase.OUTGOING:
            raise MigrationError(handle.name, "it is not being sent from here")
        process = find_process(runtime, handle.paths)
        if process is None:
            if not success:
                raise MigrationError(handle.name, "its process has gone: it does not run here")
            forget(runtime, handle)
            return
        with process, translate_errors(handle):
            with handle.connected(timeout_s=ANSWER_S) as monitor:
                if not success:
                    if cancel(monitor, runtime, handle).status is MigrationState.COMPLETED:
                        raise MigrationError(handle.name, "QEMU says that it was sent: it may run on the other node")
                    if runtime.is_postcopy and not monitor.execute(QueryStatus()).running:
                        # QEMU 11 calls a migration failed whose link was broken off after the guest had left.
                        raise MigrationError(handle.name, "its guest was told to leave, and may run on the other node")
                    _take_back(monitor, runtime, handle)
                    return
                status = ask_status(monitor)
                if status.status is not MigrationState.COMPLETED:
                    reason = f": {status.reason}" if status.reason else ""
                    raise MigrationError(handle.name, f"QEMU says that it is {status.status.value}{reason}")
            stop_process(process, handle.paths, guest_timeout_s=0)
        forget(runtime, handle)


def _take_back(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> None:
    """Have a guest that did not leave go on as before."""
    with contextlib.suppress(CommandError):  # which does not keep it from going on
        reset_capabilities(monitor)
    if runtime.was_running and not monitor.execute(QueryStatus()).running:
        monitor.execute(Cont())
    handle.persist(attrs.evolve(runtime, phase=Phase.RUNNING, is_copied=False))
    drop_copies(monitor, handle)
