# SPDX-License-Identifier: BSD-2-Clause
"""Conformance tests of listings, watches, and information about the node."""

from __future__ import annotations

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import BaseHypervisor, Instance, InstanceState
from hvkit.testing.conformance.subject import ConformanceFixtures, Subject


class ReportTests(ConformanceFixtures):
    """Tests of the methods that report and change nothing."""

    def test_new_run_dir_lists_no_instances(self, hypervisor: BaseHypervisor) -> None:
        assert hypervisor.list_instances() == []
        assert hypervisor.get_all_instances_info() == []

    def test_listing_and_verify_create_no_run_dir(self, hypervisor: BaseHypervisor) -> None:
        existed = hypervisor.run_dir.exists()
        hypervisor.list_instances()
        hypervisor.verify()
        assert hypervisor.run_dir.exists() is existed

    def test_run_dir_is_accessible_to_owner_only(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        assert hypervisor.run_dir.stat().st_mode & 0o777 == 0o700

    def test_listings_are_sorted_and_agree(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        for name in ("conform-b", "conform-a"):
            hypervisor.start_instance(subject.make_instance(name), start_paused=True)
        hypervisor.stop_instance("conform-b", force=True)
        assert hypervisor.list_instances() == ["conform-a", "conform-b"]
        assert hypervisor.get_all_instances_info() == [
            hypervisor.get_instance_info(name) for name in hypervisor.list_instances()
        ]

    def test_second_hypervisor_object_sees_same_instances(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        other = subject.open()
        assert other.get_all_instances_info() == hypervisor.get_all_instances_info()
        other.stop_instance(running.name, force=True)
        assert hypervisor.get_instance_info(running.name).state.is_over
        other.cleanup_instance(running.name)
        assert hypervisor.list_instances() == []

    def test_watch_agrees_with_listing(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        with hypervisor.watch() as watch:
            assert watch.query() == []
            hypervisor.start_instance(subject.make_instance("conform-b"))
            hypervisor.start_instance(subject.make_instance("conform-a"), start_paused=True)
            assert [info.state for info in watch.query()] == [InstanceState.PAUSED, InstanceState.RUNNING]
            assert watch.query() == hypervisor.get_all_instances_info()
            hypervisor.stop_instance("conform-b", force=True)
            assert watch.query() == hypervisor.get_all_instances_info()
            hypervisor.start_instance(subject.make_instance("conform-b"))
            assert watch.query() == hypervisor.get_all_instances_info()
            hypervisor.stop_instance("conform-a", force=True)
            hypervisor.cleanup_instance("conform-a")
            assert watch.query() == hypervisor.get_all_instances_info()
        with pytest.raises(ProgrammerError):
            watch.query()

    def test_watch_reports_change_beside_second_watch(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        with hypervisor.watch() as watch, subject.open().watch() as other:
            before = watch.query()
            assert watch.wait(timeout=0) == []
            hypervisor.stop_instance(running.name, force=True)
            (change,) = watch.wait(timeout=60)
            assert [change.before] == before
            assert [change.after] == other.query() == hypervisor.get_all_instances_info()

    def test_node_info_has_memory_and_processors(self, hypervisor: BaseHypervisor) -> None:
        node = hypervisor.get_node_info()
        assert 0 < node.memory_free_mib <= node.memory_total_mib
        assert node.cpu_total >= node.cpu_sockets >= 1
        assert node.numa_nodes >= 1

    def test_verify_on_working_node_finds_no_problems(self, hypervisor: BaseHypervisor) -> None:
        assert hypervisor.verify() == []
