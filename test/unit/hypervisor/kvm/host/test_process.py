# SPDX-License-Identifier: BSD-2-Clause
"""Process identity and process handles."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import attrs
from spawner import KILL, Spawner, python
from waiting import wait_for

from hvkit.hypervisor.kvm.host.process import ProcessIdentity, children, describe_exit, open_process, read_identity


def test_identity_opens_the_process(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    assert read_identity(identity.pid) == identity
    process = open_process(identity)
    assert process is not None
    with process:
        assert not process.wait(0)


def test_process_with_the_same_pid_is_not_opened(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    assert open_process(attrs.evolve(identity, start_time=identity.start_time + 1)) is None
    assert open_process(attrs.evolve(identity, boot_id="another")) is None


def test_identity_of_a_program_with_brackets_in_its_name_is_read(start: Spawner, tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    identity = start(str(program), "60")
    assert read_identity(identity.pid) == identity


def test_zombie_of_another_parent_has_ended() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        identity = read_identity(child.pid)
        assert identity is not None
        process = open_process(identity)
        assert process is not None
        with process:
            process.send_signal(signal.SIGKILL)
            assert process.wait(10)
        assert Path(f"/proc/{child.pid}").exists(), "only its parent may reap it"
        assert open_process(identity) is None
        assert read_identity(child.pid) is None


def test_end_reaps_a_child_and_keeps_its_exit_status(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)))
        process.send_signal(signal.SIGKILL)
    assert not Path(f"/proc/{identity.pid}").exists()
    assert describe_exit(identity) == "QEMU was ended by SIGTERM"


def test_reap_removes_a_child_that_ended_earlier(start: Spawner) -> None:
    identity = start("/bin/true")
    process = open_process(identity)
    if process is not None:
        with process:
            assert process.wait(10)
    children.reap()
    assert not Path(f"/proc/{identity.pid}").exists()


def test_end_sends_the_next_signal_if_one_is_ignored(start: Spawner) -> None:
    identity = start(
        *python("import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)")
    )
    wait_for(start.log_file.read_text, lambda text: text == "1\n", timeout_s=10)
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(((signal.SIGTERM, 0.1), *KILL))
    assert describe_exit(identity) == "QEMU was ended by SIGKILL"


def test_stopped_process_is_reported_and_can_be_killed(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    process = open_process(identity)
    assert process is not None
    with process:
        assert not process.is_stopped
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: process.is_stopped, timeout_s=10)
        assert process.end(KILL)
        assert not process.is_stopped


def test_exit_status_of_another_process_is_unknown() -> None:
    assert describe_exit(ProcessIdentity(1, 1, "another")) == "QEMU has ended"


def test_child_reaped_by_other_code_has_an_unknown_exit_status(start: Spawner) -> None:
    identity = start("/bin/true")
    os.waitpid(identity.pid, 0)
    assert open_process(identity) is None
    assert describe_exit(identity) == "QEMU has ended"
