# SPDX-License-Identifier: BSD-2-Clause
"""What every hypervisor has to do, as tests: the docstrings of `BaseHypervisor`, held against a plugin.

A plugin's tests derive a class from `HypervisorConformance` and give it a fixture ``subject``::

    class TestConformance(HypervisorConformance):
        @pytest.fixture
        def subject(self, tmp_path):
            return Subject(open=lambda: MyHypervisor(run_dir=tmp_path / "run"), make_instance=..., make_broken=...)

pytest shows what an assertion compared only if it is told before this module is imported:
``pytest.register_assert_rewrite("hvkit.testing.conformance")`` in a conftest.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import attrs
import pytest

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor import (
    Backup,
    BaseHypervisor,
    Capability,
    CaptureError,
    DeviceAction,
    DeviceKind,
    Disk,
    DiskCopies,
    DiskLimits,
    DiskRate,
    ExternalInstance,
    Instance,
    InstanceBusy,
    InstanceNotFound,
    InstanceState,
    InstanceStateError,
    MediaDrive,
    MigrationInfo,
    NotSupported,
    ParameterError,
)
from hvkit.hypervisor.base import OPTIONAL_METHODS

BAD_NAMES: Final = ("", ".", "..", "../x", "a/b", "/etc/passwd", "-rf", "a..b", "a b", "a\nb", "a\0b", "ü", "x" * 255)

_DISK: Final = Disk(path="/nonexistent")
_INSTANCE: Final = Instance(name="conform", memory_mib=16)
_FOREIGN: Final = ExternalInstance(
    monitor="/nonexistent/monitor",
    name="conform",
    uuid=None,
    pid=1,
    start_ticks=0,
    uid=0,
    gid=0,
    binary="/nonexistent/program",
    version=(0, 0, 0),
    machine_type="none",
    has_kvm=False,
    has_acpi=False,
    memory_mib=16,
    vcpus=1,
    status="running",
    is_running=True,
)
_INFO: Final = MigrationInfo(instance="conform", hypervisor="none")

_Call = Callable[[BaseHypervisor, str], object]

#: How to call each method that takes an instance's name.
_BY_NAME: Final[Mapping[str, _Call]] = {
    "stop_instance": lambda hypervisor, name: hypervisor.stop_instance(name, force=True),
    "reboot_instance": lambda hypervisor, name: hypervisor.reboot_instance(name),
    "cleanup_instance": lambda hypervisor, name: hypervisor.cleanup_instance(name),
    "get_instance_info": lambda hypervisor, name: hypervisor.get_instance_info(name),
}

#: How to call each optional method.
_OPTIONAL: Final[Mapping[str, _Call]] = {
    "balloon_instance_memory": lambda hypervisor, name: hypervisor.balloon_instance_memory(name, 16),
    "set_instance_vcpus": lambda hypervisor, name: hypervisor.set_instance_vcpus(name, 1),
    "set_instance_memory": lambda hypervisor, name: hypervisor.set_instance_memory(name, 16),
    "get_instance_console": lambda hypervisor, name: hypervisor.get_instance_console(name),
    "monitor": lambda hypervisor, name: hypervisor.monitor(name).__enter__(),
    "verify_hotplug_support": lambda hypervisor, name: hypervisor.verify_hotplug_support(
        name, DeviceAction.ADD, DeviceKind.DISK
    ),
    "hot_add_device": lambda hypervisor, name: hypervisor.hot_add_device(name, _DISK),
    "hot_del_device": lambda hypervisor, name: hypervisor.hot_del_device(name, _DISK),
    "hot_mod_device": lambda hypervisor, name: hypervisor.hot_mod_device(name, _DISK),
    "inspect_monitor": lambda hypervisor, _name: hypervisor.inspect_monitor("/nonexistent/monitor"),
    "adopt_instance": lambda hypervisor, name: hypervisor.adopt_instance(_FOREIGN, name=name),
    "get_instance_screenshot": lambda hypervisor, name: hypervisor.get_instance_screenshot(name),
    "get_dump_formats": lambda hypervisor, name: hypervisor.get_dump_formats(name),
    "dump_instance_memory": lambda hypervisor, name: hypervisor.dump_instance_memory(name, "/nonexistent/dump"),
    "resize_disk": lambda hypervisor, name: hypervisor.resize_disk(name, _DISK, 1 << 20),
    "limit_disk": lambda hypervisor, name: hypervisor.limit_disk(
        name, _DISK, DiskLimits(total_bytes=DiskRate(1 << 20))
    ),
    "change_medium": lambda hypervisor, name: hypervisor.change_medium(name, MediaDrive.CDROM, "/nonexistent"),
    "eject_medium": lambda hypervisor, name: hypervisor.eject_medium(name, MediaDrive.CDROM),
    "migration_info": lambda hypervisor, name: hypervisor.migration_info(name),
    "find_migration_obstacles": lambda hypervisor, _name: hypervisor.find_migration_obstacles(_INSTANCE, _INFO),
    "accept_instance": lambda hypervisor, _name: hypervisor.accept_instance(_INSTANCE, _INFO, "127.0.0.1"),
    "copy_disks": lambda hypervisor, name: hypervisor.copy_disks(name, DiskCopies(target="/x")),
    "get_disk_copies": lambda hypervisor, name: hypervisor.get_disk_copies(name),
    "migrate_instance": lambda hypervisor, name: hypervisor.migrate_instance(name, "127.0.0.1"),
    "get_migration_status": lambda hypervisor, name: hypervisor.get_migration_status(name),
    "follow_migration": lambda hypervisor, name: hypervisor.follow_migration(name),
    "abort_migration": lambda hypervisor, name: hypervisor.abort_migration(name),
    "start_postcopy": lambda hypervisor, name: hypervisor.start_postcopy(name),
    "pause_migration": lambda hypervisor, name: hypervisor.pause_migration(name),
    "resume_migration_destination": lambda hypervisor, name: hypervisor.resume_migration_destination(name, "/x"),
    "resume_migration_source": lambda hypervisor, name: hypervisor.resume_migration_source(name, "/x"),
    "finalize_migration_source": lambda hypervisor, name: hypervisor.finalize_migration_source(name, True, True),
    "finalize_migration_destination": lambda hypervisor, _name: hypervisor.finalize_migration_destination(
        _INSTANCE, _INFO, True
    ),
    "save_snapshot": lambda hypervisor, name: hypervisor.save_snapshot(name, "tag"),
    "load_snapshot": lambda hypervisor, name: hypervisor.load_snapshot(name, "tag"),
    "delete_snapshot": lambda hypervisor, name: hypervisor.delete_snapshot(name, "tag"),
    "get_snapshots": lambda hypervisor, name: hypervisor.get_snapshots(name),
    "add_overlays": lambda hypervisor, name: hypervisor.add_overlays(name, {_DISK.uuid: "/nonexistent/overlay"}),
    "merge_overlays": lambda hypervisor, name: hypervisor.merge_overlays(name, [_DISK.uuid]),
    "backup_disks": lambda hypervisor, name: hypervisor.backup_disks(
        name, Backup(files={_DISK.uuid: "/nonexistent/backup"})
    ),
    "abort_backup": lambda hypervisor, name: hypervisor.abort_backup(name),
    "get_checkpoints": lambda hypervisor, name: hypervisor.get_checkpoints(name),
    "drop_checkpoint": lambda hypervisor, name: hypervisor.drop_checkpoint(name, "monday"),
    "verify_instance": lambda hypervisor, name: hypervisor.verify_instance(name),
    "restore_instance": lambda hypervisor, name: hypervisor.restore_instance(name),
    "powercycle_node": lambda hypervisor, _name: hypervisor.powercycle_node(),
}

#: Optional methods of which an unknown instance is enough to say no.
_OPTIONAL_BY_NAME: Final = tuple(
    method
    for method in _OPTIONAL
    if method
    not in (
        "accept_instance",
        "adopt_instance",
        "inspect_monitor",
        "finalize_migration_destination",
        "finalize_migration_source",
        "find_migration_obstacles",
        "powercycle_node",
    )
)


def call_optional_method(hypervisor: BaseHypervisor, method: str, name: str) -> object:
    """Call an optional method of a hypervisor on an instance, with some sensible arguments; return what it returns."""
    return _OPTIONAL[method](hypervisor, name)


def _capability_of(method: str) -> Capability:
    return next(capability for capability, methods in OPTIONAL_METHODS.items() if method in methods)


@attrs.frozen(kw_only=True)
class Subject:
    """What is put to the test.

    Attributes:
        open: makes a hypervisor; each has the same, at first empty or missing, run_dir.
        make_instance: makes a small instance of this name, with these members beside it, that can be started.
        make_broken: makes an instance of this name whose parameters are right and which cannot be started, such as
            one whose disk is missing.
    """

    open: Callable[[], BaseHypervisor]
    make_instance: Callable[..., Instance]
    make_broken: Callable[[str], Instance]


class HypervisorConformance:
    """The tests. Whatever they start is ended, also when they fail."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return what is put to the test; every plugin says what that is."""
        raise NotImplementedError

    @pytest.fixture
    def hypervisor(self, subject: Subject) -> Iterator[BaseHypervisor]:
        """The hypervisor under test; what it runs at the end is ended."""
        hypervisor = subject.open()
        yield hypervisor
        for name in hypervisor.list_instances():
            hypervisor.stop_instance(name, force=True)
            hypervisor.cleanup_instance(name)
        assert hypervisor.list_instances() == []

    @pytest.fixture
    def running(self, subject: Subject, hypervisor: BaseHypervisor) -> Instance:
        """An instance that was started."""
        instance = subject.make_instance("conform")
        hypervisor.start_instance(instance)
        return instance

    @pytest.fixture
    def stopped(self, hypervisor: BaseHypervisor, running: Instance) -> Instance:
        """An instance that was started and stopped."""
        hypervisor.stop_instance(running.name, force=True)
        return running

    # ---- start

    def test_started_instance_is_running(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        info = hypervisor.get_instance_info(running.name)
        assert info.state is InstanceState.RUNNING
        assert (info.name, info.uuid) == (running.name, running.uuid)
        assert (info.memory_mib, info.vcpus) == (running.memory_mib, running.vcpus)

    def test_instance_started_paused_is_paused(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        assert hypervisor.get_instance_info("conform").state is InstanceState.PAUSED

    def test_start_of_a_running_instance_is_refused(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        before = hypervisor.get_instance_info(running.name)
        with pytest.raises(InstanceStateError) as caught:
            hypervisor.start_instance(running)
        assert (caught.value.instance, caught.value.state) == (running.name, "running")
        assert hypervisor.get_instance_info(running.name) == before

    def test_start_with_the_name_of_another_is_refused(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.start_instance(subject.make_instance(running.name, uuid=uuid4()))
        assert hypervisor.get_instance_info(running.name).uuid == running.uuid

    def test_stopped_instance_can_be_started_again(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.start_instance(stopped)
        assert hypervisor.get_instance_info(stopped.name).state is InstanceState.RUNNING

    def test_failed_start_leaves_nothing(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        broken = subject.make_broken("conform")
        with pytest.raises(HypervisorError):
            hypervisor.start_instance(broken)
        assert hypervisor.list_instances() == []
        with pytest.raises(InstanceNotFound):
            hypervisor.get_instance_info("conform")

    def test_start_after_a_failed_start(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        with pytest.raises(HypervisorError):
            hypervisor.start_instance(subject.make_broken("conform"))
        hypervisor.start_instance(subject.make_instance("conform"))
        assert hypervisor.get_instance_info("conform").state is InstanceState.RUNNING

    def test_refused_start_leaves_an_earlier_life_as_it_was(
        self, hypervisor: BaseHypervisor, stopped: Instance
    ) -> None:
        before = hypervisor.get_instance_info(stopped.name)
        parameters = {**stopped.parameters, "no_such_parameter": 1}
        with pytest.raises(ParameterError):
            hypervisor.start_instance(attrs.evolve(stopped, parameters=parameters))
        assert hypervisor.get_instance_info(stopped.name) == before

    def test_start_of_something_else_is_the_callers_fault(self, hypervisor: BaseHypervisor) -> None:
        something: Any = "conform"
        with pytest.raises(ProgrammerError):
            hypervisor.start_instance(something)

    def test_two_starts_at_once_start_it_once(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
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

    # ---- stop

    def test_stopped_instance_is_shut_down_and_known(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        info = hypervisor.get_instance_info(stopped.name)
        assert info.state in (InstanceState.SHUTDOWN, InstanceState.CRASHED)
        assert (info.uuid, info.pid) == (stopped.uuid, None)
        assert hypervisor.list_instances() == [stopped.name]

    def test_stop_of_a_stopped_instance_does_nothing(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        before = hypervisor.get_instance_info(stopped.name)
        hypervisor.stop_instance(stopped.name)
        hypervisor.stop_instance(stopped.name, force=True)
        assert hypervisor.get_instance_info(stopped.name) == before

    def test_stop_without_force_ends_the_instance_in_time(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        hypervisor.stop_instance(running.name, timeout=1)
        assert hypervisor.get_instance_info(running.name).state.is_over

    def test_stop_that_was_asked_for_before_only_waits(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        hypervisor.stop_instance(running.name, timeout=0.5, retry=True)
        assert hypervisor.get_instance_info(running.name).state.is_over

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True])
    def test_stop_in_no_time_that_there_is_is_refused(
        self, hypervisor: BaseHypervisor, running: Instance, timeout: Any
    ) -> None:
        with pytest.raises(ParameterError):
            hypervisor.stop_instance(running.name, timeout=timeout)
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_paused_instance_can_be_stopped(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        hypervisor.stop_instance("conform", timeout=1)
        assert hypervisor.get_instance_info("conform").state.is_over

    # ---- reboot

    def test_rebooted_instance_is_running(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        hypervisor.reboot_instance(running.name)
        info = hypervisor.get_instance_info(running.name)
        assert (info.state, info.uuid) == (InstanceState.RUNNING, running.uuid)

    def test_reboot_of_a_paused_instance_is_refused(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        hypervisor.start_instance(subject.make_instance("conform"), start_paused=True)
        with pytest.raises(InstanceStateError):
            hypervisor.reboot_instance("conform")
        assert hypervisor.get_instance_info("conform").state is InstanceState.PAUSED

    def test_reboot_of_a_stopped_instance_is_refused(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.reboot_instance(stopped.name)
        assert hypervisor.get_instance_info(stopped.name).state.is_over

    # ---- cleanup

    def test_cleaned_up_instance_is_unknown(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        assert hypervisor.list_instances() == []
        assert hypervisor.get_all_instances_info() == []
        with pytest.raises(InstanceNotFound):
            hypervisor.get_instance_info(stopped.name)

    def test_cleanup_of_a_running_instance_is_refused(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        with pytest.raises(InstanceStateError):
            hypervisor.cleanup_instance(running.name)
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    def test_cleanup_twice_is_no_error(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        hypervisor.cleanup_instance(stopped.name)

    def test_cleanup_of_an_unknown_instance_is_no_error(self, hypervisor: BaseHypervisor) -> None:
        hypervisor.cleanup_instance("unknown")
        assert hypervisor.list_instances() == []

    def test_cleaned_up_instance_can_be_started_again(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        hypervisor.cleanup_instance(stopped.name)
        hypervisor.start_instance(stopped)
        assert hypervisor.get_instance_info(stopped.name).state is InstanceState.RUNNING

    # ---- what there is

    def test_nothing_is_there_at_first(self, hypervisor: BaseHypervisor) -> None:
        assert hypervisor.list_instances() == []
        assert hypervisor.get_all_instances_info() == []

    def test_looking_makes_no_run_dir(self, hypervisor: BaseHypervisor) -> None:
        existed = hypervisor.run_dir.exists()
        hypervisor.list_instances()
        hypervisor.verify()
        assert hypervisor.run_dir.exists() is existed

    def test_run_dir_is_for_its_owner_only(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        assert hypervisor.run_dir.stat().st_mode & 0o777 == 0o700

    def test_lists_are_sorted_and_agree(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        for name in ("conform-b", "conform-a"):
            hypervisor.start_instance(subject.make_instance(name), start_paused=True)
        hypervisor.stop_instance("conform-b", force=True)
        assert hypervisor.list_instances() == ["conform-a", "conform-b"]
        assert hypervisor.get_all_instances_info() == [
            hypervisor.get_instance_info(name) for name in hypervisor.list_instances()
        ]

    def test_another_object_sees_the_same_instances(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        other = subject.open()
        assert other.get_all_instances_info() == hypervisor.get_all_instances_info()
        other.stop_instance(running.name, force=True)
        assert hypervisor.get_instance_info(running.name).state.is_over
        other.cleanup_instance(running.name)
        assert hypervisor.list_instances() == []

    def test_watch_sees_what_a_listing_sees(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
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

    def test_watch_tells_what_changed_and_is_right_beside_another(
        self, subject: Subject, hypervisor: BaseHypervisor, running: Instance
    ) -> None:
        with hypervisor.watch() as watch, subject.open().watch() as other:
            before = watch.query()
            assert watch.wait(timeout=0) == []
            hypervisor.stop_instance(running.name, force=True)
            (change,) = watch.wait(timeout=60)
            assert [change.before] == before
            assert [change.after] == other.query() == hypervisor.get_all_instances_info()

    def test_node_has_memory_and_processors(self, hypervisor: BaseHypervisor) -> None:
        node = hypervisor.get_node_info()
        assert 0 < node.memory_free_mib <= node.memory_total_mib
        assert node.cpu_total >= node.cpu_sockets >= 1
        assert node.numa_nodes >= 1

    def test_verify_finds_nothing_wrong_here(self, hypervisor: BaseHypervisor) -> None:
        assert hypervisor.verify() == []

    # ---- names

    @pytest.mark.parametrize("method", _BY_NAME)
    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_name_is_refused(self, hypervisor: BaseHypervisor, method: str, name: str) -> None:
        with pytest.raises(ParameterError):
            _BY_NAME[method](hypervisor, name)

    @pytest.mark.parametrize("method", sorted(_BY_NAME.keys() - {"cleanup_instance"}))
    def test_unknown_instance_is_not_found(self, hypervisor: BaseHypervisor, method: str) -> None:
        with pytest.raises(InstanceNotFound) as caught:
            _BY_NAME[method](hypervisor, "unknown")
        assert caught.value.instance == "unknown"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes

    # ---- parameters

    def test_defaults_are_right(self, hypervisor: BaseHypervisor) -> None:
        hypervisor.check_parameter_syntax({})
        hypervisor.check_parameter_syntax({name: each.default for name, each in hypervisor.PARAMETERS.items()})

    def test_unknown_parameter_is_refused(self, hypervisor: BaseHypervisor) -> None:
        for check in (
            hypervisor.check_parameter_syntax,
            hypervisor.validate_parameters,
            hypervisor.assess_parameters,
        ):
            with pytest.raises(ParameterError) as caught:
                check({"no_such_parameter": 1})
            assert caught.value.name == "no_such_parameter"

    def test_parameter_of_another_type_is_refused(self, hypervisor: BaseHypervisor) -> None:
        for name in hypervisor.PARAMETERS:
            with pytest.raises(ParameterError) as caught:
                hypervisor.check_parameter_syntax({name: ["a list"]})
            assert caught.value.name == name

    def test_start_with_an_unknown_parameter_leaves_nothing(self, subject: Subject, hypervisor: BaseHypervisor) -> None:
        instance = subject.make_instance("conform")
        parameters = {**instance.parameters, "no_such_parameter": 1}
        with pytest.raises(ParameterError):
            hypervisor.start_instance(attrs.evolve(instance, parameters=parameters))
        assert hypervisor.list_instances() == []

    # ---- capabilities

    @pytest.mark.parametrize("method", _OPTIONAL)
    def test_what_is_not_declared_is_not_supported(self, hypervisor: BaseHypervisor, method: str) -> None:
        capability = _capability_of(method)
        if hypervisor.has(capability):
            pytest.skip(f"{hypervisor.name} declares {capability.value}")
        with pytest.raises(NotSupported) as caught:
            _OPTIONAL[method](hypervisor, "conform")
        assert (caught.value.hypervisor, caught.value.capability) == (hypervisor.name, capability.value)

    @pytest.mark.parametrize("method", _OPTIONAL_BY_NAME)
    def test_what_is_declared_knows_its_instances(self, hypervisor: BaseHypervisor, method: str) -> None:
        self._need(hypervisor, _capability_of(method))
        with pytest.raises(InstanceNotFound):
            _OPTIONAL[method](hypervisor, "unknown")
        with pytest.raises(ParameterError):
            _OPTIONAL[method](hypervisor, "../x")

    def test_dump_is_whole_or_not_there(self, hypervisor: BaseHypervisor, running: Instance, tmp_path: Path) -> None:
        self._need(hypervisor, Capability.DUMP)
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

    def test_balloon(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        self._need(hypervisor, Capability.BALLOON)
        for memory_mib in (running.memory_mib // 2, running.memory_mib):
            reached = hypervisor.balloon_instance_memory(running.name, memory_mib)
            assert running.memory_mib // 2 <= reached <= running.memory_mib
        assert hypervisor.get_instance_info(running.name).state is InstanceState.RUNNING

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True, None])
    def test_balloon_in_no_time_that_there_is_is_refused(
        self, hypervisor: BaseHypervisor, running: Instance, timeout: Any
    ) -> None:
        self._need(hypervisor, Capability.BALLOON)
        with pytest.raises(ParameterError):
            hypervisor.balloon_instance_memory(running.name, running.memory_mib // 2, timeout=timeout)
        assert hypervisor.get_instance_info(running.name).memory_mib == running.memory_mib

    @pytest.mark.parametrize("change_mib", [1, -100000])
    def test_balloon_beyond_the_memory_is_refused(
        self, hypervisor: BaseHypervisor, running: Instance, change_mib: int
    ) -> None:
        self._need(hypervisor, Capability.BALLOON)
        with pytest.raises(ParameterError):
            hypervisor.balloon_instance_memory(running.name, running.memory_mib + change_mib)

    @pytest.mark.parametrize("memory_mib", ["16", None, True, 1.5])
    def test_balloon_to_what_is_no_whole_number_is_refused(
        self, hypervisor: BaseHypervisor, running: Instance, memory_mib: Any
    ) -> None:
        self._need(hypervisor, Capability.BALLOON)
        with pytest.raises(ParameterError):
            hypervisor.balloon_instance_memory(running.name, memory_mib)

    def test_balloon_of_a_stopped_instance_is_refused(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        self._need(hypervisor, Capability.BALLOON)
        with pytest.raises(InstanceStateError):
            hypervisor.balloon_instance_memory(stopped.name, stopped.memory_mib)

    def test_disk_is_limited_and_is_not(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        self._need(hypervisor, Capability.LIMIT_DISK)
        for disk in running.disks:
            for limits in (DiskLimits(total_bytes=DiskRate(1 << 20)), None):
                hypervisor.limit_disk(running.name, disk, limits)
        with pytest.raises(ParameterError):
            hypervisor.limit_disk(running.name, _DISK, None)

    def test_console_says_how_to_reach_it(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        self._need(hypervisor, Capability.CONSOLE)
        console = hypervisor.get_instance_console(running.name)
        assert console.instance == running.name
        assert console.path or console.host or console.message

    def test_monitor_answers(self, hypervisor: BaseHypervisor, running: Instance) -> None:
        self._need(hypervisor, Capability.MONITOR)
        with hypervisor.monitor(running.name) as monitor:
            status: Any = monitor.execute("query-status")
        assert status["status"] == "running"

    def test_monitor_of_a_stopped_instance_is_refused(self, hypervisor: BaseHypervisor, stopped: Instance) -> None:
        self._need(hypervisor, Capability.MONITOR)
        with pytest.raises(InstanceStateError), hypervisor.monitor(stopped.name):
            pass

    @staticmethod
    def _need(hypervisor: BaseHypervisor, capability: Capability) -> None:
        if not hypervisor.has(capability):
            pytest.skip(f"{hypervisor.name} does not declare {capability.value}")
