# SPDX-License-Identifier: BSD-2-Clause
"""Direct access to the control monitor of an instance."""

import contextlib
from collections.abc import Iterator

from hvkit.hypervisor.kvm.qemu.monitors import open_monitor
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.qmp import QmpConnection


class MonitorVerbs(KvmSubject):
    """Opens monitors of instances."""

    @contextlib.contextmanager
    def monitor(self, name: str) -> Iterator[QmpConnection]:
        """Connect to the control monitor of an instance; the connection is closed at the end of the ``with`` block.

        No other client can use the control monitor during the block. hvkit itself uses the shared monitor meanwhile.
        An adopted instance may not have one, and is UNRESPONSIVE during the block.
        """
        handle = self._instances.require(name)
        with (
            handle.open_process(handle.load()) as process,
            contextlib.closing(open_monitor(handle.paths.control_socket, process)) as connection,
        ):
            # The caller may change it. Not earlier: a start that marks it as unused holds this monitor until its end.
            handle.mark_balloon_used()
            yield connection
