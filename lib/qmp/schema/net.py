# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `net`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Event, Struct, Union, wire

if TYPE_CHECKING:
    from hvkit.qmp.schema.sockets import SocketAddress

#: Enumeration `AFXDPMode`, since 8.2. Needs CONFIG_AF_XDP.
AFXDPMode = Literal["skb", "native"]

#: Enumeration `NetClientDriver`, since 2.7.
NetClientDriver = Literal[
    "l2tpv3",
    "vhost-vdpa",
    "vmnet-host",
    "vmnet-shared",
    "vmnet-bridged",
    "stream",
    "dgram",
    "af-xdp",  # since 8.2
    "passt",  # since 10.1
    "none",
    "nic",
    "user",
    "tap",
    "socket",
    "vde",
    "bridge",
    "hubport",
    "netmap",
    "vhost-user",
]

#: Enumeration `RxState`, since 1.6.
RxState = Literal["normal", "none", "all"]


class AnnounceParameters(Struct):
    """Struct `AnnounceParameters`, since 4.0."""

    initial: int
    max: int
    rounds: int
    step: int
    interfaces: list[str] | None = None
    id: str | None = None


class Netdev(
    Union,
    tag="type",
    branches={
        "nic": "NetLegacyNicOptions",
        "passt": "NetdevPasstOptions",
        "user": "NetdevUserOptions",
        "tap": "NetdevTapOptions",
        "l2tpv3": "NetdevL2TPv3Options",
        "socket": "NetdevSocketOptions",
        "stream": "NetdevStreamOptions",
        "dgram": "NetdevDgramOptions",
        "vde": "NetdevVdeOptions",
        "bridge": "NetdevBridgeOptions",
        "hubport": "NetdevHubPortOptions",
        "netmap": "NetdevNetmapOptions",
        "af-xdp": "NetdevAFXDPOptions",
        "vhost-user": "NetdevVhostUserOptions",
        "vhost-vdpa": "NetdevVhostVDPAOptions",
        "vmnet-host": "NetdevVmnetHostOptions",
        "vmnet-shared": "NetdevVmnetSharedOptions",
        "vmnet-bridged": "NetdevVmnetBridgedOptions",
    },
):
    """Union `Netdev`, since 1.2."""

    id: str
    type: NetClientDriver


class NetdevPasstOptions(Netdev):
    """Struct `NetdevPasstOptions`, since 10.1. Needs CONFIG_PASST. Branch of `Netdev` where `type` is `passt`."""

    type: Literal["passt"] = "passt"
    path: str | None = None
    quiet: bool | None = None
    vhost_user: bool | None = None
    mtu: int | None = None
    address: str | None = None
    netmask: str | None = None
    mac: str | None = None
    gateway: str | None = None
    interface: str | None = None
    outbound: str | None = None
    outbound_if4: str | None = None
    outbound_if6: str | None = None
    dns: str | None = None
    search: list[PasstSearch] | None = None
    fqdn: str | None = None
    dhcp_dns: bool | None = None
    dhcp_search: bool | None = None
    map_host_loopback: str | None = None
    map_guest_addr: str | None = None
    dns_forward: str | None = None
    dns_host: str | None = None
    tcp: bool | None = None
    udp: bool | None = None
    icmp: bool | None = None
    dhcp: bool | None = None
    ndp: bool | None = None
    dhcpv6: bool | None = None
    ra: bool | None = None
    freebind: bool | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    tcp_ports: list[PasstPortForward] | None = None
    udp_ports: list[PasstPortForward] | None = None
    param: list[PasstParameter] | None = None


class NetdevUserOptions(Netdev):
    """Struct `NetdevUserOptions`, since 1.2. Branch of `Netdev` where `type` is `user`."""

    type: Literal["user"] = "user"
    hostname: str | None = None
    restrict: bool | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    ip: str | None = None
    net: str | None = None
    host: str | None = None
    tftp: str | None = None
    bootfile: str | None = None
    dhcpstart: str | None = None
    dns: str | None = None
    dnssearch: list[NetdevUserDomainSuffix] | None = None
    domainname: str | None = None
    ipv6_prefix: str | None = None
    ipv6_prefixlen: int | None = None
    ipv6_host: str | None = None
    ipv6_dns: str | None = None
    smb: str | None = None
    smbserver: str | None = None
    hostfwd: list[NetdevUserHostForward] | None = None
    guestfwd: list[NetdevUserGuestForward] | None = None
    tftp_server_name: str | None = None


