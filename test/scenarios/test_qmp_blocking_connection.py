# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection with a real QEMU: QEMU stopped, killed or busy, and a full backlog."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvkit.qmp import CommandError, CommandNotFound, CommandTimeout, ConnectError, ConnectionLost, QmpConnection
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsNull,
    Cont,
    DeviceAdd,
    QueryNamedBlockNodes,
    QueryQmpSchema,
    QueryStatus,
    Quit,
    ResumeEvent,
    ShutdownEvent,
    Stop,
    StopEvent,
)
from paused_machine import Machine, paused_machine

pytestmark = pytest.mark.qemu


@pytest.fixture
def machine(qemu_binary: str, tmp_path: Path) -> Iterator[Machine]:
    with paused_machine(qemu_binary, tmp_path / "qmp.sock") as machine:
        yield machine


def test_typed_commands_control_a_machine(machine: Machine, qemu_binary: str) -> None:
    with QmpConnection(machine.path) as connection:
        assert connection.version >= (7, 2)
        assert connection.execute(QueryStatus()).status == "prelaunch"
        with connection.subscribe(StopEvent, ResumeEvent) as events:
            connection.execute(Cont())
            assert isinstance(events.get(timeout=10), ResumeEvent)
            connection.execute(Stop())
            stopped = events.get(timeout=10)
        assert isinstance(stopped, StopEvent)
        assert stopped.timestamp is not None
        assert abs(stopped.timestamp - time.time()) < 60
        connection.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name="n0")))
        (node,) = connection.execute(QueryNamedBlockNodes())
        assert node.node_name == "n0"
        with connection.subscribe(ShutdownEvent) as ends:
            connection.execute(Quit())
            assert ends.get(timeout=10).reason == "host-qmp-quit"
            with pytest.raises(ConnectionLost):
                ends.get(timeout=10)
    assert machine.process.wait(10) == 0


def test_command_error_has_the_text_of_qemu(machine: Machine) -> None:
    with QmpConnection(machine.path) as connection:
        with pytest.raises(CommandNotFound, match="has not been found"):
            connection.execute("does-not-exist")
        with pytest.raises(CommandError, match="is not a valid device model name") as caught:
            connection.execute(DeviceAdd(driver="no-such-device", id="d"))
        assert caught.value.error_class == "GenericError"


def test_schema_of_200_kb_is_complete(machine: Machine) -> None:
    with QmpConnection(machine.path) as connection:
        assert len(connection.execute(QueryQmpSchema())) > 1000


def test_stopped_qemu_times_out_and_recovers(machine: Machine) -> None:
    with QmpConnection(machine.path) as connection:
        os.kill(machine.process.pid, signal.SIGSTOP)
        with pytest.raises(CommandTimeout):
            connection.execute(QueryStatus(), timeout=0.3)
        os.kill(machine.process.pid, signal.SIGCONT)
        assert connection.execute(QueryNamedBlockNodes()) == []
        assert connection.execute(QueryStatus()).status == "prelaunch"


def test_connect_to_stopped_qemu_raises_connect_error(machine: Machine) -> None:
    with QmpConnection(machine.path):
        pass
    os.kill(machine.process.pid, signal.SIGSTOP)
    with pytest.raises(ConnectError, match=r"within 0\.3 s: busy with another client, or stopped"):
        QmpConnection(machine.path).connect(timeout=0.3)


def test_connect_to_busy_monitor_with_full_backlog_raises_connect_error(machine: Machine) -> None:
    with QmpConnection(machine.path) as connection, contextlib.ExitStack() as waiters:
        with pytest.raises(ConnectError, match="busy"):
            QmpConnection(machine.path).connect(timeout=0.3)
        for _ in range(8):  # waiting connections fill the backlog, whatever its size
            waiter = waiters.enter_context(socket.socket(socket.AF_UNIX))
            waiter.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiter.connect(str(machine.path))
        with pytest.raises(ConnectError, match="backlog"):
            QmpConnection(machine.path).connect(timeout=0.3)
        assert connection.execute(QueryStatus()).status == "prelaunch"


def test_killed_qemu_raises_connection_lost(machine: Machine) -> None:
    with QmpConnection(machine.path) as connection:
        killer = threading.Timer(0.2, machine.process.kill)
        os.kill(machine.process.pid, signal.SIGSTOP)
        killer.start()
        with pytest.raises(ConnectionLost, match="unknown whether executed: query-status"):
            connection.execute(QueryStatus(), timeout=10)
        killer.join()
    machine.process.wait()
    with pytest.raises(ConnectError, match="no process listens"):
        QmpConnection(machine.path).connect()


def test_threads_share_a_monitor(machine: Machine) -> None:
    wrong: list[str] = []
    with QmpConnection(machine.path) as connection:
        for number in range(4):
            connection.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name=f"n{number}")))

        def work() -> None:
            for _ in range(50):
                if connection.execute(QueryStatus()).status not in ("prelaunch", "paused", "running"):
                    wrong.append("status")
                if len(connection.execute(QueryNamedBlockNodes())) != 4:
                    wrong.append("nodes")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
