# SPDX-License-Identifier: BSD-2-Clause
"""Entry point of the simulated QEMU: ``python -m hvkit.testing.simulator -S -M q35 ...``."""

import fcntl
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hvkit.testing.simulator import host
from hvkit.testing.simulator.behavior import Behavior
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.options import OptionError, Options, parse_options
from hvkit.testing.simulator.server import Port, Server


def main(argv: Sequence[str], *, behavior: str = "") -> int:
    """Run a simulated machine until it exits, and return the exit status.

    Args:
        argv: a QEMU command line, including the program name.
        behavior: path of a file written by `Behavior.save`; empty for the default behavior.
    """
    program = Path(argv[0]).name
    settings = Behavior.load(Path(behavior)) if behavior else Behavior()
    try:
        options = parse_options(argv[1:])
        if options.is_version_asked:
            version = ".".join(map(str, settings.version))
            sys.stdout.write(f"QEMU emulator version {version} ({settings.package})\n")
            return 0
        return _run(options, settings, program)
    except OptionError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1


def _run(options: Options, behavior: Behavior, program: str) -> int:
    time.sleep(behavior.start_delay_s)
    if behavior.start_failure:
        raise OptionError(behavior.start_failure)
    for path, complaint in options.required_files:
        if not os.path.exists(path):
            raise OptionError(f"{complaint}: No such file or directory")
    ports: list[Port] = []
    pid_file = _write_pid_file(options.pid_file) if options.pid_file else None
    try:
        for chardev in options.chardevs.values():
            ports.append(Port(chardev, is_monitor=chardev.label in options.monitors))
        thread_ids = host.start_idle_threads(0 if options.machine == "none" else options.vcpus)
        machine = Machine(options, behavior, host, thread_ids=thread_ids, now=time.monotonic())
        return Server(machine, behavior, ports, program).run()
    finally:
        for port in ports:
            port.close()
        if pid_file is not None:
            Path(options.pid_file).unlink(missing_ok=True)
            os.close(pid_file)


def _write_pid_file(path: str) -> int:
    """Write the pid file and lock it until the process exits. Return its descriptor.

    Raises:
        OptionError: the file cannot be written, or another process holds the lock.
    """
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OptionError(f"cannot create PID file: Could not create '{path}': {error.strerror}") from None
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise OptionError(f"cannot create PID file: Cannot lock pid file: {error.strerror}") from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


if __name__ == "__main__":
    sys.exit(main(sys.argv))
