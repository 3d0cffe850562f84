# SPDX-License-Identifier: BSD-2-Clause
"""The fake hypervisor: conformance, and its own behaviour."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvkit.hypervisor import (
    Instance,
    InstanceNotFound,
    InstanceStartError,
    InstanceState,
    InstanceStateError,
    ParameterError,
    RuntimeStateError,
    get_hypervisor,
)
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.testing.conformance import HypervisorConformance, Subject


def make_instance(name: str, **members: Any) -> Instance:
    return Instance(**{"name": name, "memory_mib": 64, "vcpus": 2, **members})


def make_broken(name: str) -> Instance:
    return make_instance(name, parameters={"start_failure": "no luck"})


class TestConformance(HypervisorConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return Subject(
            open=lambda: get_hypervisor("fake", run_dir=tmp_path / "run"),
            make_instance=make_instance,
            make_broken=make_broken,
        )


@pytest.fixture
def fake(tmp_path: Path) -> FakeHypervisor:
    return FakeHypervisor(run_dir=tmp_path / "run")


def test_instances_are_visible_to_another_process(fake: FakeHypervisor) -> None:
    fake.start_instance(make_instance("web1"))
    program = f"""
from hvkit.hypervisor import get_hypervisor
fake = get_hypervisor("fake", run_dir={str(fake.run_dir)!r})
print(fake.list_instances(), fake.get_instance_info("web1").state.value)
fake.stop_instance("web1")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "['web1'] running\n"
    assert fake.get_instance_info("web1").state is InstanceState.SHUTDOWN


def test_start_failure_has_the_configured_reason(fake: FakeHypervisor) -> None:
    with pytest.raises(InstanceStartError, match="web1: did not start: no luck"):
        fake.start_instance(make_broken("web1"))


def test_start_checks_parameters_on_the_node(fake: FakeHypervisor, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="needs_file: expected a file on this node"):
        fake.start_instance(make_instance("web1", parameters={"needs_file": str(tmp_path / "missing")}))


@pytest.mark.parametrize(("guest", "reason"), [("obedient", "shut down by the guest"), ("deaf", "stopped by force")])
def test_stop_reports_graceful_shutdown_or_force(fake: FakeHypervisor, guest: str, reason: str) -> None:
    fake.start_instance(make_instance("web1", parameters={"guest": guest}))
    fake.stop_instance("web1")
    assert fake.get_instance_info("web1").reason == reason


def test_reboot_resets_the_balloon(fake: FakeHypervisor) -> None:
    fake.start_instance(make_instance("web1"))
    assert fake.balloon_instance_memory("web1", 32, timeout=5) == 32
    assert fake.get_instance_info("web1").memory_mib == 32
    fake.reboot_instance("web1")
    assert fake.get_instance_info("web1").memory_mib == 64


def test_fail_instance_reports_the_reason(fake: FakeHypervisor) -> None:
    fake.start_instance(make_instance("web1"))
    fake.fail_instance("web1", "a cosmic ray")
    info = fake.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.CRASHED, "a cosmic ray")
    with pytest.raises(InstanceStateError):
        fake.fail_instance("web1", "another one")
    with pytest.raises(InstanceNotFound):
        fake.fail_instance("web2", "a third")


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"version": 2}', b"[" * 99999])
def test_damaged_state_file_does_not_affect_other_instances(fake: FakeHypervisor, damage: bytes) -> None:
    fake.start_instance(make_instance("good"))
    fake.start_instance(make_instance("bad"))
    (fake.run_dir / "bad.json").write_bytes(damage)
    with pytest.raises(RuntimeStateError) as caught:
        fake.get_instance_info("bad")
    assert caught.value.path == str(fake.run_dir / "bad.json")
    states = {info.name: info.state for info in fake.get_all_instances_info()}
    assert states == {"bad": InstanceState.CRASHED, "good": InstanceState.RUNNING}
    fake.cleanup_instance("bad")
    assert fake.list_instances() == ["good"]


def test_verify_reports_unusable_run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fake = FakeHypervisor(run_dir=tmp_path / "a" / "b")
    assert fake.verify() == [f"{tmp_path} is not writable"]


@pytest.mark.parametrize("way", ["file", "file/below", "loop"])
def test_start_in_unusable_run_dir_names_it(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    fake = FakeHypervisor(run_dir=tmp_path / way)
    with pytest.raises(ParameterError, match=f"run_dir: {tmp_path}"):
        fake.start_instance(make_instance("web1"))
    with pytest.raises(ParameterError, match=f"run_dir: {tmp_path}"):
        fake.list_instances()
    assert fake.verify()


def test_full_disk_raises_runtime_state_error(fake: FakeHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(RuntimeStateError, match=r"web1.json: cannot be written: No space left"):
        fake.start_instance(make_instance("web1"))


def test_state_file_is_plain_json(fake: FakeHypervisor) -> None:
    instance = make_instance("web1")
    fake.start_instance(instance)
    persisted = json.loads((fake.run_dir / "web1.json").read_text())
    assert (persisted["version"], persisted["uuid"]) == (1, str(instance.uuid))
