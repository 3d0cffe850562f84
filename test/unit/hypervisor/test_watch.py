# SPDX-License-Identifier: BSD-2-Clause
"""The watch of the base class, over a hypervisor without events."""

from __future__ import annotations

import math
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


def test_wait_does_not_report_changes_that_query_returned(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        assert watch.wait(timeout=0) == []
        fake.start_instance(Instance(name="web1", memory_mib=16))
        assert watch.query() == fake.get_all_instances_info()
        assert watch.wait(timeout=0) == []
        fake.balloon_instance_memory("web1", 8)
        fake.balloon_instance_memory("web1", 16)
        assert watch.wait(timeout=0) == []
        fake.stop_instance("web1")
        (change,) = watch.wait()
        assert (change.name, change.after) == ("web1", fake.get_instance_info("web1"))
        assert change.before is not None
        assert change.before.state is InstanceState.RUNNING


def test_first_wait_reports_all_then_started_and_removed_instances(fake: FakeHypervisor) -> None:
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


def test_wait_ends_with_a_change_during_it(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        starter = threading.Timer(0.2, fake.start_instance, [Instance(name="web1", memory_mib=16)])
        starter.start()
        assert [change.name for change in watch.wait(timeout=60)] == ["web1"]
        starter.join()


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ParameterError), (float("nan"), ParameterError), ("5", ProgrammerError), (True, ProgrammerError)],
)
def test_wait_rejects_invalid_timeout(fake: FakeHypervisor, timeout: Any, error: type[Exception]) -> None:
    with fake.watch() as watch, pytest.raises(error):
        watch.wait(timeout=timeout)


def test_wait_without_limit_returns_at_the_first_change(fake: FakeHypervisor) -> None:
    fake.start_instance(Instance(name="web1", memory_mib=16))
    with fake.watch() as watch:
        assert [change.name for change in watch.wait(timeout=math.inf)] == ["web1"]


def test_query_succeeds_after_failed_query(fake: FakeHypervisor) -> None:
    with fake.watch() as watch:
        fake.run_dir.write_text("not a directory")
        with pytest.raises((ParameterError, RuntimeStateError)):
            watch.query()
        fake.run_dir.unlink()
        assert watch.query() == []


def test_closed_watch_raises_programmer_error(fake: FakeHypervisor) -> None:
    watch = fake.watch()
    watch.close()
    watch.close()
    for act in (watch.query, watch.wait):
        with pytest.raises(ProgrammerError, match="closed"):
            act()
