# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `yank`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Union

#: Enumeration `YankInstanceType`, since 6.0.
YankInstanceType = Literal["block-node", "chardev", "migration"]


class YankInstance(
    Union,
    tag="type",
    branches={"block-node": "YankInstanceBlockNode", "chardev": "YankInstanceChardev"},
):
    """Union `YankInstance`, since 6.0."""

    type: YankInstanceType


class YankInstanceBlockNode(YankInstance):
    """Struct `YankInstanceBlockNode`, since 6.0. Branch of `YankInstance` where `type` is `block-node`."""

    type: Literal["block-node"] = "block-node"
    node_name: str


class YankInstanceChardev(YankInstance):
    """Struct `YankInstanceChardev`, since 6.0. Branch of `YankInstance` where `type` is `chardev`."""

    type: Literal["chardev"] = "chardev"
    id: str


class QueryYank(Command["list[YankInstance]"], wire_name="query-yank", out_of_band=True):
    """Command `query-yank`, since 6.0. Returns a list of `YankInstance`."""


class Yank(Command[None], wire_name="yank", out_of_band=True):
    """Command `yank`, since 6.0."""

    instances: list[YankInstance]
