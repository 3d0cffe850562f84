# SPDX-License-Identifier: BSD-2-Clause
"""Tests of `KvmWatch`: it reports the same states as a listing, over connections that it keeps open."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hvkit.hypervisor import Instance, InstanceInfo, InstanceState, InstanceWatch
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.locks import is_lock_held
from hvkit.hypervisor.kvm.host.log import MAX_BYTES
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.instance import watch
from hvkit.hypervisor.kvm.instance.query import Candidate, query_transiently
from hvkit.qmp import EventTimeout, QmpConnection
from hvkit.qmp.fleet import Fleet
from hvkit.qmp.schema import Balloon, Cont, ShutdownEvent, Stop, SystemPowerdown

MakeInstance = Callable[..., Instance]
MIB = 1 << 20


@pytest.fixture
def simulated(make_simulated: Callable[..., MakeInstance]) -> MakeInstance:
    return make_simulated()


@pytest.fixture
def transient_queries(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The instances queried over transient connections, for each query of the watch."""
    queried: list[set[str]] = []

    def record(candidates: Mapping[str, Candidate], timeout_s: float) -> Any:
        if candidates:
            queried.append(set(candidates))
        return query_transiently(candidates, timeout_s)

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.watch.query_transiently", record)
    return queried


@pytest.fixture
def pool_queries(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """The queries over watch monitors: for each round, wire names by instance."""
    rounds: list[dict[str, list[str]]] = []

    class RecordingFleet(Fleet):
        def execute_several(self, commands: Mapping[str, Any], **options: Any) -> Any:
            if commands:
                rounds.append({name: [each.wire_name for each in several] for name, several in commands.items()})
            return super().execute_several(commands, **options)

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.watch.Fleet", RecordingFleet)
    return rounds


@pytest.fixture
def timeout_60s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the query timeout, so that no instance counts as silent on a busy node."""
    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.instances.QUERY_S", 60.0)


@pytest.fixture
def timeout_5s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the query timeout to a value for which a test can wait."""
    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.instances.QUERY_S", 5.0)


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def sockets(kvm: KvmHypervisor, name: str = "web1") -> Any:
    return RunDirectory(kvm.run_dir).instance(name)


def agreed(kvm: KvmHypervisor, opened: InstanceWatch) -> dict[str, InstanceInfo]:
    """Return the result of a query, after checking that a listing returns the same."""
    infos = opened.query()
    assert infos == kvm.get_all_instances_info()
    return {info.name: info for info in infos}


def pid_of(kvm: KvmHypervisor, name: str = "web1") -> int:
    pid = kvm.get_instance_info(name).pid
    assert pid is not None
    return pid


def power_off(kvm: KvmHypervisor, name: str) -> None:
    """Make the guest shut down, without a stop of the hypervisor."""
    with kvm.monitor(name) as monitor, monitor.subscribe(ShutdownEvent) as events:
        while True:
            monitor.execute(SystemPowerdown())
            with contextlib.suppress(EventTimeout):
                events.get(timeout=0.5)
                return


def change_and_compare(kvm: KvmHypervisor, make: MakeInstance) -> None:
    """Change instances step by step, and compare the watch with a listing after each step."""
    with kvm.watch() as opened:
        assert agreed(kvm, opened) == {}
        for name in ("web1", "web2"):
            kvm.start_instance(make(name))
        kvm.start_instance(make("web3"), start_paused=True)
        assert [info.state for info in agreed(kvm, opened).values()] == [
            *[InstanceState.RUNNING] * 2,
            InstanceState.PAUSED,
        ]
        for command, state in ((Stop(), InstanceState.PAUSED), (Cont(), InstanceState.RUNNING)):
            with kvm.monitor("web1") as monitor:
                monitor.execute(command)
            assert agreed(kvm, opened)["web1"].state is state
        pid = pid_of(kvm, "web2")
        os.kill(pid, signal.SIGSTOP)
        for _ in range(2):
            assert agreed(kvm, opened)["web2"].reason == "QEMU process stopped by a signal"
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: opened.query() == kvm.get_all_instances_info())
        assert agreed(kvm, opened)["web2"].state is InstanceState.RUNNING
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: agreed(kvm, opened)["web2"].state is InstanceState.CRASHED)
        kvm.start_instance(make("web2"))
        assert agreed(kvm, opened)["web2"].state is InstanceState.RUNNING
        power_off(kvm, "web1")
        wait_until(lambda: agreed(kvm, opened)["web1"].state is InstanceState.SHUTDOWN)
        kvm.stop_instance("web3", force=True)
        assert agreed(kvm, opened)["web3"].state is InstanceState.SHUTDOWN
        kvm.cleanup_instance("web3")
        kvm.start_instance(make("web4"))
        assert list(agreed(kvm, opened)) == ["web1", "web2", "web4"]


