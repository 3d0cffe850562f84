# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `rocker`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `RockerPortAutoneg`, since 2.4.
RockerPortAutoneg = Literal["off", "on"]

#: Enumeration `RockerPortDuplex`, since 2.4.
RockerPortDuplex = Literal["half", "full"]


class RockerOfDpaFlow(Struct):
    """Struct `RockerOfDpaFlow`, since 2.4."""

    cookie: int
    hits: int
    key: RockerOfDpaFlowKey
    mask: RockerOfDpaFlowMask
    action: RockerOfDpaFlowAction


class RockerOfDpaFlowAction(Struct):
    """Struct `RockerOfDpaFlowAction`, since 2.4."""

    goto_tbl: int | None = None
    group_id: int | None = None
    tunnel_lport: int | None = None
    vlan_id: int | None = None
    new_vlan_id: int | None = None
    out_pport: int | None = None


class RockerOfDpaFlowKey(Struct):
    """Struct `RockerOfDpaFlowKey`, since 2.4."""

    priority: int
    tbl_id: int
    in_pport: int | None = None
    tunnel_id: int | None = None
    vlan_id: int | None = None
    eth_type: int | None = None
    eth_src: str | None = None
    eth_dst: str | None = None
    ip_proto: int | None = None
    ip_tos: int | None = None
    ip_dst: str | None = None


class RockerOfDpaFlowMask(Struct):
    """Struct `RockerOfDpaFlowMask`, since 2.4."""

    in_pport: int | None = None
    tunnel_id: int | None = None
    vlan_id: int | None = None
    eth_src: str | None = None
    eth_dst: str | None = None
    ip_proto: int | None = None
    ip_tos: int | None = None


class RockerOfDpaGroup(Struct):
    """Struct `RockerOfDpaGroup`, since 2.4."""

    id: int
    type: int
    vlan_id: int | None = None
    pport: int | None = None
    index: int | None = None
    out_pport: int | None = None
    group_id: int | None = None
    set_vlan_id: int | None = None
    pop_vlan: int | None = None
    group_ids: list[int] | None = None
    set_eth_src: str | None = None
    set_eth_dst: str | None = None
    ttl_check: int | None = None


class RockerPort(Struct):
    """Struct `RockerPort`, since 2.4."""

    name: str
    enabled: bool
    link_up: bool
    speed: int
    duplex: RockerPortDuplex
    autoneg: RockerPortAutoneg


class RockerSwitch(Struct):
    """Struct `RockerSwitch`, since 2.4."""

    name: str
    id: int
    ports: int


class QueryRocker(Command["RockerSwitch"], wire_name="query-rocker"):
    """Command `query-rocker`, since 2.4. Returns `RockerSwitch`."""

    name: str


class QueryRockerOfDpaFlows(Command["list[RockerOfDpaFlow]"], wire_name="query-rocker-of-dpa-flows"):
    """Command `query-rocker-of-dpa-flows`, since 2.4. Returns a list of `RockerOfDpaFlow`."""

    name: str
    tbl_id: int | None = None


class QueryRockerOfDpaGroups(Command["list[RockerOfDpaGroup]"], wire_name="query-rocker-of-dpa-groups"):
    """Command `query-rocker-of-dpa-groups`, since 2.4. Returns a list of `RockerOfDpaGroup`."""

    name: str
    type: int | None = None


class QueryRockerPorts(Command["list[RockerPort]"], wire_name="query-rocker-ports"):
    """Command `query-rocker-ports`, since 2.4. Returns a list of `RockerPort`."""

    name: str
