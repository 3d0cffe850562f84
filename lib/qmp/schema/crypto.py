# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `crypto`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Struct, Union
from hvkit.qmp.schema.qom import ObjectOptions

#: Enumeration `QCryptoBlockFormat`, since 2.6.
QCryptoBlockFormat = Literal["qcow", "luks"]

#: Enumeration `QCryptoBlockLUKSKeyslotState`, since 5.1.
QCryptoBlockLUKSKeyslotState = Literal["active", "inactive"]

#: Enumeration `QCryptoCipherAlgo`, 10.0 and later.
QCryptoCipherAlgo = Literal[
    "aes-128",
    "aes-192",
    "aes-256",
    "des",
    "3des",
    "cast5-128",
    "serpent-128",
    "serpent-192",
    "serpent-256",
    "twofish-128",
    "twofish-192",
    "twofish-256",
    "sm4",
]

#: Enumeration `QCryptoCipherMode`, since 2.6.
QCryptoCipherMode = Literal["ecb", "cbc", "xts", "ctr"]

#: Enumeration `QCryptoHashAlgo`, 10.0 and later.
QCryptoHashAlgo = Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "sm3"]

#: Enumeration `QCryptoIVGenAlgo`, 10.0 and later.
QCryptoIVGenAlgo = Literal["plain", "plain64", "essiv"]

#: Enumeration `QCryptoSecretFormat`, since 2.6.
QCryptoSecretFormat = Literal["raw", "base64"]

#: Enumeration `QCryptoTLSCredsEndpoint`, since 2.5.
QCryptoTLSCredsEndpoint = Literal["client", "server"]


class QCryptoBlockOptionsBase(Struct):
    """Struct `QCryptoBlockOptionsBase`, since 2.6."""

    format: QCryptoBlockFormat


class QCryptoBlockAmendOptions(
    QCryptoBlockOptionsBase,
    Union,
    tag="format",
    branches={"luks": "QCryptoBlockAmendOptionsLuksBranch"},
):
    """Union `QCryptoBlockAmendOptions`, since 5.1."""


class QCryptoBlockAmendOptionsLUKS(Struct):
    """Struct `QCryptoBlockAmendOptionsLUKS`, since 5.1. As a branch: `QCryptoBlockAmendOptionsLuksBranch` in
    `QCryptoBlockAmendOptions`.
    """

    state: QCryptoBlockLUKSKeyslotState
    new_secret: str | None = None
    old_secret: str | None = None
    iter_time: int | None = None
    keyslot: int | None = None
    secret: str | None = None


class QCryptoBlockAmendOptionsLuksBranch(QCryptoBlockAmendOptionsLUKS, QCryptoBlockAmendOptions):
    """Branch of `QCryptoBlockAmendOptions` where `format` is `luks`."""

    format: Literal["luks"] = "luks"


class QCryptoBlockCreateOptions(
    QCryptoBlockOptionsBase,
    Union,
    tag="format",
    branches={"qcow": "QCryptoBlockCreateOptionsQcow", "luks": "QCryptoBlockCreateOptionsLuksBranch"},
):
    """Union `QCryptoBlockCreateOptions`, since 2.6."""


class QCryptoBlockOptionsQCow(Struct):
    """Struct `QCryptoBlockOptionsQCow`, since 2.6. As a branch: `BlockdevQcow2EncryptionAes` in
    `BlockdevQcow2Encryption`, `BlockdevQcowEncryptionAes` in `BlockdevQcowEncryption`,
    `QCryptoBlockCreateOptionsQcow` in `QCryptoBlockCreateOptions`.
    """

    key_secret: str | None = None


class QCryptoBlockCreateOptionsQcow(QCryptoBlockOptionsQCow, QCryptoBlockCreateOptions):
    """Branch of `QCryptoBlockCreateOptions` where `format` is `qcow`."""

    format: Literal["qcow"] = "qcow"


class QCryptoBlockOptionsLUKS(Struct):
    """Struct `QCryptoBlockOptionsLUKS`, since 2.6. As a branch: `BlockdevQcow2EncryptionLuks` in
    `BlockdevQcow2Encryption`.
    """

    key_secret: str | None = None


