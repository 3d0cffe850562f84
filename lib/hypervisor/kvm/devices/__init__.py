# SPDX-License-Identifier: BSD-2-Clause
"""Changes to the devices, vCPUs and memory of running instances."""

from hvkit.hypervisor.devices import DeviceMethods
from hvkit.hypervisor.kvm.devices.balloon import BalloonVerbs
from hvkit.hypervisor.kvm.devices.hotplug import HotplugVerbs
from hvkit.hypervisor.kvm.devices.limits import DiskLimitVerbs
from hvkit.hypervisor.kvm.devices.media import MediaVerbs
from hvkit.hypervisor.kvm.devices.memory import MemoryVerbs
from hvkit.hypervisor.kvm.devices.processors import VcpuVerbs
from hvkit.hypervisor.kvm.devices.resize import ResizeVerbs


class KvmDevices(
    VcpuVerbs, MemoryVerbs, BalloonVerbs, HotplugVerbs, ResizeVerbs, DiskLimitVerbs, MediaVerbs, DeviceMethods
):
    """All verbs that change devices of running instances."""
