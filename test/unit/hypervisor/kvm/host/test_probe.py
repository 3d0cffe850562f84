# SPDX-License-Identifier: BSD-2-Clause
"""Probing of QEMU programs, real and fake, and of KVM."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from hvkit.hypervisor.errors import ProgramError
from hvkit.hypervisor.kvm.host import probe
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, KvmHost

#: A program that answers like QEMU and records its pid.
ANSWERING = """
import json, os, sys
open({runs!r}, "a").write(f"{{os.getpid()}}\\n")
version = dict(zip(("major", "minor", "micro"), {version!r}))
print(json.dumps({{"QMP": {{"version": {{"qemu": version, "package": ""}}, "capabilities": []}}}}), flush=True)
answers = {answers!r}
for line in sys.stdin:
    request = json.loads(line)
    reply = {{"return": answers.get(request["execute"], {{}}), "id": request["id"]}}
    print(json.dumps(reply), flush=True)
"""

ANSWERS: dict[str, Any] = {
    "query-cpu-definitions": [],
    "query-command-line-options": [],
    "query-target": {"arch": "x86_64"},
    "query-kvm": {"present": True, "enabled": False},
    "query-machines": [
        {
            "name": "pc-q35-8.0",
            "alias": "q35",
            "cpu-max": 288,
            "hotpluggable-cpus": True,
            "numa-mem-supported": True,
            "deprecated": False,
        }
    ],
    "qom-list-types": [{"name": "virtio-blk-pci"}],
    "query-commands": [{"name": "quit"}],
}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache in memory."""
    monkeypatch.setattr(probe, "_cache", {})


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Program:
    """An executable written by a test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "qemu"
        self.runs_file = directory / "runs"

    def write(self, source: str) -> str:
        """Replace the program by a new file, and return its path."""
        made = self.path.with_suffix(".new")
        made.write_text(f"#!{sys.executable}\n{source}")
        made.chmod(0o755)
        made.rename(self.path)
        return str(self.path)

    def write_answering(self, version: tuple[int, int, int] = (8, 0, 1), **answers: Any) -> str:
        """Write a program that answers like QEMU, with some replies changed."""
        changed = {**ANSWERS, **{name.replace("_", "-"): answer for name, answer in answers.items()}}
        return self.write(ANSWERING.format(runs=str(self.runs_file), version=version, answers=changed))

    @property
    def pids(self) -> list[int]:
        """The pids of all runs of the program."""
        return [int(line) for line in self.runs_file.read_text().split()] if self.runs_file.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    # A killed process ends when it is scheduled.
    wait_for(lambda: [pid for pid in made.pids if is_running(pid)], lambda running: not running, timeout_s=5)


@pytest.mark.qemu
def test_capabilities_of_a_real_program_match_the_recorded_ones(
    real: Capabilities,
    recorded: Callable[[str], Capabilities],
    as_recorded: Callable[[Capabilities], Capabilities],
) -> None:
    cut = as_recorded(real)
    version = f"{real.version[0]}.{real.version[1]}"
    if version not in ("7.2", "10.0", "11.1"):
        pytest.skip(f"no capabilities of QEMU {version} are recorded")
    assert cut == recorded(version)


@pytest.mark.qemu
def test_capabilities_of_a_real_program_survive_the_cache(qemu_binary: str, tmp_path: Path) -> None:
    asked = probe_capabilities(qemu_binary, cache_dir=tmp_path / "cache")
    probe._cache.clear()
    assert probe_capabilities(qemu_binary, cache_dir=tmp_path / "cache") == asked
    assert asked.target == "x86_64"
    assert asked.find_machine("q35").name.startswith("pc-q35-")


def test_program_is_probed_once(program: Program) -> None:
    path = program.write_answering()
    assert probe_capabilities(path) is probe_capabilities(path)
    assert len(program.pids) == 1


def test_cache_serves_another_process(program: Program, tmp_path: Path) -> None:
    path = program.write_answering()
    asked = probe_capabilities(path, cache_dir=tmp_path / "cache")
    probe._cache.clear()
    assert probe_capabilities(path, cache_dir=tmp_path / "cache") == asked
    assert len(program.pids) == 1


def test_replaced_program_is_probed_again(program: Program, tmp_path: Path) -> None:
    assert probe_capabilities(program.write_answering((8, 0, 1)), cache_dir=tmp_path).version == (8, 0, 1)
    assert probe_capabilities(program.write_answering((8, 0, 2)), cache_dir=tmp_path).version == (8, 0, 2)
    assert len(list(tmp_path.glob("*.json"))) == 1, "the cache grows with every upgrade"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-10],
        lambda content: content[:50],
        lambda content: content.replace(b"virtio-blk-pci", b"virtio-blk-pcj"),
        lambda content: content.replace(b'"format":2', b'"format":0'),
        lambda content: b"\xff" + content,
        lambda content: os.urandom(2 << 20),
    ],
    ids=["empty", "cut", "cut-header", "changed", "other-format", "no-text", "huge"],
)
def test_damaged_cache_is_rewritten(program: Program, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    cache = tmp_path / "cache"
    path = program.write_answering()
    asked = probe_capabilities(path, cache_dir=cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    probe._cache.clear()
    assert probe_capabilities(path, cache_dir=cache) == asked
    assert len(program.pids) == 2
    assert file.read_bytes() == whole
    assert list(cache.iterdir()) == [file]


def test_cache_that_cannot_be_written_is_ignored(program: Program, tmp_path: Path) -> None:
    (tmp_path / "no-directory").write_text("")
    assert probe_capabilities(program.write_answering(), cache_dir=tmp_path / "no-directory").version == (8, 0, 1)


def test_concurrent_probes_agree(program: Program, tmp_path: Path) -> None:
    path = program.write_answering()
    cache = tmp_path / "cache"
    answers: list[Capabilities] = []
    threads = [
        threading.Thread(target=lambda: answers.append(probe_capabilities(path, cache_dir=cache))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(answer == answers[0] for answer in answers)
    probe._cache.clear()
    asked_before = len(program.pids)
    assert probe_capabilities(path, cache_dir=cache) == answers[0]
    assert len(program.pids) == asked_before
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/nonexistent/qemu", "there is no such program"),
        ("no-such-program-anywhere", "there is no such program"),
        ("/tmp", "is a directory, not a program"),
        ("/etc/passwd", "is not executable"),
    ],
)
def test_path_that_is_not_a_program_is_named(path: str, problem: str) -> None:
    with pytest.raises(ProgramError) as caught:
        probe_capabilities(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_program_gets_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    seen = tmp_path / "seen"
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\nenv > {seen}\n")
    program.chmod(0o755)
    with pytest.raises(ProgramError):
        probe_capabilities(str(program))
    assert "PATH=" in seen.read_text()
    assert "hunter2" not in seen.read_text()


def test_file_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "qemu"
    file.write_bytes(b"\x7fELFnot really")
    file.chmod(0o755)
    with pytest.raises(ProgramError, match=f"{file} cannot be run: Exec format error"):
        probe_capabilities(str(file))


def test_full_disk_is_a_program_error(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ProgramError, match="cannot be run: No space left on device"):
        probe_capabilities(program.write_answering())


def test_qemu_that_is_too_old_is_refused(program: Program) -> None:
    with pytest.raises(ProgramError, match=r"is QEMU 7\.1\.9; the oldest supported version is 7\.2"):
        probe_capabilities(program.write_answering((7, 1, 9)))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "print('QEMU emulator version 7.2', flush=True)",
        "print('[]', flush=True)",
        "os.write(1, bytes(100000))",
    ],
    ids=["silent", "chatty", "other-json", "garbage"],
)
def test_program_that_is_not_qemu_is_named_and_quoted(program: Program, source: str) -> None:
    path = program.write(f"import os, sys\nprint('this is not QEMU', file=sys.stderr, flush=True)\n{source}")
    with pytest.raises(ProgramError) as caught:
        probe_capabilities(path)
    assert str(caught.value).startswith(f"{path} does not answer like QEMU: ")
    assert caught.value.log == "this is not QEMU"


def test_only_the_end_of_the_output_is_quoted(program: Program) -> None:
    path = program.write("import sys; sys.stderr.write('x' * 1000000 + 'the end'); sys.exit(1)")
    with pytest.raises(ProgramError) as caught:
        probe_capabilities(path)
    assert caught.value.log.endswith("the end")
    assert len(caught.value.log) <= 2000


def test_reply_of_another_form_names_the_command(program: Program) -> None:
    with pytest.raises(ProgramError, match="query-target"):
        probe_capabilities(program.write_answering(query_target={"arch": 5}))


NOTE_AND_HANG = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
open({runs!r}, "w").write(f"{{os.getpid()}}\\n{{child.pid}}\\n")
{greeting}
signal.pause()
"""
GREETING = """
version = '{"qemu": {"major": 8, "minor": 0, "micro": 0}, "package": ""}'
print('{"QMP": {"version": ' + version + ', "capabilities": []}}', flush=True)
"""


