# SPDX-License-Identifier: BSD-2-Clause
"""Give QEMU the credentials by which both ends of a migration know each other, and nobody reads what is sent."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import (
    MigrateSetParameters,
    ObjectAdd,
    ObjectDel,
    QCryptoTLSCredsEndpoint,
    QomList,
    TlsCredsPskProperties,
    TlsCredsX509Properties,
)

CREDENTIALS_ID: Final = "migration-tls"
#: Where QEMU keeps the objects that were added by hand.
_OBJECTS_PATH: Final = "/objects"
_KINDS: Final[Mapping[str, type[TlsCredsX509Properties | TlsCredsPskProperties]]] = {
    "x509": TlsCredsX509Properties,
    "psk": TlsCredsPskProperties,
}


def set_credentials(monitor: QmpConnection, parameters: Mapping[str, Any], endpoint: QCryptoTLSCredsEndpoint) -> None:
    """Have QEMU use the credentials that the parameters name, read anew, or none at all.

    Args:
        monitor: of the machine that is to be sent, or waits.
        parameters: of its instance, filled.
        endpoint: "client" where it is sent, "server" where it waits.

    Raises:
        CommandError: QEMU cannot use them, for example because it may not read them.
    """
    monitor.execute(MigrateSetParameters(tls_creds="", tls_hostname=""))
    if CREDENTIALS_ID in {each.name for each in monitor.execute(QomList(path=_OBJECTS_PATH))}:
        monitor.execute(ObjectDel(id=CREDENTIALS_ID))
    kind = parameters["migration_tls"]
    if not kind:
        return
    directory = parameters["migration_tls_dir"]
    # A destination has the certificate of whoever sends shown to it: otherwise anybody could send a guest.
    credentials = _KINDS[kind](id=CREDENTIALS_ID, dir=directory, endpoint=endpoint, verify_peer=True)
    monitor.execute(ObjectAdd(credentials))
    monitor.execute(MigrateSetParameters(tls_creds=CREDENTIALS_ID, tls_hostname=parameters["migration_tls_hostname"]))
