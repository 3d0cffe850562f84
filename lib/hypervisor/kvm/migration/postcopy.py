# SPDX-License-Identifier: BSD-2-Clause
"""Let a guest leave before its memory does, and mend the link over which it fetches the rest.

Such a guest needs both ends until it has everything: its processors are with the destination, and part of its memory is
nowhere but with the source. Whoever loses one end has lost the guest. So the source notes down that the guest may leave
before it tells it to, and from then on it never lets it run here.
"""

import contextlib
import time

import attrs

from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.runtime import Phase
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.common import (
    LOOK_AGAIN_S,
    SETTLE_S,
    ask_status,
    check_target,
    incoming_socket,
    migration_uri,
    monitor_session,
)
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Migrate, MigratePause, MigrateRecover, MigrateStartPostcopy, QueryStatus


def start_postcopy(handle: InstanceHandle) -> None:
    """Let a guest leave now, as `BaseHypervisor.start_postcopy` says.

    Raises:
        MigrationError: it cannot leave that way; it goes on as before.
    """
    with monitor_session(handle) as monitor:
        let_leave(handle, monitor)


def let_leave(handle: InstanceHandle, monitor: QmpConnection) -> None:
    """Let a guest leave now, over a monitor that is open.

    Raises:
        MigrationError: it is not being sent from here, or not on its way.
        QmpError: QEMU refuses, or does not answer.
    """
    with handle.locked():
        runtime = handle.load()
        if runtime.phase is not Phase.OUTGOING:
            raise MigrationError(handle.name, "it is not being sent from here")
        _need(monitor, handle, MigrationState.ACTIVE, "its guest cannot leave now")
        handle.persist(attrs.evolve(runtime, is_postcopy=True))
        try:
            monitor.execute(MigrateStartPostcopy())
        except CommandError:
            handle.persist(runtime)
            raise


def pause(handle: InstanceHandle) -> MigrationStatus:
    """Break the link of a guest that has left, as `BaseHypervisor.pause_migration` says.

    A destination that loses its source before it has the guest's devices gives up, and the guest is lost. Only the
    destination knows when that is over.

    Raises:
        MigrationError: the guest has not left, or has everything, or is still arriving; or QEMU does not let go of the
            link.
    """
    with monitor_session(handle) as monitor:
        if monitor.execute(QueryStatus()).status == "inmigrate":
            raise MigrationError(handle.name, "its guest is still arriving, and would be lost")
        _need(monitor, handle, MigrationState.POSTCOPY, "there is no link that it could be broken off from")
        with contextlib.suppress(CommandError):  # a link that breaks by itself just now
            monitor.execute(MigratePause())
        deadline = Deadline(SETTLE_S)
        while (status := ask_status(monitor)).status is MigrationState.POSTCOPY:
            if deadline.remaining_s() <= 0:
                raise MigrationError(handle.name, f"its link was broken off, and is there after {SETTLE_S:g} s")
            time.sleep(LOOK_AGAIN_S)
        return status


def resume_destination(handle: InstanceHandle, target: str | int) -> None:
    """Wait for the source on another link, as `BaseHypervisor.resume_migration_destination` says.

    Raises:
        MigrationError: the link is not broken, or nobody can be waited for at that address.
    """
    with handle.locked(), monitor_session(handle) as monitor:
        runtime = handle.load()
        check_target(handle.name, target, TABLE.fill(runtime.instance.parameters))
        if runtime.phase is not Phase.INCOMING:
            raise MigrationError(handle.name, "it is not coming here")
        _need(monitor, handle, MigrationState.PAUSED, "there is nothing to mend")
        if runtime.incoming_socket != incoming_socket(target):
            remove_socket(runtime.incoming_socket)
        handle.persist(attrs.evolve(runtime, incoming_socket=incoming_socket(target)))
        with migration_uri(monitor, target) as uri:
            monitor.execute(MigrateRecover(uri=uri))


def resume_source(handle: InstanceHandle, target: str | int) -> None:
    """Go on over another link, as `BaseHypervisor.resume_migration_source` says.

    Raises:
        MigrationError: the link is not broken, QEMU refuses, or the destination is not reached.
    """
    with handle.locked(), monitor_session(handle) as monitor:
        runtime = handle.load()
        check_target(handle.name, target, TABLE.fill(runtime.instance.parameters))
        if runtime.phase is not Phase.OUTGOING:
            raise MigrationError(handle.name, "it is not being sent from here")
        _need(monitor, handle, MigrationState.PAUSED, "there is nothing to mend")
        with migration_uri(monitor, target) as uri:
            monitor.execute(Migrate(uri=uri, resume=True))
        # It begins when the destination has been reached, and QEMU does not say when that fails.
        deadline = Deadline(SETTLE_S)
        while ask_status(monitor).status is MigrationState.PAUSED:
            if deadline.remaining_s() <= 0:
                raise MigrationError(handle.name, f"the destination was not reached at {target} in {SETTLE_S:g} s")
            time.sleep(LOOK_AGAIN_S)


def _need(monitor: QmpConnection, handle: InstanceHandle, state: MigrationState, problem: str) -> None:
    status = ask_status(monitor)
    if status.status is not state:
        raise MigrationError(handle.name, f"QEMU says that it is {status.phase or status.status.value}: {problem}")
