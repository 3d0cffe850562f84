# SPDX-License-Identifier: BSD-2-Clause
"""What holds for every test: real QEMU is never skipped in silence, and nothing is left running."""

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

# Assertions of the conformance suite show the values that they compare.
pytest.register_assert_rewrite("hvkit.testing.conformance")

INSTALL_COMMAND: Final = "apt-get install --no-install-recommends qemu-system-x86 qemu-utils"

IN_CI: Final = os.environ.get("CI", "").lower() == "true"

# Other work on the machine makes a single example slow; what hangs runs into pytest-timeout.
hypothesis.settings.register_profile("hvkit", deadline=None)
hypothesis.settings.load_profile("hvkit")


def find_qemu() -> str | None:
    """Return the QEMU under test: $HVKIT_QEMU, or qemu-system-x86_64 from the PATH; None where there is none."""
    return shutil.which(os.environ.get("HVKIT_QEMU") or "qemu-system-x86_64")


def why_no_qemu() -> str:
    chosen = os.environ.get("HVKIT_QEMU")
    if chosen:
        return f"HVKIT_QEMU={chosen} cannot be run"
    return f"qemu-system-x86_64 is not installed; as root: {INSTALL_COMMAND}"


def unavailable_here(reason: str) -> NoReturn:
    if IN_CI:
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """What to call, with the reason, when the machine lacks something: skips the test; fails it where CI=true."""
    return unavailable_here


@pytest.fixture(scope="session")
def qemu_binary() -> str:
    """The path of a real QEMU. A test that asks for it carries the marker `qemu`."""
    return find_qemu() or unavailable_here(why_no_qemu())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "qemu_binary" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("qemu"):
            raise pytest.UsageError(f"{item.nodeid} asks for qemu_binary without the marker `qemu`")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("qemu") and find_qemu() is None:
        unavailable_here(why_no_qemu())


# ---- nothing is left running

#: Seconds that the kernel has to remove a tap whose process has just ended.
_INTERFACE_GOES_S: Final = 5.0


#: The directory in which all temporary files of one run are. A process that names it in its environment or on its
#: command line is one of ours: TMPDIR is what even a carefully started daemon passes on.
_session_dir = pytest.StashKey[Path]()
_interfaces_before = pytest.StashKey[frozenset[str]]()
_complaints = pytest.StashKey[list[str]]()
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        _use_for_temporary_files(workerinput["hvkit_session_dir"])
        return
    config.stash[_complaints] = []
    config.stash[_interfaces_before] = interfaces()
    session_dir = config.stash[_session_dir] = Path(tempfile.mkdtemp(prefix="hvkit-"))
    if config.option.basetemp is None:
        config.option.basetemp = session_dir / "t"  # short: the path of a socket may have 107 bytes
    # xdist's workers are no leftovers; they must not inherit TMPDIR but set it for what they start.
    if not config.getoption("numprocesses", None):
        _use_for_temporary_files(str(session_dir))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["hvkit_session_dir"] = str(node.config.stash[_session_dir])


def _use_for_temporary_files(session_dir: str) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = session_dir


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a worker that ends what its tests left in it."""
    node.config.stash[_complaints].extend(getattr(node, "workeroutput", {}).get("hvkit_complaints", []))


# Last: the fixtures of a run that was cut short are torn down in this hook as well.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a test left a process, a socket or a network interface behind, and end that process."""
    workeroutput: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        # What a worker has open goes when it ends, and the run, which looks after that, would not see it.
        mine = sockets_below(Path(os.environ["TMPDIR"]), only_mine=True)
        workeroutput["hvkit_complaints"] = [_complain_of_socket(path) for path in mine]
        return
    session_dir = session.config.stash.get(_session_dir, None)
    if session_dir is None:
        return
    complaints = session.config.stash[_complaints]
    processes = list(processes_of(session_dir))
    complaints += map(str, processes)
    # Those of processes that are to be ended would only say the same again.
    if not processes:
        complaints += map(_complain_of_socket, sockets_below(session_dir))
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    left = interfaces_left(session.config.stash[_interfaces_before], timeout_s=_INTERFACE_GOES_S)
    complaints += [f"network interface {name} was left by a test" for name in left]
    if complaints:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.config.stash[_failed] = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _complain_of_socket(path: str) -> str:
    return f"socket {path} was left open by a test"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for complaint in config.stash.get(_complaints, []):
        terminalreporter.write_line(f"ERROR {complaint}", red=True)
    if config.stash.get(_failed, False):
        terminalreporter.write_line(f"Temporary files are kept: {config.stash[_session_dir]}")
    qemu = find_qemu()
    if qemu:
        terminalreporter.write_line(f"QEMU: {qemu}")
    else:
        terminalreporter.write_line(f"QEMU: NONE, tests of the real thing did not run: {why_no_qemu()}", yellow=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    session_dir = config.stash.get(_session_dir, None)
    if session_dir is not None and not config.stash.get(_failed, False):
        shutil.rmtree(session_dir, ignore_errors=True)
