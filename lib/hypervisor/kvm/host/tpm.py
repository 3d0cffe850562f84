# SPDX-License-Identifier: BSD-2-Clause
"""The TPM of a machine: a swtpm process for each, which lives exactly as long as the QEMU that it serves.

QEMU and swtpm talk over a pair of sockets that nobody else can reach. swtpm ends when its QEMU does, however that ends;
only one that no QEMU ever spoke to has to be ended, and is found by the directory it works in. That holds what the
TPM keeps, and outlives the machine.
"""

import os
import shutil
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.host.log import read_log_tail
from hvkit.hypervisor.kvm.host.process import (
    ProcessError,
    ProcessIdentity,
    describe_exit,
    open_process,
    read_identity,
)
from hvkit.hypervisor.kvm.host.spawn import spawn
from hvkit.hypervisor.kvm.plan.confinement import Account

_PROGRAM: Final = "swtpm"
#: Seconds that swtpm may take to answer, and to end once it is alone.
_ANSWER_S: Final = 10.0
_OWN_END_S: Final = 1.0
_END_SIGNALS: Final = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

#: Asks what it can do; the answer is 0 and flags, 4 and at least 4 bytes. Source: swtpm, swtpm_ioctls(3).
_GET_CAPABILITY: Final = struct.pack(">I", 1)
_ANSWER_BYTES: Final = 8


class TpmError(ProcessError):
    """Raised when a machine cannot have its TPM."""


def find_swtpm() -> str:
    """Return the path of swtpm.

    Raises:
        TpmError: it is not installed.
    """
    path = shutil.which(_PROGRAM)
    if path is None:
        raise TpmError(f"{_PROGRAM} is not installed, and a TPM needs it")
    return path


def start_tpm(state_dir: Path, log_file: Path, *, account: Account | None = None) -> socket.socket:
    """Start the TPM 2.0 of a machine.

    Args:
        state_dir: what it keeps; made where it is missing, and handed over to the account.
        log_file: where swtpm says what is wrong; made anew.
        account: who it runs as; None for who we are.

    Returns:
        The end for QEMU. Where no QEMU comes to use it, `end_tpm` is called.

    Raises:
        TpmError: swtpm is missing or did not come up, or one of an earlier life cannot be ended. Nothing was started.
    """
    program = find_swtpm()
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_tpm(state_dir)
        if account is not None:
            for path in (state_dir, *state_dir.iterdir()):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise TpmError(f"{state_dir} cannot keep a TPM's state: {error.strerror}") from error
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            argv = [
                *(program, "socket", "--tpm2", "--terminate"),
                # Where it works: its account may have no way there by name.
                *("--tpmstate", "dir=.,mode=0600"),
                *("--ctrl", f"type=unixio,clientfd={theirs.fileno()}"),
            ]
            process = spawn(
                argv, log_file=log_file, pass_fds=[theirs.fileno()], directory=str(state_dir), account=account
            )
        with process:
            if not _answers(ours):
                process.wait(_ANSWER_S)
                reason = f"{describe_exit(process.identity)}: {read_log_tail(log_file).strip() or 'it said nothing'}"
                raise TpmError(f"{_PROGRAM} did not come up: {reason}")
    except BaseException:
        ours.close()
        end_tpm(state_dir)
        raise
    return ours


def _answers(end: socket.socket) -> bool:
    end.settimeout(_ANSWER_S)
    try:
        end.sendall(_GET_CAPABILITY)
        answer = end.recv(_ANSWER_BYTES)
    except OSError:
        return False
    end.settimeout(None)
    return len(answer) == _ANSWER_BYTES and answer[:4] == bytes(4)


def end_tpm(state_dir: Path) -> None:
    """End what keeps a TPM's state in a directory; does nothing where there is none.

    It ends by itself when its QEMU does. This is for one whose QEMU never spoke to it, and waits for the others.

    Raises:
        TpmError: it does not end.
    """
    for identity in _find_users(state_dir) if state_dir.is_dir() else ():
        process = open_process(identity)
        if process is not None:
            with process:
                if not process.wait(_OWN_END_S) and not process.end(_END_SIGNALS):
                    raise TpmError(f"{state_dir}: process {identity.pid} uses it and cannot be ended")


def _find_users(state_dir: Path) -> list[ProcessIdentity]:
    directory = os.path.realpath(state_dir)
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                if os.path.basename(words[0]) != os.fsencode(_PROGRAM):
                    continue
                identity = read_identity(int(entry.name))
                if os.readlink(f"{entry.path}/cwd") == directory and identity is not None:
                    found.append(identity)
    return found
