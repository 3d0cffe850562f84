# SPDX-License-Identifier: BSD-2-Clause
"""The parameter table of the KVM plugin without node checks, and the parsers of structured values.

Each module of this package contains the parameters of one topic.
`hvkit.hypervisor.kvm.host.parameter_checks` adds the node checks.
"""

from typing import Final

from hvkit.hypervisor.kvm.plan.parameters import (
    boot,
    consoles,
    disks,
    display,
    drives,
    machine,
    memory,
    migration,
    nics,
    processors,
    security,
)
from hvkit.hypervisor.kvm.plan.parameters.advice import make_advisors
from hvkit.hypervisor.kvm.plan.parameters.boot import plan_boot_index
from hvkit.hypervisor.kvm.plan.parameters.disks import DISK_DRIVERS, PASSED_THROUGH, SCSI_CONTROLLERS
from hvkit.hypervisor.kvm.plan.parameters.display import (
    DISPLAY_DRIVERS,
    SOUND_DRIVERS,
    USB_DRIVERS,
    parse_usb_device,
)
from hvkit.hypervisor.kvm.plan.parameters.drives import CDROM_DRIVERS, EMPTY, cdrom_type, is_file, is_url
from hvkit.hypervisor.kvm.plan.parameters.machine import parse_extra
from hvkit.hypervisor.kvm.plan.parameters.memory import HUGE_PAGES, parse_host_nodes
from hvkit.hypervisor.kvm.plan.parameters.nics import NIC_DRIVERS, NIC_TYPES
from hvkit.hypervisor.kvm.plan.parameters.processors import CpuSet, parse_cpu_mask
from hvkit.hypervisor.parameters import ParameterTable

__all__ = [
    "CDROM_DRIVERS",
    "DISK_DRIVERS",
    "DISPLAY_DRIVERS",
    "EMPTY",
    "HUGE_PAGES",
    "NIC_DRIVERS",
    "NIC_TYPES",
    "PASSED_THROUGH",
    "SCSI_CONTROLLERS",
    "SOUND_DRIVERS",
    "TABLE",
    "THEMES",
    "USB_DRIVERS",
    "CpuSet",
    "cdrom_type",
    "is_file",
    "is_url",
    "parse_cpu_mask",
    "parse_extra",
    "parse_host_nodes",
    "parse_usb_device",
    "plan_boot_index",
]

#: The modules of parameters, in the order of the documentation.
THEMES: Final = (machine, processors, memory, boot, disks, drives, nics, display, consoles, security, migration)

_PARAMETERS: Final = tuple(parameter for theme in THEMES for parameter in theme.PARAMETERS)

TABLE: Final = ParameterTable(
    _PARAMETERS,
    rules=(*boot.RULES, *disks.RULES, *display.RULES, *drives.RULES, *memory.RULES, *security.RULES, *migration.RULES),
    advisors=make_advisors(_PARAMETERS),
)
