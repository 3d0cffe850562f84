# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `sockets`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Struct, Union

#: Enumeration `NetworkAddressFamily`, since 2.1.
NetworkAddressFamily = Literal["ipv4", "ipv6", "unix", "vsock", "unknown"]

#: Enumeration `SocketAddressType`, since 2.9.
SocketAddressType = Literal["inet", "unix", "vsock", "fd"]


class FdSocketAddress(Struct):
    """Struct `FdSocketAddress`, 10.0 and later. Until 7.2 `String` stood in its place. As a branch:
    `SocketAddressFd` in `SocketAddress`.
    """

    str_: str


class SocketAddressLegacy(
    Union,
    tag="type",
    branches={
        "inet": "InetSocketAddressWrapper",
        "unix": "UnixSocketAddressWrapper",
        "vsock": "VsockSocketAddressWrapper",
        "fd": "FdSocketAddressWrapper",
    },
):
    """Union `SocketAddressLegacy`, since 1.3."""

    type: SocketAddressType


class InetSocketAddressWrapper(SocketAddressLegacy):
    """Struct `InetSocketAddressWrapper`, since 1.3. Branch of `SocketAddressLegacy` where `type` is `inet`."""

    type: Literal["inet"] = "inet"
    data: InetSocketAddress


class UnixSocketAddressWrapper(SocketAddressLegacy):
    """Struct `UnixSocketAddressWrapper`, since 1.3. Branch of `SocketAddressLegacy` where `type` is `unix`."""

    type: Literal["unix"] = "unix"
    data: UnixSocketAddress


class VsockSocketAddressWrapper(SocketAddressLegacy):
    """Struct `VsockSocketAddressWrapper`, since 2.8. Branch of `SocketAddressLegacy` where `type` is `vsock`."""

    type: Literal["vsock"] = "vsock"
    data: VsockSocketAddress


class FdSocketAddressWrapper(SocketAddressLegacy):
    """Struct `FdSocketAddressWrapper`, 10.0 and later. Until 7.2 `StringWrapper` stood in its place. Branch of
    `SocketAddressLegacy` where `type` is `fd`.
    """

    type: Literal["fd"] = "fd"
    data: FdSocketAddress


class InetSocketAddressBase(Struct):
    """Struct `InetSocketAddressBase`."""

    host: str
    port: str


class InetSocketAddress(InetSocketAddressBase):
    """Struct `InetSocketAddress`, since 1.3. As a branch: `MigrationAddressRdma` in `MigrationAddress`,
    `SocketAddressInet` in `SocketAddress`.
    """

    numeric: bool | None = None
    to: int | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool | None = None
    keep_alive_count: int | None = None  # since 10.1
    keep_alive_idle: int | None = None  # since 10.1
    keep_alive_interval: int | None = None  # since 10.1
    mptcp: bool | None = None


class SocketAddress(
    Union,
    tag="type",
    branches={
        "inet": "SocketAddressInet",
        "unix": "SocketAddressUnix",
        "vsock": "SocketAddressVsock",
        "fd": "SocketAddressFd",
    },
):
    """Union `SocketAddress`, since 2.9."""

    type: SocketAddressType


class SocketAddressInet(InetSocketAddress, SocketAddress):
    """Branch of `SocketAddress` where `type` is `inet`."""

    type: Literal["inet"] = "inet"


class UnixSocketAddress(Struct):
    """Struct `UnixSocketAddress`, since 1.3. As a branch: `SocketAddressUnix` in `SocketAddress`."""

    path: str
    abstract: bool | None = None
    tight: bool | None = None


class SocketAddressUnix(UnixSocketAddress, SocketAddress):
    """Branch of `SocketAddress` where `type` is `unix`."""

    type: Literal["unix"] = "unix"


class VsockSocketAddress(Struct):
    """Struct `VsockSocketAddress`, since 2.8. As a branch: `SocketAddressVsock` in `SocketAddress`."""

    cid: str
    port: str


class SocketAddressVsock(VsockSocketAddress, SocketAddress):
    """Branch of `SocketAddress` where `type` is `vsock`."""

    type: Literal["vsock"] = "vsock"


class SocketAddressFd(FdSocketAddress, SocketAddress):
    """Branch of `SocketAddress` where `type` is `fd`."""

    type: Literal["fd"] = "fd"
