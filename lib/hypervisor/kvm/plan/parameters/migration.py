# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: moves to another node."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, between, one_of
from hvkit.qmp.schema import MigrationCapability

#: Capabilities that take more than switching on: what they are for is not what a migration to another node does.
_OTHER_CAPABILITIES: Final = frozenset({"background-snapshot", "block", "mapped-ram", "x-colo", "x-ignore-shared"})


def _are_capabilities(text: str) -> bool:
    return set(text.split(":")) <= set(get_args(MigrationCapability)) - _OTHER_CAPABILITIES


def _credentials_have_their_place(parameters: Mapping[str, Any]) -> None:
    kind, directory = parameters["migration_tls"], parameters["migration_tls_dir"]
    if kind and not directory:
        raise ParameterError("migration_tls_dir", directory, f"migration_tls {kind} needs it")
    for name in ("migration_tls_dir", "migration_tls_hostname"):
        if parameters[name] and not kind:
            raise ParameterError(name, parameters[name], "there is no migration_tls that it belongs to")


PARAMETERS: Final = (
    Parameter(
        name="migration_port",
        kind=int,
        default=8102,
        doc="TCP port of a migration whose target is an address alone.",
        syntax=between(1, 65535),
    ),
    Parameter(
        name="migration_mode",
        kind=str,
        default="live",
        doc="Whether the guest runs on while its memory is sent (live) or stands still (non-live), also where a caller "
        "would have it live.",
        syntax=one_of("live", "non-live"),
    ),
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
        advice=lambda value: (
            f"for {value / 1000:g} s the guest answers nobody: others may take it for dead" if value >= 5000 else None
        ),
    ),
    Parameter(
        name="migration_caps",
        kind=str,
        default="",
        doc="Capabilities that both ends of a migration switch on, with colons between them (auto-converge:multifd).",
        syntax=Check("migration capabilities of QEMU with colons between them", _are_capabilities),
    ),
    Parameter(
        name="migration_tls",
        kind=str,
        default="",
        doc="By what both ends of a migration know each other: certificates (x509), or a key that both have (psk).",
        syntax=one_of("x509", "psk"),
    ),
    Parameter(
        name="migration_tls_dir",
        kind=str,
        default="",
        doc="Directory with the credentials for migration_tls: ca-cert.pem, server-cert.pem, server-key.pem,"
        " client-cert.pem and client-key.pem; or keys.psk. QEMU reads them, with the rights that it has.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="migration_tls_hostname",
        kind=str,
        default="",
        doc="The name in the destination's certificate, where that is not the address that is migrated to.",
        syntax=WORD,
    ),
)

RULES: Final[tuple[Rule, ...]] = (_credentials_have_their_place,)