class NetdevTapOptions(Netdev):
    """Struct `NetdevTapOptions`, since 1.2. Branch of `Netdev` where `type` is `tap`."""

    type: Literal["tap"] = "tap"
    ifname: str | None = None
    fd: str | None = None
    fds: str | None = None
    script: str | None = None
    downscript: str | None = None
    br: str | None = None
    helper: str | None = None
    sndbuf: int | None = None
    vnet_hdr: bool | None = wire("vnet_hdr", default=None)
    vhost: bool | None = None
    vhostfd: str | None = None
    vhostfds: str | None = None
    vhostforce: bool | None = None
    queues: int | None = None
    poll_us: int | None = None


class NetdevL2TPv3Options(Netdev):
    """Struct `NetdevL2TPv3Options`, since 2.1. Branch of `Netdev` where `type` is `l2tpv3`."""

    type: Literal["l2tpv3"] = "l2tpv3"
    src: str
    dst: str
    srcport: str | None = None
    dstport: str | None = None
    ipv6: bool | None = None
    udp: bool | None = None
    cookie64: bool | None = None
    counter: bool | None = None
    pincounter: bool | None = None
    txcookie: int | None = None
    rxcookie: int | None = None
    txsession: int
    rxsession: int | None = None
    offset: int | None = None


class NetdevSocketOptions(Netdev):
    """Struct `NetdevSocketOptions`, since 1.2. Branch of `Netdev` where `type` is `socket`."""

    type: Literal["socket"] = "socket"
    fd: str | None = None
    listen: str | None = None
    connect: str | None = None
    mcast: str | None = None
    localaddr: str | None = None
    udp: str | None = None


class NetdevStreamOptions(Netdev):
    """Struct `NetdevStreamOptions`, since 7.2. Branch of `Netdev` where `type` is `stream`."""

    type: Literal["stream"] = "stream"
    addr: SocketAddress
    server: bool | None = None
    reconnect_ms: int | None = None  # since 9.2
    reconnect: int | None = None  # 10.0 only, deprecated


class NetdevDgramOptions(Netdev):
    """Struct `NetdevDgramOptions`, since 7.2. Branch of `Netdev` where `type` is `dgram`."""

    type: Literal["dgram"] = "dgram"
    remote: SocketAddress | None = None
    local: SocketAddress | None = None


class NetdevVdeOptions(Netdev):
    """Struct `NetdevVdeOptions`, since 1.2. Branch of `Netdev` where `type` is `vde`."""

    type: Literal["vde"] = "vde"
    sock: str | None = None
    port: int | None = None
    group: str | None = None
    mode: int | None = None


class NetdevBridgeOptions(Netdev):
    """Struct `NetdevBridgeOptions`, since 1.2. Branch of `Netdev` where `type` is `bridge`."""

    type: Literal["bridge"] = "bridge"
    br: str | None = None
    helper: str | None = None


class NetdevHubPortOptions(Netdev):
    """Struct `NetdevHubPortOptions`, since 1.2. Branch of `Netdev` where `type` is `hubport`."""

    type: Literal["hubport"] = "hubport"
    hubid: int
    netdev: str | None = None


class NetdevNetmapOptions(Netdev):
    """Struct `NetdevNetmapOptions`, since 2.0. Branch of `Netdev` where `type` is `netmap`."""

    type: Literal["netmap"] = "netmap"
    ifname: str
    devname: str | None = None


class NetdevAFXDPOptions(Netdev):
    """Struct `NetdevAFXDPOptions`, since 8.2. Needs CONFIG_AF_XDP. Branch of `Netdev` where `type` is `af-xdp`."""

    type: Literal["af-xdp"] = "af-xdp"
    ifname: str
    mode: AFXDPMode | None = None
    force_copy: bool | None = None
    queues: int | None = None
    start_queue: int | None = None
    inhibit: bool | None = None
    sock_fds: str | None = None
    map_path: str | None = None  # since 10.1
    map_start_index: int | None = None  # since 10.1


class NetdevVhostUserOptions(Netdev):
    """Struct `NetdevVhostUserOptions`, since 2.1. Branch of `Netdev` where `type` is `vhost-user`."""

    type: Literal["vhost-user"] = "vhost-user"
    chardev: str
    vhostforce: bool | None = None
    queues: int | None = None


class NetdevVhostVDPAOptions(Netdev):
    """Struct `NetdevVhostVDPAOptions`, since 5.1. Branch of `Netdev` where `type` is `vhost-vdpa`."""

    type: Literal["vhost-vdpa"] = "vhost-vdpa"
    vhostdev: str | None = None
    vhostfd: str | None = None
    queues: int | None = None
    x_svq: bool | None = None  # unstable


class NetdevVmnetHostOptions(Netdev):
    """Struct `NetdevVmnetHostOptions`, since 7.1. Needs CONFIG_VMNET. Branch of `Netdev` where `type` is
    `vmnet-host`.
    """

    type: Literal["vmnet-host"] = "vmnet-host"
    start_address: str | None = None
    end_address: str | None = None
    subnet_mask: str | None = None
    isolated: bool | None = None
    net_uuid: str | None = None


