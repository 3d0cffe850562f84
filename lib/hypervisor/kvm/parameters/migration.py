# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: moves to another node."""

from typing import Final, get_args

from hvkit.hypervisor.parameters import (
    Check,
    Parameter,
    between,
)
from hvkit.qmp.schema import MigrationCapability

#: Capabilities that take more than switching on: what they are for is not what a migration to another node does.
_OTHER_CAPABILITIES: Final = frozenset({"background-snapshot", "block", "mapped-ram", "x-colo", "x-ignore-shared"})


def _are_capabilities(text: str) -> bool:
    return set(text.split(":")) <= set(get_args(MigrationCapability)) - _OTHER_CAPABILITIES


PARAMETERS: Final = (
    Parameter(
        name="migration_bandwidth",
        kind=int,
        default=32,
        doc="How much a migration sends in a second at most, in MiB; 0: as much as it can.",
        syntax=between(0, 1 << 20),
    ),
    Parameter(
        name="migration_downtime",
        kind=int,
        default=30,
        doc="For how many milliseconds the guest may stand still at the end of a migration.",
        syntax=between(0, 2_000_000),
    ),
    Parameter(
        name="migration_caps",
        kind=str,
        default="",
        doc="Capabilities that both ends of a migration switch on, with colons between them (auto-converge:multifd).",
        syntax=Check("migration capabilities of QEMU with colons between them", _are_capabilities),
    ),
)
