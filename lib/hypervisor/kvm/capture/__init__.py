# SPDX-License-Identifier: BSD-2-Clause
"""Screenshots and memory dumps."""

from hvkit.hypervisor.capture import CaptureMethods
from hvkit.hypervisor.kvm.capture.dump import DumpVerbs
from hvkit.hypervisor.kvm.capture.screenshot import ScreenshotVerbs


class KvmCapture(ScreenshotVerbs, DumpVerbs, CaptureMethods):
    """The capture verbs of the KVM hypervisor."""
