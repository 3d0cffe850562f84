# SPDX-License-Identifier: BSD-2-Clause
"""Simulated QEMU: a program that accepts QEMU's command line and serves QMP monitors, without a real guest.

The code under test starts it as a process, connects to its monitors, sends it signals and reads its pid file, exactly
as with the real QEMU::

    qemu = write_executable(tmp_path, guest_ignores_powerdown=True)
    instance = Instance(name="web1", memory_mib=256, parameters={"kvm_path": str(qemu)})

Tests compare its replies with those of real QEMU. It does not simulate migration, jobs, or guest code.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from hvkit.testing.simulator.behavior import Behavior

__all__ = ["Behavior", "write_executable"]

#: The shell starts Python, because the kernel cuts a shebang line after 127 bytes and splits it at blanks.
_SCRIPT = """\
#!/bin/sh
''':'
exec {python} "$0" "$@"
'''
import sys

sys.path[:0] = {path!r}

from hvkit.testing.simulator.__main__ import main

sys.exit(main(sys.argv, behavior={behavior!r}))
"""


def write_executable(directory: Path, *, name: str = "qemu-system-x86_64", **behavior: Any) -> Path:
    """Write an executable that simulates QEMU, and return its path.

    The behavior is stored in ``NAME.behavior.json`` in the same directory, and is read at every start.

    Args:
        directory: an existing directory.
        name: the file name of the executable.
        behavior: members of `Behavior` that differ from their defaults.
    """
    executable = directory / name
    behavior_file = directory / f"{name}.behavior.json"
    Behavior(**behavior).save(behavior_file)
    script = _SCRIPT.format(
        python=shlex.quote(sys.executable),
        path=[entry for entry in sys.path if entry],
        behavior=str(behavior_file.resolve()),
    )
    executable.write_text(script, encoding="utf-8")
    executable.chmod(0o755)
    return executable
