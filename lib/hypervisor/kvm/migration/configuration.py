# SPDX-License-Identifier: BSD-2-Clause
"""The configuration of QEMU for a migration: capabilities, credentials and limits."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.kvm.migration.tls import set_credentials
from hvkit.hypervisor.kvm.qemu.migration_capabilities import set_migration_capabilities
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import MigrateSetParameters, MigrationCapability, QCryptoTLSCredsEndpoint

_MIB: Final = 1 << 20


def wanted_capabilities(parameters: Mapping[str, Any]) -> set[MigrationCapability]:
    """Return the capabilities that both ends enable. All others are disabled.

    Without "return-path", a source reports completion when everything was sent, even if the destination did not receive
    it.
    """
    # The syntax of the parameter admits only names of capabilities.
    return {"events", "return-path", *filter(None, parameters["migration_caps"].split(":"))}


def configure_migration(
    monitor: QmpConnection, parameters: Mapping[str, Any], endpoint: QCryptoTLSCredsEndpoint, *more: MigrationCapability
) -> None:
    """Set capabilities, credentials and limits. Nothing of an earlier attempt with other parameters remains.

    Args:
        monitor: the monitor.
        parameters: the parameters of the instance, with defaults.
        endpoint: "client" on the source, "server" on the destination.
        more: capabilities in addition to those of the parameters.

    Raises:
        CommandError: QEMU refused.
        QmpError: QEMU does not answer.
    """
    set_migration_capabilities(monitor, wanted_capabilities(parameters) | set(more))
    set_credentials(monitor, parameters, endpoint)
    bandwidth = parameters["migration_bandwidth"] * _MIB
    monitor.execute(
        MigrateSetParameters(
            max_bandwidth=bandwidth, max_postcopy_bandwidth=bandwidth, downtime_limit=parameters["migration_downtime"]
        )
    )
