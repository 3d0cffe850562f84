# SPDX-License-Identifier: BSD-2-Clause
"""The lifecycle of instances: start, stop, reset and cleanup, their states and their consoles."""

from hvkit.hypervisor.kvm.lifecycle.cleanup import CleanupVerbs
from hvkit.hypervisor.kvm.lifecycle.console import ConsoleVerbs
from hvkit.hypervisor.kvm.lifecycle.monitor import MonitorVerbs
from hvkit.hypervisor.kvm.lifecycle.node import NodeVerbs
from hvkit.hypervisor.kvm.lifecycle.query import QueryVerbs
from hvkit.hypervisor.kvm.lifecycle.run_state import RunStateVerbs
from hvkit.hypervisor.kvm.lifecycle.start import StartVerbs
from hvkit.hypervisor.kvm.lifecycle.stop import StopVerbs
from hvkit.hypervisor.kvm.lifecycle.validation import ValidationVerbs


class KvmLifecycle(
    StartVerbs,
    StopVerbs,
    RunStateVerbs,
    CleanupVerbs,
    QueryVerbs,
    NodeVerbs,
    ValidationVerbs,
    ConsoleVerbs,
    MonitorVerbs,
):
    """The lifecycle verbs of the KVM hypervisor."""
