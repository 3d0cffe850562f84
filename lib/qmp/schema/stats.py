# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `stats`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from hvkit.qmp.base import Command, Struct, Union

#: Enumeration `StatsProvider`, since 7.1.
StatsProvider = Literal[
    "kvm",
    "cryptodev",  # since 8.0
]

#: Enumeration `StatsTarget`, since 7.1.
StatsTarget = Literal[
    "vm",
    "vcpu",
    "cryptodev",  # since 8.0
]

#: Enumeration `StatsType`, since 7.1.
StatsType = Literal["cumulative", "instant", "peak", "linear-histogram", "log2-histogram"]

#: Enumeration `StatsUnit`, since 7.1.
StatsUnit = Literal["bytes", "seconds", "cycles", "boolean"]

#: Alternate `StatsValue`, since 7.1.
StatsValue: TypeAlias = "int | bool | list[int]"


class Stats(Struct):
    """Struct `Stats`, since 7.1."""

    name: str
    value: StatsValue


class StatsFilter(Union, tag="target", branches={"vcpu": "StatsVCPUFilter"}):
    """Union `StatsFilter`, since 7.1."""

    target: StatsTarget
    providers: list[StatsRequest] | None = None


class StatsVCPUFilter(StatsFilter):
    """Struct `StatsVCPUFilter`, since 7.1. Branch of `StatsFilter` where `target` is `vcpu`."""

    target: Literal["vcpu"] = "vcpu"
    vcpus: list[str] | None = None


class StatsRequest(Struct):
    """Struct `StatsRequest`, since 7.1."""

    provider: StatsProvider
    names: list[str] | None = None


class StatsResult(Struct):
    """Struct `StatsResult`, since 7.1."""

    provider: StatsProvider
    qom_path: str | None = None
    stats: list[Stats]


class StatsSchema(Struct):
    """Struct `StatsSchema`, since 7.1."""

    provider: StatsProvider
    target: StatsTarget
    stats: list[StatsSchemaValue]


class StatsSchemaValue(Struct):
    """Struct `StatsSchemaValue`, since 7.1."""

    name: str
    type: StatsType
    unit: StatsUnit | None = None
    base: int | None = None
    exponent: int
    bucket_size: int | None = None


class QueryStats(Command["list[StatsResult]"], wire_name="query-stats", whole_argument="arguments", kw_only=False):
    """Command `query-stats`, since 7.1. Returns a list of `StatsResult`."""

    arguments: StatsFilter


class QueryStatsSchemas(Command["list[StatsSchema]"], wire_name="query-stats-schemas"):
    """Command `query-stats-schemas`, since 7.1. Returns a list of `StatsSchema`."""

    provider: StatsProvider | None = None
