# SPDX-License-Identifier: BSD-2-Clause
"""Policies that make a migration converge: when to wait, allow more downtime, switch to postcopy, or cancel.

A precopy migration does not converge while the guest writes faster than its memory is sent, and does not end while the
connection is broken. QEMU reports neither as an error. Policies decide from samples of the progress alone.
"""

import enum
import math
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from hvkit.errors import ProgrammerError

#: A pass counts as progress only if it has less to send than every earlier one by at least this fraction.
_PROGRESS: Final = 0.05


@attrs.frozen(kw_only=True)
class Sample:
    """The progress of a migration at one time.

    Attributes:
        at_s: seconds since its start.
        transferred_bytes: bytes sent so far.
        remaining_bytes: bytes still to be sent; None if not known yet.
    """

    at_s: float
    transferred_bytes: int
    remaining_bytes: int | None


class Step(enum.Enum):
    """A step of a policy.

    Attributes:
        WAIT: do nothing.
        ALLOW_DOWNTIME: raise the downtime limit.
        POSTCOPY: switch to postcopy.
        GIVE_UP: cancel the migration; the guest stays on the source.
        REPORT: return the status: postcopy has stalled. Resuming it over another connection takes both nodes.
    """

    WAIT = "wait"
    ALLOW_DOWNTIME = "allow downtime"
    POSTCOPY = "postcopy"
    GIVE_UP = "give up"
    REPORT = "report"


@attrs.frozen
class Decision:
    """A decision of a policy.

    Attributes:
        step: what to do.
        downtime_ms: the new downtime limit in milliseconds for ALLOW_DOWNTIME; otherwise the current one.
        reason: why, as text; empty for WAIT.
    """

    step: Step
    downtime_ms: int
    reason: str = ""


class MigrationPolicy(Protocol):
    """The interface of policies: `ConvergencePolicy`, or one of your own.

    A policy is called after every query of the status. Its decisions should depend on its arguments alone, so that it
    can be tested with samples of recorded migrations.
    """

    def decide(
        self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
    ) -> Decision:
        """Decide the next step of a precopy migration; see `ConvergencePolicy.decide`."""

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        """Decide the next step of a postcopy migration: WAIT or REPORT."""


@attrs.frozen(kw_only=True)
class ConvergencePolicy:
    """A policy with timeouts that suit most guests.

    Attributes:
        stall_s: seconds without a byte sent after which a precopy migration is cancelled, and a postcopy migration is
            reported as stalled.
        patience_s: seconds without progress after which the migration switches to postcopy if both nodes support it;
            otherwise the downtime limit is doubled.
        max_downtime_ms: the maximum of the downtime limit, in milliseconds. After `patience_s` seconds without progress
            at the maximum, the migration is cancelled.
        total_s: seconds after which a precopy migration is cancelled in any case; None: no limit.
    """

    stall_s: float = 30.0
    patience_s: float = 10.0
    max_downtime_ms: int = 1000
    total_s: float | None = None

    def __attrs_post_init__(self) -> None:
        if min(self.stall_s, self.patience_s) <= 0 or self.max_downtime_ms < 1 or (self.total_s or 1) <= 0:
            raise ProgrammerError(f"expected positive numbers, got {self}")

    def decide(
        self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
    ) -> Decision:
        """Decide the next step of a precopy migration.

        Args:
            samples: all samples so far, oldest first; at least one.
            downtime_ms: the current downtime limit, in milliseconds.
            changed_at_s: when the limit was last changed; progress is measured from then.
            can_postcopy: whether both nodes support postcopy.

        Raises:
            ProgrammerError: there is no sample.
        """
        now_s = _last(samples).at_s
        if self.total_s is not None and now_s >= self.total_s:
            return Decision(Step.GIVE_UP, downtime_ms, f"not completed within {self.total_s:g} s")
        silent_s = now_s - _last_sent_s(samples)
        if silent_s >= self.stall_s:
            return Decision(Step.GIVE_UP, downtime_ms, f"nothing was sent for {silent_s:.0f} s")
        stuck_s = now_s - max(_last_progress_s(samples), changed_at_s)
        if stuck_s < self.patience_s:
            return Decision(Step.WAIT, downtime_ms)
        reason = f"no progress for {stuck_s:.0f} s: the guest writes memory as fast as it is sent"
        if can_postcopy:
            return Decision(Step.POSTCOPY, downtime_ms, reason)
        if downtime_ms >= self.max_downtime_ms:
            return Decision(Step.GIVE_UP, downtime_ms, f"{reason}, and the downtime limit is {downtime_ms} ms already")
        return Decision(Step.ALLOW_DOWNTIME, min(max(downtime_ms, 1) * 2, self.max_downtime_ms), reason)

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        """Decide the next step of a postcopy migration, which cannot be cancelled.

        Args:
            samples: all samples so far, oldest first; at least one.
            downtime_ms: returned with the decision.

        Raises:
            ProgrammerError: there is no sample.
        """
        silent_s = _last(samples).at_s - _last_sent_s(samples)
        if silent_s < self.stall_s:
            return Decision(Step.WAIT, downtime_ms)
        return Decision(Step.REPORT, downtime_ms, f"nothing was sent for {silent_s:.0f} s")


def _last(samples: Sequence[Sample]) -> Sample:
    if not samples:
        raise ProgrammerError("a policy needs at least one sample")
    return samples[-1]


def _last_sent_s(samples: Sequence[Sample]) -> float:
    """Return the time at which data was last sent."""
    sent = samples[-1].transferred_bytes
    return next(sample.at_s for sample in samples if sample.transferred_bytes == sent)


def _last_progress_s(samples: Sequence[Sample]) -> float:
    """Return the time of the last progress.

    Precopy sends memory in passes. Each sends what the guest wrote during the previous one, so that the remaining bytes
    fall to zero and rise when the next pass begins. A pass that starts with less to send than every earlier one is
    progress for as long as it lasts, whatever its rate.
    """
    at_s = samples[0].at_s
    least_to_send, is_progress, before = math.inf, False, math.inf
    for sample in samples:
        remaining = sample.remaining_bytes
        if remaining is None:
            continue
        if remaining > before or before == math.inf:
            is_progress = remaining < least_to_send * (1 - _PROGRESS)
            least_to_send = min(least_to_send, remaining)
        if is_progress and remaining < before:
            at_s = sample.at_s
        before = remaining
    return at_s
