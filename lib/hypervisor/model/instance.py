# SPDX-License-Identifier: BSD-2-Clause
"""The description of an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.model.checks import (
    check_instance_name,
    is_positive,
    require,
    require_uuid,
    to_dict,
    to_tuple,
    to_uuid,
    tuple_of,
)
from hvkit.hypervisor.model.devices import Disk, Nic


def _require_instance_name(value: object) -> None:
    check_instance_name(value)


@attrs.frozen(kw_only=True)
class Instance:
    """The description of an instance: its name, hardware and hypervisor parameters.

    Attributes:
        name: its name on the node; see `check_instance_name`.
        memory_mib: memory in MiB.
        vcpus: number of vCPUs.
        disks: in the order in which the guest sees them. The guest boots from the first one.
        nics: in the order in which the guest sees them.
        parameters: parameters of the hypervisor that differ from their defaults. They are checked when the instance is
            started, or by `BaseHypervisor.check_parameter_syntax`.
        uuid: the identity of the instance on every node.

    Raises:
        ParameterError: by the constructor, if a member is invalid, or two devices share a uuid, a path, a MAC address
            or an interface name.
    """

    name: str = attrs.field(validator=lambda _owner, _field, value: _require_instance_name(value))
    memory_mib: int = attrs.field(validator=require(is_positive, "an integer number of MiB >= 1"))
    vcpus: int = attrs.field(default=1, validator=require(is_positive, "an integer >= 1"))
    disks: tuple[Disk, ...] = attrs.field(default=(), converter=to_tuple, validator=require(tuple_of(Disk), "disks"))
    nics: tuple[Nic, ...] = attrs.field(default=(), converter=to_tuple, validator=require(tuple_of(Nic), "NICs"))
    parameters: Mapping[str, object] = attrs.field(
        factory=dict,
        converter=to_dict,
        validator=require(lambda value: isinstance(value, dict), "parameters by name"),
        hash=False,
    )
    uuid: UUID = attrs.field(factory=uuid4, converter=to_uuid, validator=require_uuid)

    def __attrs_post_init__(self) -> None:
        self._check_unique("disks", "uuid", [disk.uuid for disk in self.disks])
        self._check_unique("disks", "path", [disk.path for disk in self.disks])
        self._check_unique("nics", "uuid", [nic.uuid for nic in self.nics])
        self._check_unique("nics", "mac", [nic.mac for nic in self.nics])
        self._check_unique("nics", "ifname", [nic.ifname for nic in self.nics if nic.ifname])

    def _check_unique(self, field: str, member: str, values: Sequence[object]) -> None:
        if len(set(values)) < len(values):
            repeated = next(value for value in values if values.count(value) > 1)
            problem = f"two of them have the same {member}: {repeated}"
            raise ParameterError(f"Instance({self.name}).{field}", str(repeated), problem)
