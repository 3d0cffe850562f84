# SPDX-License-Identifier: BSD-2-Clause
"""Decisions of convergence policies for recorded and simulated migrations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curves import read_curve
from hvkit.errors import ProgrammerError
from hvkit.hypervisor.convergence import ConvergencePolicy, Decision, Sample, Step

MIB = 1 << 20
POLICY = ConvergencePolicy(stall_s=30, patience_s=10, max_downtime_ms=500, total_s=3600)


def samples(remaining: Callable[[int], float], *, seconds: int, rate: float = 32 * MIB) -> list[Sample]:
    """Return one sample for each second."""
    return [
        Sample(at_s=second, transferred_bytes=int(second * rate), remaining_bytes=int(remaining(second)))
        for second in range(seconds + 1)
    ]


def run(curve: list[Sample], policy: ConvergencePolicy = POLICY) -> Iterator[tuple[float, Decision]]:
    """Yield every decision other than WAIT, with its time."""
    downtime_ms, changed_at_s = 30, 0.0
    for end in range(1, len(curve) + 1):
        decision = policy.decide(curve[:end], downtime_ms, changed_at_s)
        if decision.step is not Step.WAIT:
            downtime_ms, changed_at_s = decision.downtime_ms, curve[end - 1].at_s
            yield changed_at_s, decision
        if decision.step is Step.GIVE_UP:
            return


def test_policy_waits_while_there_is_progress() -> None:
    assert list(run(samples(lambda second: 4096 * MIB - second * 32 * MIB, seconds=120))) == []


def test_policy_doubles_downtime_limit_then_cancels() -> None:
    decisions = list(run(samples(lambda second: 512 * MIB + (second % 3) * MIB, seconds=300)))
    assert [(at_s, each.step, each.downtime_ms) for at_s, each in decisions] == [
        (10, Step.ALLOW_DOWNTIME, 60),
        (20, Step.ALLOW_DOWNTIME, 120),
        (30, Step.ALLOW_DOWNTIME, 240),
        (40, Step.ALLOW_DOWNTIME, 480),
        (50, Step.ALLOW_DOWNTIME, 500),
        (60, Step.GIVE_UP, 500),
    ]
    assert decisions[-1][1].reason == (
        "no progress for 10 s: the guest writes memory as fast as it is sent, and the downtime limit is 500 ms already"
    )


def test_policy_prefers_postcopy_to_more_downtime() -> None:
    curve = samples(lambda _second: 512 * MIB, seconds=10)
    assert POLICY.decide(curve[:10], 30, can_postcopy=True).step is Step.WAIT
    decision = POLICY.decide(curve, 30, can_postcopy=True)
    assert (decision.step, decision.downtime_ms) == (Step.POSTCOPY, 30)


def test_policy_never_cancels_postcopy() -> None:
    patient = ConvergencePolicy(stall_s=30, patience_s=10, total_s=60)
    slow = samples(lambda _second: 512 * MIB, seconds=100)
    assert patient.decide_postcopy(slow, 30).step is Step.WAIT
    silent = samples(lambda _second: 512 * MIB, seconds=100, rate=0)
    decision = patient.decide_postcopy(silent, 30)
    assert (decision.step, decision.reason) == (Step.REPORT, "nothing was sent for 100 s")
    with pytest.raises(ProgrammerError):
        patient.decide_postcopy([], 30)


def test_policy_cancels_after_stall() -> None:
    curve = [
        Sample(at_s=each.at_s, transferred_bytes=min(each.transferred_bytes, 320 * MIB), remaining_bytes=3776 * MIB)
        for each in samples(lambda _: 0, seconds=100)
    ]
    patient = ConvergencePolicy(stall_s=30, patience_s=1000)
    assert list(run(curve, patient)) == [(40, Decision(Step.GIVE_UP, 30, "nothing was sent for 30 s"))]


def test_policy_cancels_after_total_time() -> None:
    policy = ConvergencePolicy(total_s=60)
    curve = samples(lambda second: 409_600 * MIB * 0.9**second, seconds=100)
    assert list(run(curve, policy))[-1] == (60, Decision(Step.GIVE_UP, 30, "not completed within 60 s"))


def test_policy_measures_progress_from_the_last_change() -> None:
    stuck = samples(lambda _: MIB, seconds=15)
    assert POLICY.decide(stuck, 30).step is Step.ALLOW_DOWNTIME
    assert POLICY.decide(stuck, 60, changed_at_s=10).step is Step.WAIT


#: As seen: 256 MiB that rewrite 40 MiB of themselves, at 20 MiB a second.
SEEN = [(0, 0, 260), (2, 40, 222), (5, 98, 166), (8, 158, 108), (11, 218, 50), (12, 238, 38), (16, 318, 39)]
SEEN += [(20, 398, 37), (24, 478, 39), (28, 558, 38)]


def test_policy_on_recorded_curve() -> None:
    curve = [Sample(at_s=at_s, transferred_bytes=sent * MIB, remaining_bytes=left * MIB) for at_s, sent, left in SEEN]
    patient = ConvergencePolicy(patience_s=8)
    assert [at_s for at_s, each in run(curve, patient) if each.step is Step.ALLOW_DOWNTIME] == [28]


def test_policy_waits_for_recorded_linux_guest() -> None:
    hasty = ConvergencePolicy(stall_s=1.0, patience_s=2.0)
    assert list(run(read_curve("linux"), hasty)) == []


def test_policy_allows_downtime_for_recorded_busy_guest() -> None:
    hasty = ConvergencePolicy(stall_s=1.0, patience_s=0.3, max_downtime_ms=100)
    steps = [decision.step for _, decision in run(read_curve("restless"), hasty)]
    assert steps == [Step.ALLOW_DOWNTIME, Step.ALLOW_DOWNTIME, Step.GIVE_UP]


def test_policy_cancels_recorded_migration_over_cut_link() -> None:
    curve = read_curve("cut link")
    (at_s, decision), *_ = run(curve, ConvergencePolicy(stall_s=0.5, patience_s=60))
    last = next(each.at_s for each in curve if each.transferred_bytes == curve[-1].transferred_bytes)
    assert decision.step is Step.GIVE_UP
    assert 0.5 <= at_s - last < 1.0


def test_policy_ignores_unknown_remaining_bytes() -> None:
    first = Sample(at_s=0, transferred_bytes=0, remaining_bytes=None)
    curve = samples(lambda second: 4096 * MIB - second * 32 * MIB, seconds=100)
    assert list(run([first, *curve[1:]])) == []
    silent = [Sample(at_s=second, transferred_bytes=0, remaining_bytes=None) for second in range(40)]
    assert next(run(silent, ConvergencePolicy(stall_s=30, patience_s=60)))[0] == 30


@given(memory_mib=st.integers(64, 1 << 22), pass_s=st.floats(1, 1000), share=st.floats(0, 0.9))
def test_policy_waits_for_converging_guest_of_any_size(memory_mib: int, pass_s: float, share: float) -> None:
    """Each pass sends a fixed share of the bytes of the previous pass. The first one takes `pass_s` seconds."""
    policy = ConvergencePolicy()
    rate_mib = memory_mib / pass_s
    curve: list[Sample] = []
    at_s, sent, to_send = 0.0, 0.0, float(memory_mib)
    while to_send > memory_mib / 16:
        step_s = min(to_send / rate_mib / 8, policy.patience_s / 2)
        left = to_send
        while left > 0:
            curve.append(Sample(at_s=at_s, transferred_bytes=int(sent * MIB), remaining_bytes=int(left * MIB)))
            at_s, sent, left = at_s + step_s, sent + rate_mib * step_s, left - rate_mib * step_s
        to_send *= share
    ends = range(1, len(curve) + 1, len(curve) // 20 + 1)
    assert {policy.decide(curve[:end], 30).step for end in ends} == {Step.WAIT}


@given(
    memory_mib=st.integers(64, 2048),
    rate_mib=st.floats(16, 1024),
    written_mib=st.floats(0, 2048),
    at_most_mib=st.integers(0, 2048),
    cut_at_s=st.one_of(st.none(), st.integers(0, 200)),
)
def test_policy_ends_every_migration(
    memory_mib: int, rate_mib: float, written_mib: float, at_most_mib: int, cut_at_s: int | None
) -> None:
    """The guest has any write rate and any amount of changing memory; the link fails at any time, or not at all."""
    at_most_mib = min(at_most_mib, memory_mib)
    left, dirty, sent, downtime_ms, changed_at_s = float(memory_mib), 0.0, 0.0, 30, 0.0
    curve: list[Sample] = []
    # A pass that counts as progress sends at least 5 % less than the previous one.
    end_s = 20 * memory_mib / rate_mib + 20 * POLICY.patience_s + POLICY.stall_s
    for second in itertools.count():
        assert second <= end_s
        is_cut = cut_at_s is not None and second >= cut_at_s
        curve.append(Sample(at_s=second, transferred_bytes=int(sent * MIB), remaining_bytes=int(left * MIB)))
        decision = POLICY.decide(curve, downtime_ms, changed_at_s)
        if decision.step is Step.GIVE_UP:
            return
        if decision.step is Step.ALLOW_DOWNTIME:
            downtime_ms, changed_at_s = decision.downtime_ms, second
        dirty = min(dirty + written_mib, at_most_mib)
        if is_cut:
            continue
        sent += min(rate_mib, left)
        left -= rate_mib
        if left <= rate_mib * downtime_ms / 1000:
            if dirty <= rate_mib * downtime_ms / 1000:
                return  # the migration is complete
            left, dirty = dirty, 0.0


@given(st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 1 << 40), st.integers(0, 1 << 40)), min_size=1))
def test_downtime_limit_grows_up_to_its_maximum(
    steps: list[tuple[float, int, int]],
) -> None:
    curve, at_s, sent = [], 0.0, 0
    for later_s, more, remaining in steps:
        at_s, sent = at_s + later_s, sent + more
        curve.append(Sample(at_s=at_s, transferred_bytes=sent, remaining_bytes=remaining))
    downtimes = [30, *(each.downtime_ms for _, each in run(curve))]
    assert all(before <= after <= 500 for before, after in pairwise(downtimes))


def test_policy_rejects_invalid_numbers_and_no_samples() -> None:
    with pytest.raises(ProgrammerError, match="expected positive numbers"):
        ConvergencePolicy(patience_s=0)
    with pytest.raises(ProgrammerError, match="needs at least one sample"):
        POLICY.decide([], 30)
