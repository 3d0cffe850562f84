# SPDX-License-Identifier: BSD-2-Clause
"""Conformance tests of the optional methods and their capabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvkit.hypervisor import (
    BaseHypervisor,
    Capability,
    CaptureError,
    DiskLimits,
    DiskRate,
    Instance,
    InstanceBusy,
    InstanceNotFound,
    InstanceState,
    InstanceStateError,
    NotSupported,
    ParameterError,
)
from hvkit.testing.conformance.calls import (
    BAD_TIMEOUTS,
    DISK,
    OPTIONAL,
    OPTIONAL_BY_NAME,
    OPTIONAL_LOCKED,
    OPTIONAL_NOT_WHEN_STOPPED,
    capability_of,
)
from hvkit.testing.conformance.subject import ConformanceFixtures, Subject, hold_lock, skip_without


class OptionalMethodTests(ConformanceFixtures):
    """Tests of the optional methods. A test is skipped where the plugin lacks the capability."""

    @pytest.mark.parametrize("method", OPTIONAL)
    def test_method_without_capability_raises_not_supported(self, hypervisor: BaseHypervisor, method: str) -> None:
        capability = capability_of(method)
        if hypervisor.has(capability):
            pytest.skip(f"{hypervisor.name} has {capability.value}")
        with pytest.raises(NotSupported) as caught:
            OPTIONAL[method](hypervisor, "conform")
        assert (caught.value.hypervisor, caught.value.capability) == (hypervisor.name, capability.value)

    @pytest.mark.parametrize("method", OPTIONAL_BY_NAME)
    def test_optional_method_rejects_unknown_instance_and_invalid_name(
        self, hypervisor: BaseHypervisor, method: str
    ) -> None:
        skip_without(hypervisor, capability_of(method))
        with pytest.raises(InstanceNotFound):
            OPTIONAL[method](hypervisor, "unknown")
        with pytest.raises(ParameterError):
            OPTIONAL[method](hypervisor, "../x")

    @pytest.mark.parametrize("method", OPTIONAL_NOT_WHEN_STOPPED)
    def test_optional_method_on_stopped_instance_raises_state_error(
        self, hypervisor: BaseHypervisor, stopped: Instance, method: str
    ) -> None:
        skip_without(hypervisor, capability_of(method))
        before = hypervisor.get_instance_info(stopped.name)
        with pytest.raises(InstanceStateError) as caught:
            OPTIONAL[method](hypervisor, stopped.name)
        assert (caught.value.instance, caught.value.state) == (stopped.name, before.state.value)
        assert str(caught.value).count(stopped.name) == 1
        assert hypervisor.get_instance_info(stopped.name) == before

    @pytest.mark.parametrize("method", OPTIONAL_LOCKED)
    def test_optional_method_on_locked_instance_raises_busy(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance, method: str
    ) -> None:
        skip_without(hypervisor, capability_of(method))
        with hold_lock(subject, running.name) as waiting_briefly, pytest.raises(InstanceBusy) as caught:
            OPTIONAL[method](waiting_briefly, running.name)
        assert str(caught.value).count(running.name) == 1
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_dump_is_complete_or_absent(self, hypervisor: BaseHypervisor, running: Instance, tmp_path: Path) -> None:
        skip_without(hypervisor, Capability.DUMP)
        dump = tmp_path / "dump"
        try:
            hypervisor.dump_instance_memory(running.name, dump)
        except CaptureError:
            assert list(tmp_path.glob("dump*")) == []
        else:
            assert dump.stat().st_mode & 0o777 == 0o600
            assert list(tmp_path.glob("dump*")) == [dump]
        dump.write_text("precious")
        with pytest.raises(CaptureError):
            hypervisor.dump_instance_memory(running.name, dump)
        assert dump.read_text() == "precious"
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_balloon_sets_memory_of_running_instance(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        skip_without(hypervisor, Capability.BALLOON)
        for memory_mib in (running.memory_mib // 2, running.memory_mib):
            reached = hypervisor.balloon_instance_memory(running.name, memory_mib)
            assert running.memory_mib // 2 <= reached <= running.memory_mib
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    @pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
    def test_balloon_rejects_invalid_timeout(
        self, hypervisor: BaseHypervisor, running: Instance, timeout: Any, error: type[Exception]
    ) -> None:
        skip_without(hypervisor, Capability.BALLOON)
        with pytest.raises(error):
            hypervisor.balloon_instance_memory(running.name, running.memory_mib // 2, timeout=timeout)
        assert hypervisor.get_instance_info(running.name).memory_mib == running.memory_mib

    @pytest.mark.parametrize("change_mib", [1, -100000])
    def test_balloon_rejects_size_out_of_range(
        self, hypervisor: BaseHypervisor, running: Instance, change_mib: int
    ) -> None:
        skip_without(hypervisor, Capability.BALLOON)
        with pytest.raises(ParameterError):
            hypervisor.balloon_instance_memory(running.name, running.memory_mib + change_mib)

    @pytest.mark.parametrize("memory_mib", ["16", None, True, 1.5])
    def test_balloon_rejects_size_that_is_not_an_integer(
        self, hypervisor: BaseHypervisor, running: Instance, memory_mib: Any
    ) -> None:
        skip_without(hypervisor, Capability.BALLOON)
        with pytest.raises(ParameterError):
            hypervisor.balloon_instance_memory(running.name, memory_mib)

    def test_balloon_of_stopped_instance_raises_state_error(
        self, hypervisor: BaseHypervisor, stopped: Instance
    ) -> None:
        skip_without(hypervisor, Capability.BALLOON)
        with pytest.raises(InstanceStateError):
            hypervisor.balloon_instance_memory(stopped.name, stopped.memory_mib)

    def test_pause_and_resume_change_state_and_may_be_repeated(
        self, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        skip_without(hypervisor, Capability.PAUSE)
        for _ in range(2):
            hypervisor.pause_instance(running.name)
            assert hypervisor.get_instance_info(running.name).state is InstanceState.PAUSED
        for _ in range(2):
            hypervisor.resume_instance(running.name)
            assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_resume_runs_instance_that_was_started_paused(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        skip_without(hypervisor, Capability.PAUSE)
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        hypervisor.resume_instance("conform")
        assert hypervisor.get_instance_info("conform").state is InstanceState.RUNNING

    def test_limit_disk_sets_and_clears_limits(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        skip_without(hypervisor, Capability.LIMIT_DISK)
        for disk in running.disks:
            for limits in (DiskLimits(total_bytes=DiskRate(1 << 20)), None):
                hypervisor.limit_disk(running.name, disk, limits)
        with pytest.raises(ParameterError):
            hypervisor.limit_disk(running.name, DISK, None)

    def test_console_reports_an_address(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        skip_without(hypervisor, Capability.CONSOLE)
        console = hypervisor.get_instance_console(running.name)
        assert console.instance == running.name
        assert console.path or console.host or console.message

    def test_monitor_executes_command(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        skip_without(hypervisor, Capability.MONITOR)
        with hypervisor.monitor(running.name) as monitor:
            status: Any = monitor.execute("query-status")
        assert status["status"] == "running"

    def test_monitor_of_stopped_instance_raises_state_error(
        self, hypervisor: BaseHypervisor, stopped: Instance
    ) -> None:
        skip_without(hypervisor, Capability.MONITOR)
        with pytest.raises(InstanceStateError), hypervisor.monitor(stopped.name):
            pass
