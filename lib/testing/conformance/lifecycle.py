# SPDX-License-Identifier: BSD-2-Clause
"""Conformance tests of starting, stopping, rebooting and cleaning up instances."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import attrs
import pytest

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor import (
    BaseHypervisor,
    Instance,
    InstanceBusy,
    InstanceNotFound,
    InstanceState,
    InstanceStateError,
    ParameterError,
)
from hvkit.testing.conformance.calls import BAD_TIMEOUTS, BY_NAME
from hvkit.testing.conformance.subject import ConformanceFixtures, Subject, hold_lock


class LifecycleTests(ConformanceFixtures):
    """Tests of the lifecycle verbs."""

    def test_start_instance_returns_with_it_running(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        info = hypervisor.get_instance_info(running.name)
        assert info.state is InstanceState.RUNNING
        assert (info.name, info.uuid) == (running.name, running.uuid)
        assert (info.memory_mib, info.vcpus) == (running.memory_mib, running.vcpus)

    def test_start_paused_leaves_instance_paused(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        assert hypervisor.get_instance_info("conform").state is InstanceState.PAUSED

    def test_start_of_running_instance_raises_state_error(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        before = hypervisor.get_instance_info(running.name)
        with pytest.raises(InstanceStateError) as caught:
            hypervisor.start_instance(running)
        assert (caught.value.instance, caught.value.state) == (running.name, "running")
        assert hypervisor.get_instance_info(running.name) == before

    def test_start_with_name_of_running_instance_raises_state_error(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.start_instance(subject.make_instance(running.name, uuid=uuid4()))
        assert hypervisor.get_instance_info(running.name).uuid == running.uuid

    def test_start_of_stopped_instance_succeeds(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.start_instance(stopped)
        assert hypervisor.get_instance_info(stopped.name).state is InstanceState.RUNNING

    def test_failed_start_leaves_no_instance(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        broken = subject.make_broken("conform")
        with pytest.raises(HypervisorError):
            hypervisor.start_instance(broken)
        assert hypervisor.list_instances() == []
        with pytest.raises(InstanceNotFound):
            hypervisor.get_instance_info("conform")

    def test_start_after_failed_start_succeeds(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        with pytest.raises(HypervisorError):
            hypervisor.start_instance(subject.make_broken("conform"))
        hypervisor.start_instance(subject.make_instance("conform"))
        assert hypervisor.get_instance_info("conform").state is InstanceState.RUNNING

    def test_rejected_start_keeps_state_of_stopped_instance(
        self, hypervisor: BaseHypervisor, stopped: Instance
    ) -> None:
        before = hypervisor.get_instance_info(stopped.name)
        parameters = {**stopped.parameters, "no_such_parameter": 1}
        with pytest.raises(ParameterError):
            hypervisor.start_instance(attrs.evolve(stopped, parameters=parameters))
        assert hypervisor.get_instance_info(stopped.name) == before

    def test_start_of_wrong_type_raises_programmer_error(self, hypervisor: BaseHypervisor) -> None:
        something: Any = "conform"
        with pytest.raises(ProgrammerError):
            hypervisor.start_instance(something)

    def test_concurrent_starts_of_one_name_start_one_instance(
        self, subject: Subject, hypervisor: BaseHypervisor
    ) -> None:
        rivals = [subject.make_instance("conform", uuid=uuid4()) for _ in range(2)]

        def start(instance: Instance) -> Instance | None:
            try:
                subject.open().start_instance(instance)
            except (InstanceStateError, InstanceBusy):
                return None
            return instance

        with ThreadPoolExecutor(len(rivals)) as pool:
            started = [instance for instance in pool.map(start, rivals) if instance]
        assert [instance.uuid for instance in started] == [hypervisor.get_instance_info("conform").uuid]

    def test_stopped_instance_is_over_and_still_listed(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        info = hypervisor.get_instance_info(stopped.name)
        assert info.state in (InstanceState.SHUTDOWN, InstanceState.CRASHED)
        assert (info.uuid, info.pid) == (stopped.uuid, None)
        assert hypervisor.list_instances() == [stopped.name]

    def test_stop_of_stopped_instance_changes_nothing(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        before = hypervisor.get_instance_info(stopped.name)
        hypervisor.stop_instance(stopped.name)
        hypervisor.stop_instance(stopped.name, force=True)
        assert hypervisor.get_instance_info(stopped.name) == before

    def test_stop_without_force_ends_instance_after_timeout(
        self, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        hypervisor.stop_instance(running.name, timeout=1)
        assert hypervisor.get_instance_info(running.name).state.is_over

    def test_stop_with_retry_ends_instance(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        hypervisor.stop_instance(running.name, timeout=0.5, retry=True)
        assert hypervisor.get_instance_info(running.name).state.is_over

    @pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
    def test_stop_rejects_invalid_timeout(
        self, hypervisor: BaseHypervisor, running: Instance, timeout: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            hypervisor.stop_instance(running.name, timeout=timeout)
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_stop_of_paused_instance_ends_it(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        hypervisor.stop_instance("conform", timeout=1)
        assert hypervisor.get_instance_info("conform").state.is_over

    def test_reboot_leaves_instance_running(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        hypervisor.reboot_instance(running.name)
        info = hypervisor.get_instance_info(running.name)
        assert (info.state, info.uuid) == (InstanceState.RUNNING, running.uuid)

    def test_reboot_of_paused_instance_raises_state_error(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        with pytest.raises(InstanceStateError):
            hypervisor.reboot_instance("conform")
        assert hypervisor.get_instance_info("conform").state is InstanceState.PAUSED

    def test_reboot_of_stopped_instance_raises_state_error(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.reboot_instance(stopped.name)
        assert hypervisor.get_instance_info(stopped.name).state.is_over

    def test_cleanup_removes_stopped_instance(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        assert hypervisor.list_instances() == []
        assert hypervisor.get_all_instances_info() == []
        with pytest.raises(InstanceNotFound):
            hypervisor.get_instance_info(stopped.name)

    def test_cleanup_of_running_instance_raises_state_error(
        self, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.cleanup_instance(running.name)
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    @pytest.mark.parametrize("method", ["stop_instance", "reboot_instance"])
    def test_method_on_locked_instance_raises_busy(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance, method: str
    ) -> None:
        with hold_lock(subject, running.name) as waiting_briefly, pytest.raises(InstanceBusy) as caught:
            BY_NAME[method](waiting_briefly, running.name)
        assert caught.value.instance == running.name
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_cleanup_of_locked_instance_raises_busy(
        self, subject: Subject, hypervisor: BaseHypervisor, stopped: Instance
    ) -> None:
        with hold_lock(subject, stopped.name) as waiting_briefly, pytest.raises(InstanceBusy):
            waiting_briefly.cleanup_instance(stopped.name)
        assert hypervisor.list_instances() == [stopped.name]

    def test_cleanup_twice_succeeds(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        hypervisor.cleanup_instance(stopped.name)

    def test_cleanup_of_unknown_instance_succeeds(self, hypervisor: BaseHypervisor) -> None:
        hypervisor.cleanup_instance("unknown")
        assert hypervisor.list_instances() == []

    def test_start_after_cleanup_succeeds(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        hypervisor.start_instance(stopped)
        assert hypervisor.get_instance_info(stopped.name).state is InstanceState.RUNNING
