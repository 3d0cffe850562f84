# SPDX-License-Identifier: BSD-2-Clause
"""A test run with leftovers fails and names them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hvkit.hypervisor.kvm.host.network import Tap, make_tap
from leftovers import interfaces, interfaces_left, sockets_below

ROOT: Final = Path(__file__).parents[3]

LISTENS: Final = """
import socket
def test_it(tmp_path):
    global kept
    kept = socket.socket(socket.AF_UNIX)
    kept.bind(str(tmp_path / "s"))
    kept.listen()
"""

STARTS: Final = """
import subprocess
def test_it():
    global kept
    kept = subprocess.Popen(["sleep", "60"])
"""

CLEAN: Final = """
def test_it():
    pass
"""


def run_tests(tmp_path: Path, text: str, workers: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_it.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    options = ["-p", "no:cacheprovider", "-c", str(ROOT / "setup.cfg"), "-p", "conftest", "-n", str(workers)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_it.py")],
        env=environment
        | {"PYTHONPATH": os.pathsep.join((str(ROOT / "test"), str(ROOT / "test" / "support"), *sys.path))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("text", "message"),
    [(LISTENS, "/s was left open by a test"), (STARTS, "was left running by a test and is killed: sleep 60")],
    ids=["socket", "process"],
)
def test_leftover_fails_run(tmp_path: Path, text: str, message: str, workers: int) -> None:
    run = run_tests(tmp_path, text, workers)
    assert "1 passed" in run.stdout, run.stdout + run.stderr
    assert message in run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("workers", [0, 1])
def test_run_without_leftovers_passes(tmp_path: Path, workers: int) -> None:
    run = run_tests(tmp_path, CLEAN, workers)
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
    assert "ERROR" not in run.stdout


def test_socket_is_found_while_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert sockets_below(tmp_path) == sockets_below(tmp_path, only_mine=True) == [str(tmp_path / "s")]
        assert sockets_below(tmp_path / "elsewhere") == []
    assert sockets_below(tmp_path) == []


@pytest.fixture
def before() -> frozenset[str]:
    return interfaces()


@pytest.fixture
def tap(before: frozenset[str]) -> Iterator[Tap]:
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("creating a tap needs root and /dev/net/tun")
    tap = make_tap(f"hvt{os.getpid():x}")
    yield tap
    tap.close()
    assert tap.name not in interfaces_left(before, timeout_s=5)


def test_tap_is_found_while_it_exists(before: frozenset[str], tap: Tap) -> None:
    assert tap.name in interfaces_left(before, timeout_s=0)
    assert tap.name not in interfaces_left(interfaces(), timeout_s=0)


def test_tap_of_other_process_is_ignored(before: frozenset[str], tap: Tap) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[tap.queues[0]]) as other:
        assert tap.name not in interfaces_left(before, timeout_s=5)
        other.communicate()
