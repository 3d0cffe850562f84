# SPDX-License-Identifier: BSD-2-Clause
"""When to wait for a migration, when to let its guest stand still for longer, and when to give it up.

A guest that writes faster than its memory is sent never leaves; a link that was cut leaves a migration going for ever.
Neither is an error to those who carry it out. What to do about it is decided here, from nothing but what was seen.
"""

import enum
import math
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from hvkit.errors import ProgrammerError

#: A pass that has less to send than those before, by less than this share, is chance.
_PROGRESS: Final = 0.05


@attrs.frozen(kw_only=True)
class Sample:
    """What a migration had done at a moment.

    Attributes:
        at_s: seconds since it began.
        transferred_bytes: what was sent by then.
        remaining_bytes: what was still to be sent; None where nobody knows yet, before anything is.
    """

    at_s: float
    transferred_bytes: int
    remaining_bytes: int | None


class Step(enum.Enum):
    """What to do about a migration.

    Attributes:
        WAIT: nothing.
        ALLOW_DOWNTIME: let the guest stand still for longer at the end.
        POSTCOPY: let the guest leave now, and fetch the rest of its memory afterwards.
        GIVE_UP: end it; the guest stays where it is.
        REPORT: tell that a guest that has left fetches nothing any more. To mend the link takes both nodes.
    """

    WAIT = "wait"
    ALLOW_DOWNTIME = "allow downtime"
    POSTCOPY = "postcopy"
    GIVE_UP = "give up"
    REPORT = "report"


@attrs.frozen
class Decision:
    """What to do about a migration, and why.

    Attributes:
        step: what.
        downtime_ms: for ALLOW_DOWNTIME, how long the guest may stand still now, in milliseconds; otherwise what it was.
        reason: why, in words; empty for WAIT.
    """

    step: Step
    downtime_ms: int
    reason: str = ""


class MigrationPolicy(Protocol):
    """Whatever decides about migrations: `ConvergencePolicy`, or something of your own.

    It is asked after every look. What it answers should depend on nothing but its arguments, so that it can be tried on
    what was recorded of other migrations.
    """

    def decide(
        self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
    ) -> Decision:
        """Decide what to do next while the guest is with its source, as `ConvergencePolicy.decide` does."""

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        """Decide what to do next while a guest that has left fetches its memory: WAIT or REPORT."""


@attrs.frozen(kw_only=True)
class ConvergencePolicy:
    """How patient to be with a migration: numbers that suit most guests, and that can be changed.

    Attributes:
        stall_s: seconds without a byte sent after which it is given up; once the guest has left, after which the link
            is taken for broken.
        patience_s: seconds without progress, in which it has as much to send again as before, after which the guest
            leaves before its memory does, if both ends can do that, or otherwise may stand still for twice as long.
        max_downtime_ms: the longest that it may stand still, in milliseconds. When that does not help either, for as
            long as `patience_s`, the migration is given up.
        total_s: seconds after which it is given up in any case, unless the guest has left; None for never.
    """

    stall_s: float = 30.0
    patience_s: float = 10.0
    max_downtime_ms: int = 1000
    total_s: float | None = None

    def __attrs_post_init__(self) -> None:
        if min(self.stall_s, self.patience_s) <= 0 or self.max_downtime_ms < 1 or (self.total_s or 1) <= 0:
            raise ProgrammerError(f"a policy is made of positive numbers, not {self}")

    def decide(
        self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
    ) -> Decision:
        """Decide what to do next while the guest is with its source.

        Args:
            samples: everything seen so far, oldest first; one at least.
            downtime_ms: for how long the guest may stand still now.
            changed_at_s: when that was last changed; progress is counted from then.
            can_postcopy: whether the guest can leave before its memory does.

        Raises:
            ProgrammerError: nothing was seen.
        """
        now_s = _last(samples).at_s
        if self.total_s is not None and now_s >= self.total_s:
            return Decision(Step.GIVE_UP, downtime_ms, f"it is not over after {self.total_s:g} s")
        silent_s = now_s - _last_sent_s(samples)
        if silent_s >= self.stall_s:
            return Decision(Step.GIVE_UP, downtime_ms, f"nothing was sent for {silent_s:.0f} s")
        stuck_s = now_s - max(_last_progress_s(samples), changed_at_s)
        if stuck_s < self.patience_s:
            return Decision(Step.WAIT, downtime_ms)
        reason = f"the guest writes as fast as it is sent: no progress for {stuck_s:.0f} s"
        if can_postcopy:
            return Decision(Step.POSTCOPY, downtime_ms, reason)
        if downtime_ms >= self.max_downtime_ms:
            return Decision(Step.GIVE_UP, downtime_ms, f"{reason}, and it may stand still for {downtime_ms} ms at most")
        return Decision(Step.ALLOW_DOWNTIME, min(max(downtime_ms, 1) * 2, self.max_downtime_ms), reason)

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        """Decide what to do next while a guest that has left fetches its memory. There is no way back for it.

        Args:
            samples: everything seen so far, oldest first; one at least.
            downtime_ms: what is returned with the decision.

        Raises:
            ProgrammerError: nothing was seen.
        """
        silent_s = _last(samples).at_s - _last_sent_s(samples)
        if silent_s < self.stall_s:
            return Decision(Step.WAIT, downtime_ms)
        return Decision(Step.REPORT, downtime_ms, f"nothing was sent for {silent_s:.0f} s")


def _last(samples: Sequence[Sample]) -> Sample:
    if not samples:
        raise ProgrammerError("nothing can be decided before something was seen")
    return samples[-1]


def _last_sent_s(samples: Sequence[Sample]) -> float:
    """Return when something was last sent."""
    sent = samples[-1].transferred_bytes
    return next(sample.at_s for sample in samples if sample.transferred_bytes == sent)


def _last_progress_s(samples: Sequence[Sample]) -> float:
    """Return when a migration last came nearer to its end.

    Memory is sent in passes: each sends what was written to during the one before, so that the rest falls to nothing,
    and rises again when the next one begins. A pass that has less to send than any before is progress for as long as it
    lasts, which may be hours; how much that is a second says nothing.
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
