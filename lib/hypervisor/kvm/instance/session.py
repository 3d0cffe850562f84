# SPDX-License-Identifier: BSD-2-Clause
"""The session of an operation on one instance: its handle, its persisted state, and an open monitor."""

import attrs

from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.qmp import QmpConnection


@attrs.define
class InstanceSession:
    """A locked instance that an operation changes.

    Attributes:
        handle: the instance.
        runtime: its current persisted state.
        monitor: its monitor.
    """

    handle: InstanceHandle
    runtime: Runtime
    monitor: QmpConnection

    def persist(self, runtime: Runtime) -> None:
        """Replace the persisted state.

        Raises:
            RuntimeStateError: it cannot be written. The old state is still there.
        """
        self.handle.persist(runtime)
        self.runtime = runtime
