# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: migration."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, between, one_of
from hvkit.qmp.schema import MigrationCapability

#: Capabilities for other purposes than a migration to another node, which need more than being switched on.
_OTHER_CAPABILITIES: Final = frozenset({"background-snapshot", "block", "mapped-ram", "x-colo", "x-ignore-shared"})


def _are_capabilities(text: str) -> bool:
    return set(text.split(":")) <= set(get_args(MigrationCapability)) - _OTHER_CAPABILITIES


def _check_credentials(parameters: Mapping[str, Any]) -> None:
    kind, directory = parameters["migration_tls"], parameters["migration_tls_dir"]
    if kind and not directory:
        raise ParameterError("migration_tls_dir", directory, f"required by migration_tls {kind}")
    for name in ("migration_tls_dir", "migration_tls_hostname"):
        if parameters[name] and not kind:
            raise ParameterError(name, parameters[name], "requires migration_tls")


PARAMETERS: Final = (
    Parameter(
        name="migration_port",
        kind=int,
        default=8102,
        doc="TCP port of a migration if its target is an address without a port.",
        syntax=between(1, 65535),
    ),
    Parameter(
        name="migration_mode",
        kind=str,
        default="live",
        doc="Whether the guest keeps running while its memory is sent (live). With non-live the guest is paused, even "
        "if the caller asks for a live migration.",
        syntax=one_of("live", "non-live"),
    ),
    Parameter(
        name="migration_bandwidth",
        kind=int,
        default=32,
        doc="Bandwidth limit of a migration, in MiB/s. 0: no limit.",
        syntax=between(0, 1 << 20),
    ),
    Parameter(
        name="migration_downtime",
        kind=int,
        default=30,
        doc="Maximum downtime of the guest at the switchover of a migration, in milliseconds.",
        syntax=between(0, 2_000_000),
        advice=lambda value: (
            f"the guest does not respond for up to {value / 1000:g} s; its peers may consider it dead"
            if value >= 5000
            else None
        ),
    ),
    Parameter(
        name="migration_caps",
        kind=str,
        default="",
        doc="Migration capabilities of QEMU to enable, separated by colons, such as auto-converge:multifd. They have to"
        " be the same on source and destination.",
        syntax=Check("migration capabilities of QEMU, separated by colons", _are_capabilities),
    ),
    Parameter(
        name="migration_tls",
        kind=str,
        default="",
        doc="TLS for migrations, authenticated by certificates (x509) or a shared key (psk). Empty: no TLS.",
        syntax=one_of("x509", "psk"),
    ),
    Parameter(
        name="migration_tls_dir",
        kind=str,
        default="",
        doc="Directory with the credentials for migration_tls: ca-cert.pem, server-cert.pem, server-key.pem, "
        "client-cert.pem and client-key.pem; or keys.psk. QEMU reads them with its own permissions.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="migration_tls_hostname",
        kind=str,
        default="",
        doc="Host name in the certificate of the destination. Empty: the address of the migration target.",
        syntax=WORD,
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_credentials,)
