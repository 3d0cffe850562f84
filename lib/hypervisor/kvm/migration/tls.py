# SPDX-License-Identifier: BSD-2-Clause
"""TLS credentials: both ends of a migration authenticate each other, and the stream is encrypted."""

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
#: The QOM path of objects that were added with object-add.
_OBJECTS_PATH: Final = "/objects"
_KINDS: Final[Mapping[str, type[TlsCredsX509Properties | TlsCredsPskProperties]]] = {
    "x509": TlsCredsX509Properties,
    "psk": TlsCredsPskProperties,
}


def set_credentials(monitor: QmpConnection, parameters: Mapping[str, Any], endpoint: QCryptoTLSCredsEndpoint) -> None:
    """Replace the TLS credentials by those of the parameters, read again from their files, or by none.

    Args:
        monitor: the monitor.
        parameters: the parameters of the instance, with defaults.
        endpoint: "client" on the source, "server" on the destination.

    Raises:
        CommandError: QEMU cannot use them, for example because it cannot read them.
        QmpError: QEMU does not answer.
    """
    monitor.execute(MigrateSetParameters(tls_creds="", tls_hostname=""))
    if CREDENTIALS_ID in {each.name for each in monitor.execute(QomList(path=_OBJECTS_PATH))}:
        monitor.execute(ObjectDel(id=CREDENTIALS_ID))
    kind = parameters["migration_tls"]
    if not kind:
        return
    directory = parameters["migration_tls_dir"]
    # verify_peer: the destination also verifies the source. Otherwise anyone could send it a guest.
    credentials = _KINDS[kind](id=CREDENTIALS_ID, dir=directory, endpoint=endpoint, verify_peer=True)
    monitor.execute(ObjectAdd(credentials))
    monitor.execute(MigrateSetParameters(tls_creds=CREDENTIALS_ID, tls_hostname=parameters["migration_tls_hostname"]))
