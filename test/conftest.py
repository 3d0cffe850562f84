# SPDX-License-Identifier: BSD-2-Clause
"""What holds for every test: real QEMU is never skipped in silence, and nothing is left running."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import hypothesis
import pytest

#: Every process that a test starts inherits it, and so is known as ours when it outlives the tests.
SESSION_VARIABLE: Final = "HVKIT_TEST_SESSION"
pytest_plugins = ["guest.fixtures"]

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


@attrs.frozen
class Leftover:
    """A process that a test started and did not end."""

    pid: int
    command_line: str

    def __str__(self) -> str:
        return f"process {self.pid} was left running by a test and is ended: {self.command_line}"


_session = pytest.StashKey[str]()
_leftovers = pytest.StashKey[list[Leftover]]()


def pytest_configure(config: pytest.Config) -> None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        os.environ[SESSION_VARIABLE] = workerinput["hvkit_session"]
        return
    # The controller of xdist's workers must not have the variable itself: its workers are no leftovers.
    config.stash[_session] = uuid.uuid4().hex
    if not config.getoption("numprocesses", None):
        os.environ[SESSION_VARIABLE] = config.stash[_session]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["hvkit_session"] = node.config.stash[_session]


def _processes_of(session: str) -> Iterator[Leftover]:
    mark = f"{SESSION_VARIABLE}={session}".encode()
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            if pid != os.getpid() and mark in (directory / "environ").read_bytes().split(b"\0"):
                words = (directory / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                yield Leftover(pid, b" ".join(words).decode(errors="replace"))
        except OSError:  # it ended meanwhile, or is somebody else's
            continue


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a test left a process behind, and end that process."""
    name = session.config.stash.get(_session, None)
    if name is None:
        return
    session.config.stash[_leftovers] = leftovers = list(_processes_of(name))
    for leftover in leftovers:
        os.kill(leftover.pid, signal.SIGKILL)
    if leftovers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for leftover in config.stash.get(_leftovers, []):
        terminalreporter.write_line(f"ERROR {leftover}", red=True)
    qemu = find_qemu()
    if qemu:
        terminalreporter.write_line(f"QEMU: {qemu}")
    else:
        terminalreporter.write_line(f"QEMU: NONE, tests of the real thing did not run: {why_no_qemu()}", yellow=True)
