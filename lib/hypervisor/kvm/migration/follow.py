# SPDX-License-Identifier: BSD-2-Clause
"""Watch a migration until it is over, and do to it what a policy decides.

That takes one connection, for as long as it lasts. A QEMU whose link is cut while its guest stands still to leave does
nothing but send, and answers nobody, for as long as the kernel takes to give the link up: a quarter of an hour. Over a
connection that was there before, it still takes commands out of band, and so can be told to let go.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from hvkit.hypervisor.convergence import MigrationPolicy, Sample, Step
from hvkit.hypervisor.errors import InstanceStateError, MigrationError
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.common import ANSWER_S, ask_status, cancel, wanted_capabilities
from hvkit.hypervisor.kvm.migration.disk_copies import finish_copies
from hvkit.hypervisor.kvm.migration.postcopy import let_leave
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import CommandTimeout, QmpConnection, QmpError
from hvkit.qmp.schema import MigrateContinue, MigrateSetParameters, Yank, YankInstance

#: Seconds between two looks, the least and the most. QEMU reckons its rates anew ten times a second.
_LOOK_S: Final = (0.01, 0.2)
#: Between two looks passes this share of the time that a migration takes already: its end is not seen much later.
_LOOK_SHARE: Final = 0.02


def follow(
    handle: InstanceHandle,
    policy: MigrationPolicy,
    on_progress: Callable[[MigrationStatus], None] | None,
) -> MigrationStatus:
    """Watch a migration until it is over, and do what a policy decides, as `BaseHypervisor.follow_migration` says."""
    with _line(handle) as monitor:
        return _follow(handle, monitor, policy, on_progress)


@contextlib.contextmanager
def _line(handle: InstanceHandle) -> Iterator[QmpConnection]:
    """Keep a connection, and tell in terms of the migration what QEMU refuses or does not answer.

    It is one to the watchers' monitor: the control monitor is for others meanwhile.
    """
    try:
        with handle.open_process(handle.load()) as process:
            sockets = (handle.paths.shared_socket, handle.paths.control_socket)
            monitor = connect_monitor(sockets, process, timeout_s=ANSWER_S, out_of_band=True)
            with contextlib.closing(monitor):
                yield monitor
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(handle.name, str(error)) from error


def _follow(
    handle: InstanceHandle,
    monitor: QmpConnection,
    policy: MigrationPolicy,
    on_progress: Callable[[MigrationStatus], None] | None,
) -> MigrationStatus:
    runtime = handle.load()
    parameters = TABLE.fill(runtime.instance.parameters)
    downtime_ms = parameters["migration_downtime"]
    can_postcopy = "postcopy-ram" in wanted_capabilities(parameters)
    has_left = runtime.is_postcopy
    samples: list[Sample] = []
    changed_at_s = 0.0
    began_s = time.monotonic()
    while True:
        try:
            status = ask_status(monitor, timeout_s=ANSWER_S)
        except CommandTimeout:
            return _break_off(handle, monitor)
        if on_progress is not None:
            on_progress(status)
        if status.phase == "pre-switchover" and handle.load().is_copied:
            status = _switch(handle, monitor, status)
        if status.status not in (MigrationState.ACTIVE, MigrationState.POSTCOPY):
            return status
        has_left = has_left or status.status is MigrationState.POSTCOPY
        samples.append(_sample(status, time.monotonic() - began_s))
        if has_left:
            decision = policy.decide_postcopy(samples, downtime_ms)
        else:
            decision = policy.decide(samples, downtime_ms, changed_at_s, can_postcopy=can_postcopy)
        match decision.step:
            case Step.GIVE_UP:
                return _give_up(handle, monitor, decision.reason)
            case Step.REPORT:
                return attrs.evolve(status, reason=decision.reason)
            case Step.POSTCOPY:
                has_left = _let_leave(handle, monitor)
            case Step.ALLOW_DOWNTIME:
                downtime_ms, changed_at_s = decision.downtime_ms, samples[-1].at_s
                monitor.execute(MigrateSetParameters(downtime_limit=downtime_ms))
        time.sleep(min(max(samples[-1].at_s * _LOOK_SHARE, _LOOK_S[0]), _LOOK_S[1]))


def _sample(status: MigrationStatus, at_s: float) -> Sample:
    return Sample(
        at_s=at_s,
        transferred_bytes=status.transferred_bytes or 0,
        remaining_bytes=status.remaining_bytes,
    )


def _give_up(handle: InstanceHandle, monitor: QmpConnection, reason: str) -> MigrationStatus:
    """End a migration, unless its guest arrives at this very moment, and return how it ended."""
    with handle.locked():
        status = cancel(monitor, handle.load(), handle)
    if status.status is MigrationState.COMPLETED:
        return status
    return attrs.evolve(status, reason=f"it was given up: {reason}")


def _break_off(handle: InstanceHandle, monitor: QmpConnection) -> MigrationStatus:
    """End a migration whose QEMU answers nobody, by breaking its link off.

    Raises:
        QmpError: it cannot be told so, or still does not answer.
    """
    monitor.execute(Yank(instances=[YankInstance(type="migration")]), out_of_band=True, timeout=ANSWER_S)
    return _give_up(handle, monitor, f"QEMU did not answer for {ANSWER_S:g} s, until its link was broken off")


def _switch(handle: InstanceHandle, monitor: QmpConnection, status: MigrationStatus) -> MigrationStatus:
    """End the copies of the disks of a guest that stands still, and let it go; where they failed, it stays."""
    with handle.locked():
        try:
            finish_copies(monitor, handle)
        except MigrationError as error:
            given_up = cancel(monitor, handle.load(), handle)
            return attrs.evolve(given_up, reason=f"it was given up: {error.reason}")
        if ask_status(monitor).phase == "pre-switchover":  # somebody else may have come first
            monitor.execute(MigrateContinue(state="pre-switchover"))
    return status


def _let_leave(handle: InstanceHandle, monitor: QmpConnection) -> bool:
    """Have a guest leave before its memory, and return whether it does: it may be over at this very moment."""
    try:
        let_leave(handle, monitor)
    except (MigrationError, QmpError):
        if ask_status(monitor).status is MigrationState.ACTIVE:
            raise
        return False
    return True
