# SPDX-License-Identifier: BSD-2-Clause
"""What both halves of a migration have in common: its addresses, its settings, and what QEMU says of it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.convergence import ConvergencePolicy, Sample, Step
from hvkit.hypervisor.errors import InstanceStateError, MigrationError
from hvkit.hypervisor.kvm.instances import Instances
from hvkit.hypervisor.kvm.nics import take_down_nics
from hvkit.hypervisor.kvm.parameters import TABLE
from hvkit.hypervisor.kvm.paths import InstancePaths, remove_socket
from hvkit.hypervisor.kvm.runtime import Runtime
from hvkit.hypervisor.model import MigrationState, MigrationStatus
from hvkit.qmp import QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    MigrateCancel,
    MigrateSetCapabilities,
    MigrateSetParameters,
    MigrationCapabilityStatus,
    QueryMigrate,
    QueryMigrateCapabilities,
)
from hvkit.qmp.schema import MigrationInfo as Progress

_MIB: Final = 1 << 20

#: What each status of QEMU's means. One that is newer than this table is taken for a phase of a migration that goes on.
#: Source: QAPI module `migration`, definition `MigrationStatus`.
_STATES: Final = {
    None: MigrationState.NONE,
    "none": MigrationState.NONE,
    "completed": MigrationState.COMPLETED,
    "failed": MigrationState.FAILED,
    "cancelled": MigrationState.CANCELLED,
}

#: Seconds that a migration has to end when it is cancelled, or when both ends know that it is over.
SETTLE_S: Final = 10.0
#: Seconds between two looks at something that is about to happen.
LOOK_AGAIN_S: Final = 0.05
#: Seconds between two looks at a migration that is followed. QEMU reckons its rates anew ten times a second.
_FOLLOW_S: Final = 0.2


def to_uri(name: str, target: str) -> str:
    """Return how QEMU is told of an address: the path of a unix socket, or ``host:port``.

    Raises:
        MigrationError: it is neither.
    """
    if target.startswith("/") and "\0" not in target:
        return f"unix:{target}"
    host, colon, port = target.rpartition(":")
    if host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 and "," not in host:
        return f"tcp:{target}"
    raise MigrationError(name, f"expected an absolute path or host:port to migrate to, got {target!r}")


def configure(monitor: QmpConnection, parameters: Mapping[str, Any]) -> None:
    """Set what both ends have to agree on, and how much the guest may be disturbed.

    All of it: an earlier attempt, with other parameters, leaves nothing switched on.
    """
    wanted = {"events", *filter(None, parameters["migration_caps"].split(":"))}
    states = {each.capability: each.state for each in monitor.execute(QueryMigrateCapabilities())}
    changes: list[Any] = [
        MigrationCapabilityStatus(capability=each, state=each in wanted)
        for each in sorted({*states, *wanted})
        if states.get(each) is not (each in wanted)
    ]
    if changes:
        monitor.execute(MigrateSetCapabilities(capabilities=changes))
    bandwidth = parameters["migration_bandwidth"] * _MIB
    monitor.execute(
        MigrateSetParameters(
            max_bandwidth=bandwidth, max_postcopy_bandwidth=bandwidth, downtime_limit=parameters["migration_downtime"]
        )
    )


@contextlib.contextmanager
def explaining(paths: InstancePaths) -> Iterator[None]:
    """Tell of a QEMU that does not answer what that means for a migration."""
    try:
        yield
    except QmpError as error:
        raise MigrationError(paths.name, f"what became of it is not known: {error}") from error


def forget(runtime: Runtime, paths: InstancePaths) -> None:
    """Remove what is left of an instance that has no process here any more."""
    take_down_nics(runtime)
    remove_socket(runtime.incoming_socket)
    paths.remove()


# ---- how far it is


def read_status(instances: Instances, paths: InstancePaths) -> MigrationStatus:
    """Return how far a migration is, as `BaseHypervisor.get_migration_status` says.

    Raises:
        MigrationError: its QEMU does not say.
    """
    try:
        with instances.connected(paths) as monitor:
            return ask_status(monitor)
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(paths.name, str(error)) from error


def ask_status(monitor: QmpConnection) -> MigrationStatus:
    """Return what QEMU says of a migration.

    The first time it says that one is over, its figures may still be missing.
    """
    progress = monitor.execute(QueryMigrate())
    return _to_status(progress if progress.status != "completed" else monitor.execute(QueryMigrate()))


def _to_status(progress: Progress) -> MigrationStatus:
    ram = progress.ram
    return MigrationStatus(
        status=_STATES.get(progress.status, MigrationState.ACTIVE),
        phase=progress.status or "",
        transferred_bytes=None if ram is None else ram.transferred,
        remaining_bytes=None if ram is None else ram.remaining,
        total_bytes=None if ram is None else ram.total,
        total_time_ms=progress.total_time,
        downtime_ms=progress.downtime,
        expected_downtime_ms=progress.expected_downtime,
        reason=progress.error_desc or "",
    )


def follow(
    instances: Instances,
    paths: InstancePaths,
    policy: ConvergencePolicy,
    on_progress: Callable[[MigrationStatus], None] | None,
) -> MigrationStatus:
    """Watch a migration until it is over, and do what a policy decides, as `BaseHypervisor.follow_migration` says."""
    downtime_ms = TABLE.fill(instances.recall(paths).instance.parameters)["migration_downtime"]
    samples: list[Sample] = []
    changed_at_s = 0.0
    began_s = time.monotonic()
    while True:
        status = read_status(instances, paths)
        if on_progress is not None:
            on_progress(status)
        if status.status is not MigrationState.ACTIVE:
            return status
        at_s = time.monotonic() - began_s
        samples.append(
            Sample(
                at_s=at_s,
                transferred_bytes=status.transferred_bytes or 0,
                remaining_bytes=status.remaining_bytes or 0,
            )
        )
        decision = policy.decide(samples, downtime_ms, changed_at_s)
        if decision.step is Step.GIVE_UP:
            return _give_up(instances, paths, decision.reason)
        if decision.step is Step.ALLOW_DOWNTIME:
            downtime_ms, changed_at_s = decision.downtime_ms, at_s
            with explaining(paths):
                instances.execute(paths, MigrateSetParameters(downtime_limit=downtime_ms))
        time.sleep(_FOLLOW_S)


def _give_up(instances: Instances, paths: InstancePaths, reason: str) -> MigrationStatus:
    """End a migration, unless its guest arrives at this very moment, and return how it ended."""
    with instances.locked(paths), explaining(paths), instances.connected(paths) as monitor:
        cancel(monitor, paths)
        status = ask_status(monitor)
    if status.status is MigrationState.COMPLETED:
        return status
    return attrs.evolve(status, reason=f"it was given up: {reason}")


def abort(instances: Instances, paths: InstancePaths) -> None:
    """End a migration from here, as `BaseHypervisor.abort_migration` says.

    Raises:
        MigrationError: it is over already, or does not end.
    """
    with instances.locked(paths), explaining(paths), instances.connected(paths) as monitor:
        if cancel(monitor, paths) is MigrationState.COMPLETED:
            raise MigrationError(paths.name, "it is on the other node already")


def cancel(monitor: QmpConnection, paths: InstancePaths) -> MigrationState:
    """End a migration that goes on, and return how it ended; that may be well.

    Raises:
        MigrationError: it does not end.
    """
    monitor.execute(MigrateCancel())
    deadline = Deadline(SETTLE_S)
    while True:
        state = ask_status(monitor).status
        if state is not MigrationState.ACTIVE:
            return state
        if deadline.remaining_s() <= 0:
            raise MigrationError(paths.name, f"it was cancelled, and goes on after {SETTLE_S:g} s")
        time.sleep(LOOK_AGAIN_S)
