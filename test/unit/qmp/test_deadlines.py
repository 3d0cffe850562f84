# SPDX-License-Identifier: BSD-2-Clause
"""Timeout classes, and the check of timeouts."""

from __future__ import annotations

from hvkit.qmp import deadlines, schema


def test_timeout_classes_name_existing_commands() -> None:
    assert set(deadlines.TIMEOUT_CLASSES) <= {*schema.commands(), *schema.agent_commands()}
    assert deadlines.timeout_class_of("guest-ping") is deadlines.QUICK
    assert deadlines.timeout_class_of("guest-exec") is deadlines.BLOCK
    assert deadlines.timeout_class_of("guest-fstrim") is deadlines.HEAVY
    assert deadlines.timeout_class_of("query-status") is deadlines.QUICK
    assert deadlines.timeout_class_of("blockdev-add") is deadlines.BLOCK
    assert deadlines.timeout_class_of("dump-guest-memory") is deadlines.UNLIMITED
    assert deadlines.timeout_class_of("newer-than-we") is deadlines.QUICK
