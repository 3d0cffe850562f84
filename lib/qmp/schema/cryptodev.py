# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `cryptodev`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `QCryptodevBackendServiceType`, since 8.0.
QCryptodevBackendServiceType = Literal["cipher", "hash", "mac", "aead", "akcipher"]

#: Enumeration `QCryptodevBackendType`, since 8.0.
QCryptodevBackendType = Literal["builtin", "vhost-user", "lkcf"]


class QCryptodevBackendClient(Struct):
    """Struct `QCryptodevBackendClient`, since 8.0."""

    queue: int
    type: QCryptodevBackendType


class QCryptodevInfo(Struct):
    """Struct `QCryptodevInfo`, since 8.0."""

    id: str
    service: list[QCryptodevBackendServiceType]
    client: list[QCryptodevBackendClient]


class QueryCryptodev(Command["list[QCryptodevInfo]"], wire_name="query-cryptodev"):
    """Command `query-cryptodev`, since 8.0. Returns a list of `QCryptodevInfo`."""