class QCryptoBlockCreateOptionsLUKS(QCryptoBlockOptionsLUKS):
    """Struct `QCryptoBlockCreateOptionsLUKS`, since 2.6. As a branch: `QCryptoBlockCreateOptionsLuksBranch` in
    `QCryptoBlockCreateOptions`.
    """

    cipher_alg: QCryptoCipherAlgo | None = None
    cipher_mode: QCryptoCipherMode | None = None
    ivgen_alg: QCryptoIVGenAlgo | None = None
    ivgen_hash_alg: QCryptoHashAlgo | None = None
    hash_alg: QCryptoHashAlgo | None = None
    iter_time: int | None = None


class QCryptoBlockCreateOptionsLuksBranch(QCryptoBlockCreateOptionsLUKS, QCryptoBlockCreateOptions):
    """Branch of `QCryptoBlockCreateOptions` where `format` is `luks`."""

    format: Literal["luks"] = "luks"


class QCryptoBlockInfoLUKS(Struct):
    """Struct `QCryptoBlockInfoLUKS`, since 2.7. As a branch: `ImageInfoSpecificQCow2EncryptionLuks` in
    `ImageInfoSpecificQCow2Encryption`.
    """

    cipher_alg: QCryptoCipherAlgo
    cipher_mode: QCryptoCipherMode
    ivgen_alg: QCryptoIVGenAlgo
    ivgen_hash_alg: QCryptoHashAlgo | None = None
    hash_alg: QCryptoHashAlgo
    detached_header: bool | None = None  # since 9.0
    payload_offset: int
    master_key_iters: int
    uuid: str
    slots: list[QCryptoBlockInfoLUKSSlot]


class QCryptoBlockInfoLUKSSlot(Struct):
    """Struct `QCryptoBlockInfoLUKSSlot`, since 2.7."""

    active: bool
    key_offset: int
    iters: int | None = None
    stripes: int | None = None


class SecretCommonProperties(ObjectOptions):
    """Struct `SecretCommonProperties`, since 2.6. A base of branches of `ObjectOptions`."""

    format: QCryptoSecretFormat | None = None
    keyid: str | None = None
    iv: str | None = None
    loaded: bool | None = None  # 7.2 only, deprecated


class SecretKeyringProperties(SecretCommonProperties):
    """Struct `SecretKeyringProperties`, since 5.1. Needs CONFIG_SECRET_KEYRING. Branch of `ObjectOptions` where
    `qom-type` is `secret_keyring`.
    """

    qom_type: Literal["secret_keyring"] = "secret_keyring"
    serial: int


class SecretProperties(SecretCommonProperties):
    """Struct `SecretProperties`, since 2.6. Branch of `ObjectOptions` where `qom-type` is `secret`."""

    qom_type: Literal["secret"] = "secret"
    data: str | None = None
    file: str | None = None


class TlsCredsProperties(ObjectOptions):
    """Struct `TlsCredsProperties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `tls-cipher-suites`."""

    verify_peer: bool | None = None
    dir: str | None = None
    endpoint: QCryptoTLSCredsEndpoint | None = None
    priority: str | None = None


class TlsCredsAnonProperties(TlsCredsProperties):
    """Struct `TlsCredsAnonProperties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `tls-creds-anon`."""

    qom_type: Literal["tls-creds-anon"] = "tls-creds-anon"
    loaded: bool | None = None  # 7.2 only, deprecated


class TlsCredsPskProperties(TlsCredsProperties):
    """Struct `TlsCredsPskProperties`, since 3.0. Branch of `ObjectOptions` where `qom-type` is `tls-creds-psk`."""

    qom_type: Literal["tls-creds-psk"] = "tls-creds-psk"
    username: str | None = None
    loaded: bool | None = None  # 7.2 only, deprecated


class TlsCredsX509Properties(TlsCredsProperties):
    """Struct `TlsCredsX509Properties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `tls-creds-x509`."""

    qom_type: Literal["tls-creds-x509"] = "tls-creds-x509"
    sanity_check: bool | None = None
    passwordid: str | None = None
    loaded: bool | None = None  # 7.2 only, deprecated
