# SPDX-License-Identifier: BSD-2-Clause
"""The loop that follows an outgoing migration until it ends, and carries out the decisions of a policy.

It uses one monitor connection throughout. If the network is cut while the guest is stopped for the switchover, QEMU
blocks in sending, and does not answer until the TCP connection times out, after about 15 minutes. Over a connection
that was opened before, it still executes out-of-band commands, among them the one that breaks the link.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import attrs

from hvkit.hypervisor.convergence import ConvergencePolicy, Decision, MigrationPolicy, Sample, Step
from hvkit.hypervisor.errors import MigrationError, translate_errors
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.abort import cancel_migration
from hvkit.hypervisor.kvm.migration.configuration import wanted_capabilities
from hvkit.hypervisor.kvm.migration.disk_copies import complete_copies
from hvkit.hypervisor.kvm.migration.postcopy import switch_to_postcopy
from hvkit.hypervisor.kvm.migration.session import ANSWER_S
from hvkit.hypervisor.kvm.migration.status import query_migration
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import CommandTimeout, QmpConnection, QmpError
from hvkit.qmp.schema import MigrateContinue, MigrateSetParameters, Yank, YankInstance

#: The least and the most seconds between two queries. QEMU updates its rates ten times a second.
_INTERVALS_S: Final = (0.01, 0.2)
#: The interval between two queries, relative to the time that the migration has taken so far.
_INTERVAL_SHARE: Final = 0.02


class FollowVerbs(KvmSubject):
    """The verb of the capability MIGRATION that follows a migration."""

    def follow_migration(
        self,
        name: str,
        policy: MigrationPolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        handle = self._instances.require_managed(name)
        # Errors of `on_progress` are the caller's own, and not translated.
        translated = partial(translate_errors, partial(MigrationError, name))
        with contextlib.ExitStack() as stack:
            with translated():
                monitor = stack.enter_context(_connection(handle))
            runtime = handle.load()
            parameters = TABLE.fill(runtime.instance.parameters)
            follower = _Follower(
                handle=handle,
                monitor=monitor,
                policy=policy or ConvergencePolicy(),
                can_postcopy="postcopy-ram" in wanted_capabilities(parameters),
                is_postcopy=runtime.is_postcopy,
                downtime_ms=parameters["migration_downtime"],
            )
            while True:
                with translated():
                    try:
                        status = query_migration(monitor, timeout_s=ANSWER_S)
                    except CommandTimeout:
                        return follower.break_link()
                if on_progress is not None:
                    on_progress(status)
                with translated():
                    result = follower.advance(status)
                if result is not None:
                    return result
                time.sleep(follower.interval_s)


@contextlib.contextmanager
def _connection(handle: InstanceHandle) -> Iterator[QmpConnection]:
    """Open the shared monitor, or else the control monitor, with out-of-band commands enabled."""
    with handle.open_process(handle.load()) as process:
        sockets = (handle.paths.shared_socket, handle.paths.control_socket)
        monitor = connect_monitor(sockets, process, timeout_s=ANSWER_S, out_of_band=True)
        with contextlib.closing(monitor):
            yield monitor


@attrs.define(kw_only=True)
class _Follower:
    """One call of `follow_migration`.

    Attributes:
        handle: the instance.
        monitor: its monitor.
        policy: the policy.
        can_postcopy: whether both ends have enabled postcopy.
        is_postcopy: whether postcopy has started.
        downtime_ms: the current downtime limit in milliseconds.
        downtime_changed_at_s: when the limit was last changed, in seconds since the beginning.
        began_s: when following began, on the monotonic clock.
        samples: what was observed so far, oldest first.
    """

    handle: InstanceHandle
    monitor: QmpConnection
    policy: MigrationPolicy
    can_postcopy: bool
    is_postcopy: bool
    downtime_ms: int
    downtime_changed_at_s: float = 0.0
    began_s: float = attrs.field(factory=time.monotonic)
    samples: list[Sample] = attrs.field(factory=list)

    @property
    def interval_s(self) -> float:
        """Seconds until the next query."""
        least_s, most_s = _INTERVALS_S
        return min(max(self.samples[-1].at_s * _INTERVAL_SHARE, least_s), most_s)

    def advance(self, status: MigrationStatus) -> MigrationStatus | None:
        """Carry out the decision of the policy for a status.

        Returns:
            The final status; None if the migration continues.
        """
        if status.phase == "pre-switchover" and self.handle.load().is_copied:
            status = self._switch_over(status)
        if status.status not in (MigrationState.ACTIVE, MigrationState.POSTCOPY):
            return status
        self.is_postcopy = self.is_postcopy or status.status is MigrationState.POSTCOPY
        sample = Sample(
            at_s=time.monotonic() - self.began_s,
            transferred_bytes=status.transferred_bytes or 0,
            remaining_bytes=status.remaining_bytes,
        )
        self.samples.append(sample)
        decision = self._decide()
        match decision.step:
            case Step.GIVE_UP:
                return self._give_up(decision.reason)
            case Step.REPORT:
                return attrs.evolve(status, reason=decision.reason)
            case Step.POSTCOPY:
                self.is_postcopy = self._start_postcopy()
            case Step.ALLOW_DOWNTIME:
                self.downtime_ms, self.downtime_changed_at_s = decision.downtime_ms, sample.at_s
                self.monitor.execute(MigrateSetParameters(downtime_limit=self.downtime_ms))
        return None

    def break_link(self) -> MigrationStatus:
        """End a migration whose QEMU does not answer, by breaking its link.

        Raises:
            QmpError: QEMU does not execute that either, or still does not answer.
        """
        self.monitor.execute(Yank(instances=[YankInstance(type="migration")]), out_of_band=True, timeout=ANSWER_S)
        return self._give_up(f"QEMU did not answer for {ANSWER_S:g} s, and its link was closed")

    def _decide(self) -> Decision:
        if self.is_postcopy:
            return self.policy.decide_postcopy(self.samples, self.downtime_ms)
        return self.policy.decide(
            self.samples, self.downtime_ms, self.downtime_changed_at_s, can_postcopy=self.can_postcopy
        )

    def _give_up(self, reason: str) -> MigrationStatus:
        """Cancel the migration, unless it completes at this moment, and return how it ended."""
        with self.handle.locked():
            status = cancel_migration(self.monitor, self.handle.load(), self.handle)
        if status.status is MigrationState.COMPLETED:
            return status
        return attrs.evolve(status, reason=f"aborted: {reason}")

    def _switch_over(self, status: MigrationStatus) -> MigrationStatus:
        """Complete the copies of the disks while the guest is stopped, and continue; if a copy failed, cancel."""
        with self.handle.locked():
            try:
                complete_copies(self.monitor, self.handle)
            except MigrationError as error:
                cancelled = cancel_migration(self.monitor, self.handle.load(), self.handle)
                return attrs.evolve(cancelled, reason=f"aborted: {error.reason}")
            if query_migration(self.monitor).phase == "pre-switchover":  # another process may have continued it
                self.monitor.execute(MigrateContinue(state="pre-switchover"))
        return status

    def _start_postcopy(self) -> bool:
        """Start postcopy, and return whether it started: the migration may end at this moment."""
        try:
            switch_to_postcopy(self.handle, self.monitor)
        except (MigrationError, QmpError):
            if query_migration(self.monitor).status is MigrationState.ACTIVE:
                raise
            return False
        return True
