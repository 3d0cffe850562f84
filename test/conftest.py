# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures and hooks for all tests: skips without QEMU are reported, and leftovers of tests fail the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import hypothesis
import pytest

from leftovers import interfaces, interfaces_left, processes_of, sockets_below

pytest_plugins = ["guest.fixtures", "instance_fixtures"]

# Failed assertions of the conformance suite show the compared values.
pytest.register_assert_rewrite("hvkit.testing.conformance")

INSTALL_COMMAND: Final = "apt-get install --no-install-recommends qemu-system-x86 qemu-utils"

IN_CI: Final = os.environ.get("CI", "").lower() == "true"

# No deadline per example, because a busy machine is slow. pytest-timeout stops a hanging test.
hypothesis.settings.register_profile("hvkit", deadline=None)
hypothesis.settings.load_profile("hvkit")


def find_qemu() -> str | None:
    """Return the QEMU under test: $HVKIT_QEMU, or qemu-system-x86_64 in PATH; None if it is not installed."""
    return shutil.which(os.environ.get("HVKIT_QEMU") or "qemu-system-x86_64")


def missing_qemu_reason() -> str:
    chosen = os.environ.get("HVKIT_QEMU")
    if chosen:
        return f"HVKIT_QEMU={chosen} cannot be run"
    return f"qemu-system-x86_64 is not installed; as root: {INSTALL_COMMAND}"


def skip_or_fail(reason: str) -> NoReturn:
    if IN_CI:
        pytest.fail(f"required with CI=true: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Called with a reason when the machine lacks a requirement: skips the test, or fails it with CI=true."""
    return skip_or_fail


@pytest.fixture(scope="session")
def qemu_binary() -> str:
    """The path of a real QEMU. Tests that use it need the marker `qemu`."""
    return find_qemu() or skip_or_fail(missing_qemu_reason())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "qemu_binary" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("qemu"):
            raise pytest.UsageError(f"{item.nodeid}: uses qemu_binary without the marker `qemu`")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("qemu") and find_qemu() is None:
        skip_or_fail(missing_qemu_reason())


#: Maximum time in seconds until the kernel removes the tap of a process that has exited.
_INTERFACE_REMOVAL_S: Final = 5.0

#: The directory of all temporary files of a run. A process with this directory in its TMPDIR or on its command line
#: belongs to the run. Daemons usually keep TMPDIR even if they clean their environment.
_session_dir = pytest.StashKey[Path]()
_interfaces_before = pytest.StashKey[frozenset[str]]()
_leftovers = pytest.StashKey[list[str]]()
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        _use_for_temporary_files(workerinput["hvkit_session_dir"])
        return
    config.stash[_leftovers] = []
    config.stash[_interfaces_before] = interfaces()
    session_dir = config.stash[_session_dir] = Path(tempfile.mkdtemp(prefix="hvkit-"))
    if config.option.basetemp is None:
        config.option.basetemp = session_dir / "t"  # short, because a socket path is limited to 107 bytes
    # The workers of xdist are not leftovers, so they do not inherit TMPDIR. They set it for their child processes.
    if not config.getoption("numprocesses", None):
        _use_for_temporary_files(str(session_dir))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["hvkit_session_dir"] = str(node.config.stash[_session_dir])


def _use_for_temporary_files(session_dir: str) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = session_dir


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the leftovers that a finished worker reports."""
    node.config.stash[_leftovers].extend(getattr(node, "workeroutput", {}).get("hvkit_leftovers", []))


# trylast: this hook also tears down the fixtures of an interrupted run.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a test left a process, socket or network interface behind. Kill such processes."""
    workeroutput: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        # The main process checks after the workers exit, so each worker reports its own open sockets.
        mine = sockets_below(Path(os.environ["TMPDIR"]), only_mine=True)
        workeroutput["hvkit_leftovers"] = [_describe_socket(path) for path in mine]
        return
    session_dir = session.config.stash.get(_session_dir, None)
    if session_dir is None:
        return
    leftovers = session.config.stash[_leftovers]
    processes = list(processes_of(session_dir))
    leftovers += map(str, processes)
    # Sockets of leftover processes are not reported separately.
    if not processes:
        leftovers += map(_describe_socket, sockets_below(session_dir))
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    left = interfaces_left(session.config.stash[_interfaces_before], timeout_s=_INTERFACE_REMOVAL_S)
    leftovers += [f"network interface {name} was left by a test" for name in left]
    if leftovers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.config.stash[_failed] = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _describe_socket(path: str) -> str:
    return f"socket {path} was left open by a test"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for leftover in config.stash.get(_leftovers, []):
        terminalreporter.write_line(f"ERROR {leftover}", red=True)
    if config.stash.get(_failed, False):
        terminalreporter.write_line(f"Temporary files are kept: {config.stash[_session_dir]}")
    qemu = find_qemu()
    if qemu:
        terminalreporter.write_line(f"QEMU: {qemu}")
    else:
        terminalreporter.write_line(f"QEMU: NONE, tests on QEMU were skipped: {missing_qemu_reason()}", yellow=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    session_dir = config.stash.get(_session_dir, None)
    if session_dir is not None and not config.stash.get(_failed, False):
        shutil.rmtree(session_dir, ignore_errors=True)
