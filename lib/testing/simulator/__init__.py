# SPDX-License-Identifier: BSD-2-Clause
"""A QEMU that is none: a program that takes QEMU's command line and answers on QEMU's sockets, without a guest.

It stands behind the protocol, where QEMU stands, and not beside the driver: what is tested starts a process, connects
to its monitors, sends it signals and reads its pid file as it would with the real one::

    qemu = write_executable(tmp_path, guest_ignores_powerdown=True)
    instance = Instance(name="web1", memory_mib=256, parameters={"kvm_path": str(qemu)})

Tests compare it with real QEMU, so that it does not drift. What it does not do: guests, migration, jobs.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from hvkit.testing.simulator.knobs import Behavior

__all__ = ["Behavior", "write_executable"]

#: The shell finds Python: a shebang line ends after 127 bytes, and a path with a blank ends it earlier.
_SCRIPT = """\
#!/bin/sh
''':'
exec {python} "$0" "$@"
'''
import sys

sys.path[:0] = {path!r}

from hvkit.testing.simulator.__main__ import main

sys.exit(main(sys.argv, knobs={knobs!r}))
"""


def write_executable(directory: Path, *, name: str = "qemu-system-x86_64", **knobs: Any) -> Path:
    """Write a program that can be started in place of QEMU, and return its path.

    The knobs are in a file beside it, and are read whenever it starts.

    Args:
        directory: where to put it; it must exist.
        name: what to call it.
        knobs: members of `Behavior` that are not as they are by default.
    """
    executable = directory / name
    knobs_file = directory / f"{name}.knobs.json"
    Behavior(**knobs).save(knobs_file)
    script = _SCRIPT.format(
        python=shlex.quote(sys.executable), path=[entry for entry in sys.path if entry], knobs=str(knobs_file.resolve())
    )
    executable.write_text(script, encoding="utf-8")
    executable.chmod(0o755)
    return executable
