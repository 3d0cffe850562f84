# SPDX-License-Identifier: BSD-2-Clause
"""What a test can turn on a simulated QEMU, and the file that carries it there."""

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
    """How a simulated QEMU and its guest behave, where that is not how healthy ones do.

    Attributes:
        version: what it calls itself: major, minor, micro.
        package: what its builder calls it.
        guest_boot_delay_s: how long the guest boots; until then it hears neither the power button nor an unplug.
        guest_shutdown_delay_s: how long the guest takes from the power button to its end.
        guest_unplug_delay_s: how long the guest takes to let a device go.
        guest_balloon_step_bytes: how much memory the guest gives or takes in a tenth of a second.
        guest_ignores_powerdown: the guest never does what the power button asks.
        guest_ignores_unplug: the guest never lets a device go.
        latency_s: how long each command takes; nothing else happens meanwhile.
        slow_commands: how long single commands take beyond that, in seconds by wire name.
        is_silent: nobody is ever greeted: connections succeed and stay without a word.
        hang_on: from this command on, by wire name, no monitor says anything; signals still work.
        crash_on: this command kills the process as a crash does: files stay, nobody hears a word.
        close_on: half of the reply to this command is sent, then the connection closes.
        drop_events: names of events that get lost.
        double_events: names of events that are sent twice.
        start_delay_s: how long it takes until anything of it can be seen.
        start_failure: what it complains about instead of starting; empty to start.
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
        """Write the knobs to a file."""
        path.write_text(json.dumps(attrs.asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the knobs from a file.

        Raises:
            ProgrammerError: the file is not one that `save` wrote.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ProgrammerError(f"{path}: {error}") from error
