# SPDX-License-Identifier: BSD-2-Clause
"""The configurable behavior of the simulated QEMU, and the file that stores it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import attrs

from hvkit.errors import ProgrammerError


def _to_version(numbers: Iterable[int]) -> tuple[int, int, int]:
    major, minor, micro = numbers
    return (major, minor, micro)


@attrs.frozen(kw_only=True)
class Behavior:
    """The behavior of a simulated QEMU and its guest. The defaults are those of a healthy pair.

    Attributes:
        version: the QEMU version to report: major, minor, micro.
        package: the package version to report.
        guest_boot_delay_s: boot time of the guest. A booting guest ignores the power button and unplug requests.
        guest_shutdown_delay_s: time from the power button to the shutdown.
        guest_unplug_delay_s: time that the guest needs to release a device.
        guest_balloon_step_bytes: memory that the balloon inflates or deflates in 0.1 s.
        guest_ignores_powerdown: the guest ignores the power button.
        guest_ignores_unplug: the guest never releases a device.
        latency_s: duration of every command. The simulator does nothing else meanwhile.
        slow_commands: additional duration of single commands, in seconds, by wire name.
        is_silent: monitors accept connections but never send a greeting.
        hang_on: wire name of a command after which all monitors stop answering. Signals still work.
        crash_on: wire name of a command at which the process is killed, without a reply and without cleanup.
        close_on: wire name of a command at which the connection closes in the middle of the reply.
        drop_events: names of events that are not sent.
        double_events: names of events that are sent twice.
        start_delay_s: delay before the process creates files and sockets.
        start_failure: error message to print instead of starting; empty to start.
    """

    version: tuple[int, int, int] = attrs.field(default=(7, 2, 0), converter=_to_version)
    package: str = "hvkit simulator"
    guest_boot_delay_s: float = 0.05
    guest_shutdown_delay_s: float = 0.05
    guest_unplug_delay_s: float = 0.05
    guest_balloon_step_bytes: int = 64 << 20
    guest_ignores_powerdown: bool = False
    guest_ignores_unplug: bool = False
    latency_s: float = 0.0
    slow_commands: Mapping[str, float] = attrs.field(factory=dict)
    is_silent: bool = False
    hang_on: str = ""
    crash_on: str = ""
    close_on: str = ""
    drop_events: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    double_events: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    start_delay_s: float = 0.0
    start_failure: str = ""

    def save(self, path: Path) -> None:
        """Write the behavior to a file."""
        path.write_text(json.dumps(attrs.asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the behavior from a file.

        Raises:
            ProgrammerError: the file was not written by `save`.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ProgrammerError(f"{path}: {error}") from error
