# SPDX-License-Identifier: BSD-2-Clause
"""Start of programs that outlive this process."""

import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from hvkit.hypervisor.kvm.host.process import Process, ProcessError, children, hold_child
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.qmp.program import read_environment


def spawn(
    argv: Sequence[str],
    *,
    log_file: Path,
    pass_fds: Collection[int] = (),
    directory: str = "/",
    account: Account | None = None,
    groups: Collection[int] = (),
) -> Process:
    """Start a program that outlives this process.

    The program is a session leader with umask 077 and standard input ``/dev/null``. It inherits the descriptors in
    `pass_fds` and the environment variables that QEMU needs, and nothing else. Its output goes to the log file, which
    is truncated and has mode 0600.

    Args:
        argv: the absolute path of the program and its arguments.
        log_file: the file for its standard output and standard error.
        pass_fds: descriptors that it inherits, with the same numbers.
        directory: its working directory; the account needs no access to the directories above.
        account: the account that it runs as; None for that of this process.
        groups: supplementary groups of the account.

    Returns:
        The process, which may have ended already.

    Raises:
        ProcessError: the program could not be started, or the log file not be created. No process is left.
    """
    children.reap()
    log = _open_log(log_file)
    try:
        popen = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=read_environment(),
            umask=0o077,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else tuple(groups),
        )
    except OSError as error:
        raise ProcessError(f"{argv[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(log)
    # `children` reaps it. A Popen without a return code warns when it is deleted.
    popen.returncode = 0
    try:
        return hold_child(popen.pid)
    except BaseException:
        # The child was not reaped, so the pid still belongs to it.
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(popen.pid, signal.SIGKILL)
            os.waitpid(popen.pid, 0)
        raise


def _open_log(log_file: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(log_file, flags, 0o600)
    except OSError as error:
        raise ProcessError(f"{log_file}: {error.strerror}") from error
