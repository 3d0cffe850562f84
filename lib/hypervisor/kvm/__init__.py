# SPDX-License-Identifier: BSD-2-Clause
"""The KVM hypervisor: instances are QEMU processes that are controlled over QMP."""

from hvkit.hypervisor.kvm.hypervisor import KvmHypervisor

__all__ = ["KvmHypervisor"]
