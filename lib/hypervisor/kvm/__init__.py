# SPDX-License-Identifier: BSD-2-Clause
"""The KVM hypervisor: instances are QEMU processes, spoken to over QMP."""

from hvkit.hypervisor.kvm.hypervisor import KvmHypervisor

__all__ = ["KvmHypervisor"]
