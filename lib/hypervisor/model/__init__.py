# SPDX-License-Identifier: BSD-2-Clause
"""Values of the hypervisor interface: instances and devices, states, checks of arguments.

Everything here is frozen, compared by value, and does not access the node. Constructors check that values are well
formed, not that files exist. The values that hypervisors return are in `hvkit.hypervisor.model.reports`.
"""

from hvkit.hypervisor.model.checks import (
    check_instance_name,
    check_integer,
    check_kind,
    check_timeout,
    is_absolute_path,
    is_instance_name,
)
from hvkit.hypervisor.model.devices import Disk, DiskLimits, DiskRate, HotplugDevice, Nic, device_kind
from hvkit.hypervisor.model.instance import Instance
from hvkit.hypervisor.model.states import (
    Capability,
    ConsoleKind,
    DeviceAction,
    DeviceKind,
    InstanceState,
    MediaDrive,
    MigrationState,
    StopCause,
)
from hvkit.hypervisor.model.storage import Backup, DiskCopies

__all__ = [
    "Backup",
    "Capability",
    "ConsoleKind",
    "DeviceAction",
    "DeviceKind",
    "Disk",
    "DiskCopies",
    "DiskLimits",
    "DiskRate",
    "HotplugDevice",
    "Instance",
    "InstanceState",
    "MediaDrive",
    "MigrationState",
    "Nic",
    "StopCause",
    "check_instance_name",
    "check_integer",
    "check_kind",
    "check_timeout",
    "device_kind",
    "is_absolute_path",
    "is_instance_name",
]