@pytest.mark.qemu
@pytest.mark.usefixtures("timeout_5s")
def test_watch_agrees_with_listing_on_real_qemu(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    change_and_compare(kvm, make_toy)


@pytest.mark.usefixtures("timeout_5s")
def test_watch_agrees_with_listing_on_simulated_qemu(kvm: KvmHypervisor, simulated: MakeInstance) -> None:
    change_and_compare(kvm, simulated)


def test_watch_reports_damaged_state_file(kvm: KvmHypervisor, simulated: MakeInstance) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(simulated(name))
    with kvm.watch() as opened:
        agreed(kvm, opened)
        file = sockets(kvm).runtime_file
        kept = file.read_bytes()
        file.write_text("{")
        assert agreed(kvm, opened)["web1"].state is InstanceState.UNRESPONSIVE
        file.write_bytes(kept)
        assert agreed(kvm, opened)["web1"].state is InstanceState.RUNNING


@pytest.mark.usefixtures("timeout_60s")
def test_watch_makes_no_new_connections_and_blocks_no_client(
    kvm: KvmHypervisor, simulated: MakeInstance, transient_queries: list[set[str]]
) -> None:
    kvm.start_instance(simulated())
    with kvm.watch() as opened:
        opened.query()
        with QmpConnection(sockets(kvm).control_socket), QmpConnection(sockets(kvm).shared_socket):
            assert [info.state for info in opened.query()] == [InstanceState.RUNNING]
    assert transient_queries == []


def test_watch_trims_logs_once_a_minute(
    kvm: KvmHypervisor, simulated: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm.start_instance(simulated())
    log = sockets(kvm).log_file

    def grow() -> None:
        with log.open("ab") as file:
            file.write(b"chatter\n" * (MAX_BYTES // 4))

    with kvm.watch() as opened:
        grow()
        opened.query()
        assert log.stat().st_size < MAX_BYTES
        grow()
        opened.query()
        assert log.stat().st_size > MAX_BYTES
        monkeypatch.setattr(watch, "_TRIM_INTERVAL_S", 0.0)
        opened.query()
        assert log.stat().st_size < MAX_BYTES


@pytest.fixture
def without_event_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assume that no event is delayed."""
    monkeypatch.setattr(watch, "_EVENT_DELAY_S", 0.0)


def mark_balloon_used(kvm: KvmHypervisor) -> None:
    """Access a monitor, so that queries of web1 include the balloon."""
    with kvm.monitor("web1"):
        pass


def balloon(kvm: KvmHypervisor, memory_mib: int) -> None:
    with kvm.monitor("web1") as monitor:
        monitor.execute(Balloon(value=memory_mib * MIB))


@pytest.mark.usefixtures("without_event_delay")
def test_memory_is_queried_again_after_event(
    kvm: KvmHypervisor, simulated: MakeInstance, pool_queries: list[dict[str, list[str]]]
) -> None:
    kvm.start_instance(simulated(memory_mib=64))
    mark_balloon_used(kvm)
    with kvm.watch() as opened:
        for _ in range(3):
            assert [info.memory_mib for info in opened.query()] == [64]
        assert pool_queries[-2:] == [{"web1": ["query-status"]}] * 2
        balloon(kvm, 48)
        wait_until(lambda: kvm.get_instance_info("web1").memory_mib == 48)
        assert agreed(kvm, opened)["web1"].memory_mib == 48


@pytest.mark.usefixtures("without_event_delay")
def test_memory_is_queried_again_after_interval_without_event(
    kvm: KvmHypervisor,
    make_simulated: Callable[..., MakeInstance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kvm.start_instance(make_simulated(drop_events=["BALLOON_CHANGE"])(memory_mib=64))
    mark_balloon_used(kvm)
    with kvm.watch() as opened:
        opened.query()
        balloon(kvm, 48)
        wait_until(lambda: kvm.get_instance_info("web1").memory_mib == 48)
        assert [info.memory_mib for info in opened.query()] == [64]
        monkeypatch.setattr(watch, "_RESOURCES_VALID_S", 0.0)
        assert agreed(kvm, opened)["web1"].memory_mib == 48


@pytest.mark.usefixtures("without_event_delay")
def test_memory_is_queried_again_after_late_reply(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_RESOURCES_VALID_S", 3600.0)
    kvm.start_instance(make_simulated(slow_commands={"query-balloon": 1.5})(memory_mib=64))
    balloon(kvm, 48)
    wait_until(lambda: kvm.get_instance_info("web1").memory_mib == 48)
    with kvm.watch() as opened:
        monkeypatch.setattr("hvkit.hypervisor.kvm.instance.instances.QUERY_S", 1.0)
        opened.query()
        monkeypatch.setattr("hvkit.hypervisor.kvm.instance.instances.QUERY_S", 60.0)
        for _ in range(3):
            assert [info.memory_mib for info in opened.query()] == [48]


def test_memory_is_queried_again_while_event_may_be_delayed(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated(drop_events=["BALLOON_CHANGE"])(memory_mib=64))
    mark_balloon_used(kvm)
    with kvm.watch() as opened:
        opened.query()
        balloon(kvm, 48)
        wait_until(lambda: kvm.get_instance_info("web1").memory_mib == 48)
        assert agreed(kvm, opened)["web1"].memory_mib == 48


@pytest.mark.usefixtures("timeout_5s")
def test_stopped_process_is_queried_once(
    kvm: KvmHypervisor,
    simulated: MakeInstance,
    transient_queries: list[set[str]],
    pool_queries: list[dict[str, list[str]]],
) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(simulated(name))
    os.kill(pid_of(kvm), signal.SIGSTOP)
    with kvm.watch() as opened:
        for _ in range(3):
            assert [info.state for info in opened.query()] == [InstanceState.UNRESPONSIVE, InstanceState.RUNNING]
        assert transient_queries == [{"web1"}]
        assert [set(each) for each in pool_queries[-2:]] == [{"web2"}] * 2


@pytest.mark.usefixtures("timeout_5s")
def test_hanging_qemu_gets_no_second_query(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], pool_queries: list[dict[str, list[str]]]
) -> None:
    kvm.start_instance(make_simulated(hang_on="query-balloon")("web1"))
    mark_balloon_used(kvm)
    kvm.start_instance(make_simulated()("web2"))
    with kvm.watch() as opened:
        opened.query()
        for _ in range(2):
            assert [info.state for info in opened.query()] == [InstanceState.UNRESPONSIVE, InstanceState.RUNNING]
        assert agreed(kvm, opened)["web1"].reason == "no monitor answers, but the QEMU process is running"
    assert [set(each) for each in pool_queries] == [{"web1", "web2"}, *[{"web2"}] * 3]


def test_slow_instance_recovers_after_missed_query(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated(latency_s=0.3)())
    pid = pid_of(kvm)
    with kvm.watch() as opened:
        os.kill(pid, signal.SIGSTOP)
        assert [info.state for info in opened.query()] == [InstanceState.UNRESPONSIVE]
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: [info.state for info in opened.query()] == [InstanceState.RUNNING])


@pytest.mark.usefixtures("timeout_5s")
def test_other_monitors_are_used_if_watch_monitor_is_in_use(
    kvm: KvmHypervisor, simulated: MakeInstance, transient_queries: list[set[str]]
) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(simulated(name))
    with socket.socket(socket.AF_UNIX) as stranger, kvm.watch() as opened:
        stranger.connect(str(sockets(kvm).watch_socket))
        stranger.recv(4096)
        assert [info.state for info in agreed(kvm, opened).values()] == [InstanceState.RUNNING] * 2
        assert transient_queries == [{"web1"}]


@pytest.mark.usefixtures("timeout_60s")
def test_other_monitors_are_used_if_watch_monitor_is_missing(
    kvm: KvmHypervisor, simulated: MakeInstance, transient_queries: list[set[str]]
) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(simulated(name))
    sockets(kvm).watch_socket.unlink()
    with kvm.watch() as opened:
        for _ in range(2):
            assert [info.state for info in agreed(kvm, opened).values()] == [InstanceState.RUNNING] * 2
    assert transient_queries == [{"web1"}] * 2


def test_second_watch_is_accurate_and_takes_over_monitors(
    kvm: KvmHypervisor, simulated: MakeInstance, pool_queries: list[dict[str, list[str]]]
) -> None:
    kvm.start_instance(simulated())
    with kvm.watch() as second:
        with kvm.watch() as first:
            first.query()
            pool_queries.clear()
            agreed(kvm, second)
            assert pool_queries == []
        agreed(kvm, second)
        assert len(pool_queries) == 1
    assert not is_lock_held("the watch", RunDirectory(kvm.run_dir).watching_lock_file)


KILLED_WATCH = """
import os, signal
from hvkit.hypervisor import get_hypervisor
watch = get_hypervisor("kvm", run_dir={run_dir!r}).watch()
print([info.state.value for info in watch.query()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("timeout_60s")
def test_killed_watch_does_not_block_next_watch(
    kvm: KvmHypervisor, simulated: MakeInstance, transient_queries: list[set[str]]
) -> None:
    kvm.start_instance(simulated())
    program = KILLED_WATCH.format(run_dir=str(kvm.run_dir))
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "['running']\n")
    with kvm.watch() as opened:
        agreed(kvm, opened)
        assert transient_queries == []


FORKED_WATCH = """
import os, signal, sys
from hvkit.hypervisor import get_hypervisor
from hvkit.hypervisor.kvm.instance import query, watch
asked = []
original = query.query_transiently
def note(candidates, timeout_s):
    asked.extend(candidates)
    return original(candidates, timeout_s)
query.query_transiently = watch.query_transiently = note
reader, writer = os.pipe()
with get_hypervisor("kvm", run_dir={run_dir!r}).watch() as opened:
    (info,) = opened.query()
    child = os.fork()
    if child:
        os.read(reader, 1)
        opened.query()
        print(asked, flush=True)
        os.kill(info.pid, signal.SIGKILL)
        while opened.query()[0].state.value == "running":
            pass
        print([change.after.state.value for change in opened.wait(timeout=0.1)], flush=True)
    else:
        print([info.state.value for info in opened.query()], asked, flush=True)
        {act}
        os.write(writer, b"!")
        signal.pause()
os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("act", ["pass", "opened.close()"])
def test_watch_after_fork_stays_with_parent(kvm: KvmHypervisor, simulated: MakeInstance, act: str) -> None:
    kvm.start_instance(simulated())
    program = FORKED_WATCH.format(run_dir=str(kvm.run_dir), act=act)
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "['running'] ['web1']\n[]\n[]\n")


@pytest.fixture
def without_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the periodic query during a wait."""
    monkeypatch.setattr("hvkit.hypervisor.watch.INTERVAL_S", 3600.0)


def pause(kvm: KvmHypervisor) -> None:
    with kvm.monitor("web1") as monitor:
        monitor.execute(Stop())


def kill(kvm: KvmHypervisor) -> None:
    os.kill(pid_of(kvm), signal.SIGKILL)


@pytest.mark.usefixtures("without_interval")
@pytest.mark.parametrize(
    ("act", "state"), [(pause, InstanceState.PAUSED), (kill, InstanceState.CRASHED)], ids=["paused", "killed"]
)
def test_wait_ends_with_change(
    kvm: KvmHypervisor, simulated: MakeInstance, act: Callable[[KvmHypervisor], None], state: InstanceState
) -> None:
    kvm.start_instance(simulated())
    with kvm.watch() as opened:
        opened.query()
        actor = threading.Timer(0.3, act, [kvm])
        actor.start()
        (change,) = opened.wait()
        actor.join()
        assert change.before is not None
        assert change.after is not None
        assert (change.before.state, change.after.state) == (InstanceState.RUNNING, state)
        assert opened.wait(timeout=0) == []


def test_wait_reports_new_instance(kvm: KvmHypervisor, simulated: MakeInstance) -> None:
    with kvm.watch() as opened:
        assert opened.wait(timeout=0.05) == []
        starter = threading.Timer(0.2, kvm.start_instance, [simulated()])
        starter.start()
        states: list[InstanceState | None] = []
        while InstanceState.RUNNING not in states:
            for change in opened.wait(timeout=60):
                assert change.name == "web1"
                states.append(None if change.after is None else change.after.state)
        starter.join()


def test_closed_watch_leaves_no_descriptor(kvm: KvmHypervisor, simulated: MakeInstance) -> None:
    kvm.start_instance(simulated())
    before = len(list(Path("/proc/self/fd").iterdir()))
    with kvm.watch() as opened:
        opened.query()
        assert len(list(Path("/proc/self/fd").iterdir())) > before
    assert len(list(Path("/proc/self/fd").iterdir())) == before
