# SPDX-License-Identifier: BSD-2-Clause
"""swtpm processes, without QEMU."""

import os
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hvkit.hypervisor.kvm.host.tpm import TpmError, end_tpm, start_tpm
from hvkit.hypervisor.kvm.plan.confinement import Account

needs_swtpm: Final = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
#: The command that initializes the TPM, without flags. Source: swtpm_ioctls(3), CMD_INIT.
INIT: Final = struct.pack(">II", 2, 0)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tpm"


def processes_that_use(path: Path) -> list[str]:
    """Return the command lines of processes whose working directory this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == path:
                found.append((entry / "cmdline").read_bytes().decode())
        except OSError:
            continue
    return found


@pytest.fixture
def ended(state_dir: Path) -> Iterator[None]:
    yield
    end_tpm(state_dir)
    assert processes_that_use(state_dir) == []


def initialize(end: socket.socket) -> int:
    end.settimeout(10)
    end.sendall(INIT)
    return int(struct.unpack(">I", end.recv(4))[0])


@needs_swtpm
@pytest.mark.usefixtures("ended")
def test_start_terminates_an_older_swtpm_and_keeps_its_state(state_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with start_tpm(state_dir, tmp_path / "log") as end:
            assert initialize(end) == 0
            assert len(processes_that_use(state_dir)) == 1
    kept = [path.name for path in state_dir.iterdir() if not path.name.startswith(".")]
    assert kept == ["tpm2-00.permall"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (state_dir, state_dir / kept[0]))


@needs_swtpm
@pytest.mark.usefixtures("ended")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other accounts")
def test_start_changes_the_owner_of_the_state_to_the_account(state_dir: Path, tmp_path: Path) -> None:
    for uid in (61001, 61002):
        with start_tpm(state_dir, tmp_path / "log", account=Account(uid=uid, gid=uid)) as end:
            assert initialize(end) == 0
            assert (state_dir / "tpm2-00.permall").stat().st_uid == uid


def test_failed_start_quotes_the_log_of_swtpm(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "swtpm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho the moon is wrong >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(TpmError, match="did not start: swtpm ended with exit code 3: the moon is wrong"):
        start_tpm(state_dir, tmp_path / "log")


def test_start_without_swtpm_names_it(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TpmError, match="swtpm is not installed"):
        start_tpm(state_dir, tmp_path / "log")
    assert not state_dir.exists()


def test_state_directory_that_cannot_be_created_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.host.tpm.find_swtpm", lambda: "/bin/true")
    (tmp_path / "file").touch()
    with pytest.raises(TpmError, match="Not a directory"):
        start_tpm(tmp_path / "file" / "state", tmp_path / "log")
