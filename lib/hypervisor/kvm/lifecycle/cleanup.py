# SPDX-License-Identifier: BSD-2-Clause
"""Cleanup and purge of stopped instances."""

import contextlib
import os
from collections.abc import Iterator

from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.subject import KvmSubject


class CleanupVerbs(KvmSubject):
    """Removes stopped instances."""

    def cleanup_instance(self, name: str) -> None:
        with self._cleaned_up(name):
            pass

    def purge_instance(self, name: str) -> None:
        with self._cleaned_up(name) as handle:
            handle.paths.remove_state()

    @contextlib.contextmanager
    def _cleaned_up(self, name: str) -> Iterator[InstanceHandle]:
        """Clean up an instance, and hold its lock for the duration of the block if the run directory exists."""
        handle = self._instances.handle(name)
        directory = self._instances.directory
        directory.check()  # first, as lexists() reports a path that may not be accessed as missing
        if not os.path.lexists(directory.path):
            yield handle
            return
        directory.make()
        with handle.locked():
            handle.reap_stopped("cannot be cleaned up")
            yield handle
