# SPDX-License-Identifier: BSD-2-Clause
"""Remove what is left of stopped instances."""

import os

from hvkit.hypervisor.kvm.subject import KvmSubject


class CleanupVerbs(KvmSubject):
    """Removes stopped instances."""

    def cleanup_instance(self, name: str) -> None:
        handle = self._instances.handle(name)
        directory = self._instances.directory
        directory.check()  # first, as lexists() reports a path that may not be accessed as missing
        if not os.path.lexists(directory.path):
            return
        directory.make()
        with handle.locked():
            handle.reap_stopped("cannot be cleaned up")

    def purge_instance(self, name: str) -> None:
        self.cleanup_instance(name)
        self._instances.handle(name).paths.remove_state()