class NetdevVmnetSharedOptions(Netdev):
    """Struct `NetdevVmnetSharedOptions`, since 7.1. Needs CONFIG_VMNET. Branch of `Netdev` where `type` is
    `vmnet-shared`.
    """

    type: Literal["vmnet-shared"] = "vmnet-shared"
    start_address: str | None = None
    end_address: str | None = None
    subnet_mask: str | None = None
    isolated: bool | None = None
    nat66_prefix: str | None = None


class NetdevVmnetBridgedOptions(Netdev):
    """Struct `NetdevVmnetBridgedOptions`, since 7.1. Needs CONFIG_VMNET. Branch of `Netdev` where `type` is
    `vmnet-bridged`.
    """

    type: Literal["vmnet-bridged"] = "vmnet-bridged"
    ifname: str
    isolated: bool | None = None


class NetLegacyNicOptions(Netdev):
    """Struct `NetLegacyNicOptions`, since 1.2. Branch of `Netdev` where `type` is `nic`."""

    type: Literal["nic"] = "nic"
    netdev: str | None = None
    macaddr: str | None = None
    model: str | None = None
    addr: str | None = None
    vectors: int | None = None


class NetdevUserDomainSuffix(Struct):
    """Struct `NetdevUserDomainSuffix`, 11.1 and later. Until 10.0 `String` stood in its place."""

    str_: str


class NetdevUserGuestForward(Struct):
    """Struct `NetdevUserGuestForward`, 11.1 and later. Until 10.0 `String` stood in its place."""

    str_: str


class NetdevUserHostForward(Struct):
    """Struct `NetdevUserHostForward`, 11.1 and later. Until 10.0 `String` stood in its place."""

    str_: str


class PasstParameter(Struct):
    """Struct `PasstParameter`, since 10.1."""

    str_: str


class PasstPortForward(Struct):
    """Struct `PasstPortForward`, since 10.1."""

    str_: str


class PasstSearch(Struct):
    """Struct `PasstSearch`, since 10.1."""

    str_: str


class RxFilterInfo(Struct):
    """Struct `RxFilterInfo`, since 1.6."""

    name: str
    promiscuous: bool
    multicast: RxState
    unicast: RxState
    vlan: RxState
    broadcast_allowed: bool
    multicast_overflow: bool
    unicast_overflow: bool
    main_mac: str
    vlan_table: list[int]
    unicast_table: list[str]
    multicast_table: list[str]


class FailoverNegotiatedEvent(Event, wire_name="FAILOVER_NEGOTIATED"):
    """Event `FAILOVER_NEGOTIATED`, since 4.2."""

    device_id: str


class NetdevStreamConnectedEvent(Event, wire_name="NETDEV_STREAM_CONNECTED"):
    """Event `NETDEV_STREAM_CONNECTED`, since 7.2."""

    netdev_id: str
    addr: SocketAddress


class NetdevStreamDisconnectedEvent(Event, wire_name="NETDEV_STREAM_DISCONNECTED"):
    """Event `NETDEV_STREAM_DISCONNECTED`, since 7.2."""

    netdev_id: str


class NetdevVhostUserConnectedEvent(Event, wire_name="NETDEV_VHOST_USER_CONNECTED"):
    """Event `NETDEV_VHOST_USER_CONNECTED`, since 10.0."""

    netdev_id: str
    chardev_id: str


class NetdevVhostUserDisconnectedEvent(Event, wire_name="NETDEV_VHOST_USER_DISCONNECTED"):
    """Event `NETDEV_VHOST_USER_DISCONNECTED`, since 10.0."""

    netdev_id: str


class NicRxFilterChangedEvent(Event, wire_name="NIC_RX_FILTER_CHANGED"):
    """Event `NIC_RX_FILTER_CHANGED`, since 1.6."""

    name: str | None = None
    path: str


class AnnounceSelf(AnnounceParameters, Command[None], wire_name="announce-self"):
    """Command `announce-self`, since 4.0."""


class NetdevAdd(Command[None], wire_name="netdev_add", whole_argument="arguments", kw_only=False):
    """Command `netdev_add`, since 0.14. Allowed before the machine is made."""

    arguments: Netdev


class NetdevDel(Command[None], wire_name="netdev_del"):
    """Command `netdev_del`, since 0.14. Allowed before the machine is made."""

    id: str


class QueryRxFilter(Command["list[RxFilterInfo]"], wire_name="query-rx-filter"):
    """Command `query-rx-filter`, since 1.6. Returns a list of `RxFilterInfo`."""

    name: str | None = None


class SetLink(Command[None], wire_name="set_link"):
    """Command `set_link`, since 0.14."""

    name: str
    up: bool
