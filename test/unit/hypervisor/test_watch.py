# SPDX-License-Identifier: BSD-2-Clause
"""A watch of a hypervisor that tells of nothing by itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import Instance, InstanceState, ParameterError, RuntimeStateError
from hvkit.hypervisor.fake import FakeHypervisor


@pytest.fixture
def fake(tmp_path: Path) -> FakeHypervisor:
    return FakeHypervisor(run_dir=tmp_path / "run")


def test_what_a_look_returned_is_no_change_any_more(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        assert watch.wait(timeout=0) == []
        fake.start_instance(Instance(name="web1", memory_mib=16))
        assert watch.look() == fake.get_all_instances_info()
        assert watch.wait(timeout=0) == []
        fake.balloon_instance_memory("web1", 8)
        fake.balloon_instance_memory("web1", 16)
        assert watch.wait(timeout=0) == []
        fake.stop_instance("web1")
        (change,) = watch.wait()
        assert (change.name, change.after) == ("web1", fake.get_instance_info("web1"))
        assert change.before is not None
        assert change.before.state is InstanceState.RUNNING


def test_the_first_wait_tells_of_all_and_then_of_those_that_come_and_go(fake: FakeHypervisor) -> None:
    for name in ("web2", "web1"):
        fake.start_instance(Instance(name=name, memory_mib=16))
    watch = fake.watch()
    assert [(change.name, change.before) for change in watch.wait()] == [("web1", None), ("web2", None)]
    fake.stop_instance("web1")
    fake.cleanup_instance("web1")
    fake.start_instance(Instance(name="web3", memory_mib=16))
    gone, new = watch.wait()
    assert (gone.name, gone.after) == ("web1", None)
    assert (new.name, new.before, new.after) == ("web3", None, fake.get_instance_info("web3"))


def test_a_wait_ends_with_what_happens_meanwhile(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        starter = threading.Timer(0.2, fake.start_instance, [Instance(name="web1", memory_mib=16)])
        starter.start()
        assert [change.name for change in watch.wait(timeout=60)] == ["web1"]
        starter.join()


@pytest.mark.parametrize("timeout", [-1, float("inf"), "5", True])
def test_nobody_waits_for_a_time_that_there_is_not(fake: FakeHypervisor, timeout: Any) -> None:
    with fake.watch() as watch, pytest.raises(ParameterError):
        watch.wait(timeout=timeout)


def test_a_look_that_fails_is_told_and_the_next_one_is_right(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        fake.run_dir.write_text("not a directory")
        with pytest.raises((ParameterError, RuntimeStateError)):
            watch.look()
        fake.run_dir.unlink()
        assert watch.look() == []


def test_a_closed_watch_is_the_callers_fault(fake: FakeHypervisor) -> None:
    watch = fake.watch()
    watch.close()
    watch.close()
    for act in (watch.look, watch.wait):
        with pytest.raises(ProgrammerError, match="closed"):
            act()
