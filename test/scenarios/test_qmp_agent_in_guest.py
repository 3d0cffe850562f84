# SPDX-License-Identifier: BSD-2-Clause
"""`AgentConnection` with the real agent in a real guest.

All tests share one boot; the test that shuts the guest down is the last one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from guest.agent_machine import AgentMachine, agent_machine
from guest.console import ANSWER_TIMEOUT_S
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.qmp import CommandError, CommandNotFound, CommandTimeout, schema
from hvkit.qmp.agent import (
    AgentCommandDisabled,
    AgentConnection,
    AgentFreezeExpired,
    AgentNotResponding,
    AgentProgramTimeout,
)
from hvkit.qmp.base import Struct
from hvkit.qmp.schema import (
    Cont,
    GuestFsfreezeStatus,
    GuestGetFsinfo,
    GuestInfo,
    GuestPing,
    GuestShutdown,
    ShutdownEvent,
    Stop,
)

pytestmark = pytest.mark.qemu

MIB: Final = 1 << 20


@pytest.fixture(scope="module")
def machine(
    tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentMachine]:
    with agent_machine(tiny_guest, disk_image(size_mib=16), tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture
def agent(machine: AgentMachine) -> Iterator[AgentConnection]:
    # TCG on a busy machine is slow; a fast reply still returns at once
    with AgentConnection(machine.agent_path, timeout=ANSWER_TIMEOUT_S) as agent:
        yield agent


def test_execute_returns_the_reply_of_a_real_agent(agent: AgentConnection) -> None:
    agent.execute(GuestPing())
    assert agent.execute("guest-ping") == {}


def test_agent_schema_has_every_command_of_the_agent(agent: AgentConnection) -> None:
    info = agent.execute(GuestInfo())
    assert info.version.count(".") >= 1
    assert {command.name for command in info.supported_commands} <= set(schema.agent_commands())


def test_agent_schema_knows_which_commands_have_no_reply(agent: AgentConnection) -> None:
    for command in agent.execute(GuestInfo()).supported_commands:
        assert schema.command(command.name).has_reply is command.success_response, command.name


QUERIES: Final = [
    name for name in schema.agent_commands() if "-get-" in name or name in ("guest-info", "guest-fsfreeze-status")
]


def unknown_members(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for each in value for name in unknown_members(each)]
    if isinstance(value, Struct):
        return [*value.unknown, *(name for each in vars(value).values() for name in unknown_members(each))]
    return []


@pytest.mark.parametrize("name", QUERIES)
def test_agent_query_replies_have_no_unknown_members(agent: AgentConnection, name: str) -> None:
    kind = schema.command(name)
    arguments = {"username": "root"} if "ssh" in name else {}
    try:
        reply = agent.execute(kind(**arguments))
    except CommandNotFound:
        commands = agent.execute(GuestInfo()).supported_commands
        assert name not in {command.name for command in commands if command.enabled}
    except CommandError:
        if name not in ("guest-ssh-get-authorized-keys", "guest-get-disks"):  # the guest has no keys and no udev
            raise
    else:
        assert unknown_members(reply) == []


def test_execute_unknown_command_raises_command_not_found(agent: AgentConnection) -> None:
    with pytest.raises(CommandNotFound) as caught:
        agent.execute("guest-does-not-exist")
    assert not isinstance(caught.value, AgentCommandDisabled)


def test_connect_after_an_aborted_client_gets_its_own_replies(machine: AgentMachine) -> None:
    for _ in range(3):
        with AgentConnection(machine.agent_path, timeout=ANSWER_TIMEOUT_S) as first, pytest.raises(CommandTimeout):
            first.execute("guest-get-osinfo", timeout=0)
        with AgentConnection(machine.agent_path, timeout=ANSWER_TIMEOUT_S) as second:
            assert second.execute("guest-ping") == {}


def test_run_returns_exit_code_and_output(agent: AgentConnection) -> None:
    result = agent.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.exit_code, result.signal) == (3, None)
    assert (result.stdout, result.stderr, result.is_truncated) == (b"out\n", b"err\n", False)


def test_run_passes_input_and_environment(agent: AgentConnection) -> None:
    data = bytes(range(256)) * 1000
    assert agent.run(["cat"], input=data).stdout == data
    assert agent.run(["sh", "-c", 'echo "$KEY"'], env={"KEY": "a b"}).stdout == b"a b\n"


def test_run_of_a_killed_program_returns_the_signal(agent: AgentConnection) -> None:
    result = agent.run(["sh", "-c", "kill -9 $$"])
    assert (result.exit_code, result.signal) == (None, 9)


def test_run_of_a_missing_program_raises_command_error(agent: AgentConnection) -> None:
    with pytest.raises(CommandError, match="no-such-program"):
        agent.run(["no-such-program"])


def test_run_timeout_leaves_the_program_running(agent: AgentConnection) -> None:
    with pytest.raises(AgentProgramTimeout) as caught:
        agent.run(["sleep", "1000"], timeout=2)
    assert agent.run(["kill", str(caught.value.pid)]).exit_code == 0


def test_read_file_returns_data_of_write_file(agent: AgentConnection) -> None:
    data = os.urandom(MIB + 1)
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    assert agent.write_file("/tmp/file", pieces) == len(data)
    assert b"".join(agent.read_file("/tmp/file")) == data
    assert agent.write_file("/tmp/file", b"more", append=True) == 4
    assert agent.run(["wc", "-c", "/tmp/file"]).stdout.split()[0] == b"%d" % (len(data) + 4)


def test_file_operations_close_their_files(agent: AgentConnection) -> None:
    def open_files() -> int:
        return int(agent.run(["sh", "-c", "ls -l /proc/$(pidof qemu-ga)/fd | grep -c /tmp/ || true"]).stdout)

    agent.write_file("/tmp/file", b"0123456789")
    for _ in agent.read_file("/tmp/file", chunk_bytes=1):
        assert open_files() == 1
        break
    assert open_files() == 0
    assert list(agent.read_file("/dev/null")) == []
    with pytest.raises(CommandError, match="no-such-directory"):
        agent.write_file("/no-such-directory/file", b"")


def test_frozen_blocks_writes_until_the_end_of_the_block(machine: AgentMachine, agent: AgentConnection) -> None:
    assert [fs.type for fs in agent.execute(GuestGetFsinfo()) if fs.mountpoint == "/mnt"] in (["ext2"], ["ext4"])
    with agent.frozen(limit_s=60) as freeze:
        assert freeze.filesystems == 1
        assert agent.execute(GuestFsfreezeStatus()) == "frozen"
        with pytest.raises(AgentCommandDisabled, match="frozen"):
            agent.run(["true"])
        with pytest.raises(AgentCommandDisabled), agent.frozen():
            pytest.fail("frozen filesystems must not be frozen again")
        assert agent.execute(GuestFsfreezeStatus()) == "frozen"
        # the quotes distinguish the output from the echo of the typed command
        machine.console.run("(echo x >/mnt/file && echo 'WRIT'TEN) & sleep 1")
        assert "WRITTEN" not in machine.console.transcript
    assert agent.execute(GuestFsfreezeStatus()) == "thawed"
    machine.console.wait_for("WRITTEN")


def test_frozen_thaws_when_the_block_raises(agent: AgentConnection) -> None:
    with pytest.raises(ZeroDivisionError), agent.frozen():
        raise ZeroDivisionError
    assert agent.execute(GuestFsfreezeStatus()) == "thawed"


def wait_until_thawed(agent: AgentConnection) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while agent.execute(GuestFsfreezeStatus()) == "frozen":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_frozen_thaws_at_the_limit(agent: AgentConnection) -> None:
    with pytest.raises(AgentFreezeExpired), agent.frozen(limit_s=3):
        wait_until_thawed(agent)
    assert agent.execute(GuestFsfreezeStatus()) == "thawed"


def test_frozen_thawed_inside_the_guest_raises_freeze_expired(machine: AgentMachine, agent: AgentConnection) -> None:
    with pytest.raises(AgentFreezeExpired, match="another client"), agent.frozen():
        machine.console.run("fsfreeze --unfreeze /mnt")


def test_frozen_thaws_after_close(agent: AgentConnection) -> None:
    with agent.frozen():
        agent.close()
    assert agent.execute(GuestFsfreezeStatus()) == "thawed"


def test_execute_in_a_paused_guest_times_out_until_it_resumes(machine: AgentMachine, agent: AgentConnection) -> None:
    machine.qmp.execute(Stop())
    try:
        with pytest.raises(CommandTimeout):
            agent.execute(GuestInfo(), timeout=0.3)
        with pytest.raises(AgentNotResponding):
            agent.execute(GuestInfo(), timeout=0.3)
    finally:
        machine.qmp.execute(Cont())
    agent.execute(GuestPing())
    assert agent.execute(GuestInfo()).supported_commands


def test_connect_to_a_paused_guest_raises_agent_not_responding(machine: AgentMachine) -> None:
    machine.qmp.execute(Stop())
    try:
        with pytest.raises(AgentNotResponding):
            AgentConnection(machine.agent_path).connect(timeout=0.3)
    finally:
        machine.qmp.execute(Cont())
    with AgentConnection(machine.agent_path, timeout=ANSWER_TIMEOUT_S) as agent:
        agent.execute(GuestPing())


def test_execute_after_an_agent_restart_succeeds(machine: AgentMachine, agent: AgentConnection) -> None:
    machine.console.run("kill -9 $(pidof qemu-ga)")
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            agent.execute(GuestPing(), timeout=3)
            break
        except (CommandTimeout, AgentNotResponding):
            assert time.monotonic() < deadline
    assert agent.run(["echo", "back"]).stdout == b"back\n"


def test_guest_shutdown_with_invalid_mode_raises_command_error(agent: AgentConnection) -> None:
    with pytest.raises(CommandError, match="mode"):
        agent.execute(GuestShutdown(mode="nonsense"))
    agent.execute(GuestPing())


def test_guest_shutdown_without_shutdown_program_raises_command_error(agent: AgentConnection) -> None:
    agent.run(["rm", "-f", "/sbin/shutdown"])
    with pytest.raises(CommandError, match="failed to shutdown"):
        agent.execute(GuestShutdown())
    agent.execute(GuestPing())


def test_guest_shutdown_returns_without_a_reply(machine: AgentMachine, agent: AgentConnection) -> None:
    agent.write_file("/sbin/shutdown", b"#!/bin/sh\npoweroff -f\n")
    assert agent.run(["chmod", "755", "/sbin/shutdown"]).exit_code == 0
    with machine.qmp.subscribe(ShutdownEvent) as shutdowns:
        agent.execute(GuestShutdown(mode="powerdown"))
        assert shutdowns.get(timeout=ANSWER_TIMEOUT_S).guest
    machine.process.wait(timeout=ANSWER_TIMEOUT_S)