@pytest.mark.parametrize("greeting", ["", GREETING], ids=["no-greeting", "no-answer"])
def test_program_that_hangs_is_killed_with_its_children(program: Program, greeting: str) -> None:
    path = program.write(NOTE_AND_HANG.format(runs=str(program.runs_file), greeting=greeting))
    with pytest.raises(ProgramError, match="does not answer like QEMU"):
        probe_capabilities(path, timeout_s=2.0)
    assert len(program.pids) == 2


def test_failed_probe_is_not_cached(program: Program, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ProgramError):
        probe_capabilities(program.write("import sys; sys.exit(1)"), cache_dir=cache)
    assert not cache.exists()
    assert probe_capabilities(program.write_answering(), cache_dir=cache).version == (8, 0, 1)


@pytest.mark.parametrize(
    ("modules", "is_emulated"),
    [(["kvm", "kvm_intel"], False), (["kvm_amd"], False), (["kvm", "kvm_pvm"], True), (["kvm"], True)],
)
def test_kvm_without_hardware_module_is_emulated(tmp_path: Path, modules: list[str], is_emulated: bool) -> None:
    for module in modules:
        (tmp_path / module).mkdir()
    device = tmp_path / "kvm-device"
    device.touch()
    assert read_kvm_host(device, tmp_path) == KvmHost(is_emulated=is_emulated)


def test_missing_kvm_is_reported(tmp_path: Path) -> None:
    host = read_kvm_host(tmp_path / "kvm", tmp_path)
    assert host.problem == f"{tmp_path}/kvm: No such file or directory"
