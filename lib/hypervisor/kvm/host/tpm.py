# SPDX-License-Identifier: BSD-2-Clause
"""The swtpm process that provides the TPM of an instance.

QEMU and swtpm are connected by a socket pair without a name. swtpm ends when QEMU closes its end. Only a swtpm to which
no QEMU ever connected has to be terminated; it is found by its working directory. That directory holds the state of the
TPM, which outlives the instance.
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
#: Seconds that swtpm may take to respond, and to end by itself.
_ANSWER_S: Final = 10.0
_OWN_END_S: Final = 1.0
_END_SIGNALS: Final = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

#: A request for its capabilities. The response is 0 in 4 bytes and flags in at least 4 bytes. Source: swtpm_ioctls(3).
_GET_CAPABILITY: Final = struct.pack(">I", 1)
_ANSWER_BYTES: Final = 8


class TpmError(ProcessError):
    """Raised when swtpm cannot be started or terminated."""


def find_swtpm() -> str:
    """Return the path of swtpm.

    Raises:
        TpmError: swtpm is not installed.
    """
    path = shutil.which(_PROGRAM)
    if path is None:
        raise TpmError(f"{_PROGRAM} is not installed; the parameter tpm requires it")
    return path


def start_tpm(state_dir: Path, log_file: Path, *, account: Account | None = None) -> socket.socket:
    """Start swtpm as a TPM 2.0.

    Args:
        state_dir: the directory of its state; created if it does not exist, and owned by the account.
        log_file: the file for its output; truncated.
        account: the account that it runs as; None for that of this process.

    Returns:
        The socket for QEMU. If no QEMU uses it, call `end_tpm`.

    Raises:
        TpmError: swtpm is not installed or did not start, or an older one cannot be terminated. No process is left.
    """
    program = find_swtpm()
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_tpm(state_dir)
        if account is not None:
            for path in (state_dir, *state_dir.iterdir()):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise TpmError(f"{state_dir}: cannot prepare the directory for the TPM state: {error.strerror}") from error
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            argv = [
                *(program, "socket", "--tpm2", "--terminate"),
                # Relative to its working directory: its account may have no access by the full path.
                *("--tpmstate", "dir=.,mode=0600"),
                *("--ctrl", f"type=unixio,clientfd={theirs.fileno()}"),
            ]
            process = spawn(
                argv, log_file=log_file, pass_fds=[theirs.fileno()], directory=str(state_dir), account=account
            )
        with process:
            if not _answers(ours):
                process.wait(_ANSWER_S)
                reason = describe_exit(process.identity, _PROGRAM)
                raise TpmError(f"{_PROGRAM} did not start: {reason}: {read_log_tail(log_file) or 'no output'}")
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
    """Wait for the end of the swtpm that uses a state directory, and terminate it if it does not end by itself.

    It ends by itself if a QEMU was connected to it. Does nothing if there is no such swtpm.

    Raises:
        TpmError: it does not end.
    """
    for identity in _find_users(state_dir) if state_dir.is_dir() else ():
        process = open_process(identity)
        if process is not None:
            with process:
                if not process.wait(_OWN_END_S) and not process.end(_END_SIGNALS):
                    raise TpmError(f"{state_dir}: swtpm (process {identity.pid}) cannot be terminated")


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
