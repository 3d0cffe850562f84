# SPDX-License-Identifier: BSD-2-Clause
"""The table of states knows every status that QEMU has."""

from __future__ import annotations

from typing import get_args

from hvkit.hypervisor.kvm.state import STATES
from hvkit.qmp.schema import RunState


def test_every_status_of_qemu_has_a_meaning() -> None:
    assert set(STATES) == set(get_args(RunState))


def test_every_state_but_running_has_a_reason() -> None:
    assert {status for status, (_, reason) in STATES.items() if not reason} == {"running", "paused", "colo"}
