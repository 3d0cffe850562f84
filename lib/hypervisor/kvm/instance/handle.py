# SPDX-License-Identifier: BSD-2-Clause
"""The handle of one instance: its files, lock, persisted state, process and monitors."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import InstanceNotFound, InstanceStateError, RuntimeStateError
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.log import trim_log
from hvkit.hypervisor.kvm.host.nics import take_down_nics
from hvkit.hypervisor.kvm.host.paths import InstancePaths, remove_partial_files, remove_socket
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import read_runtime, write_runtime
from hvkit.hypervisor.kvm.host.tpm import end_tpm
from hvkit.hypervisor.kvm.instance.query import query_info
from hvkit.hypervisor.kvm.instance.state import describe_damage, find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor, is_external, transient_monitors
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.qmp import Command, QmpConnection

#: Seconds that an instance has to answer a status query.
QUERY_S: Final = 2.0


@attrs.frozen
class InstanceHandle:
    """One instance of a run directory. Every operation on an instance takes its handle.

    A handle holds no resources. It may be created at any time, and for any name, whether or not the instance exists.

    Attributes:
        paths: the files of the instance.
        lock_timeout_s: seconds to wait for the lock of the instance before raising InstanceBusy.
    """

    paths: InstancePaths
    lock_timeout_s: float

    @property
    def name(self) -> str:
        """The name of the instance."""
        return self.paths.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the instance. Its log is trimmed first.

        The lock file is removed afterwards if nothing else of the instance is left.

        Raises:
            InstanceBusy: another operation holds the lock for too long.
            RuntimeStateError: the lock file cannot be opened.
        """
        with instance_lock(self.name, self.paths.lock_file, timeout_s=self.lock_timeout_s):
            try:
                trim_log(self.paths.log_file)
                yield
            finally:
                if not os.path.lexists(self.paths.dir):
                    self.paths.remove_lock()

    def load(self) -> Runtime:
        """Return the persisted state.

        Raises:
            InstanceNotFound: there is none.
            RuntimeStateError: it cannot be read.
        """
        runtime = read_runtime(self.paths.runtime_file, self.name)
        if runtime is None:
            raise InstanceNotFound(self.name)
        return runtime

    def load_if_sound(self) -> Runtime | None:
        """Return the persisted state; None if it cannot be read.

        Raises:
            InstanceNotFound: there is none.
        """
        try:
            return self.load()
        except RuntimeStateError:
            return None

    def persist(self, runtime: Runtime) -> None:
        """Replace the persisted state. The caller holds the lock.

        Raises:
            RuntimeStateError: it cannot be written. The old state is unchanged.
        """
        write_runtime(self.paths.runtime_file, runtime)

    def mark_balloon_unused(self) -> None:
        """Record that the balloon of a QEMU that was just started is unused. The caller holds the lock.

        Until `mark_balloon_used`, queries of the state do not query the balloon, which is slow.

        Raises:
            RuntimeStateError: the file cannot be written.
        """
        path = self.paths.balloon_unused_file
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise RuntimeStateError(self.name, str(path), f"cannot be written: {error.strerror}") from error

    def mark_balloon_used(self) -> None:
        """Record that the balloon may be used from now on. Needs no lock.

        Call it before the balloon is changed, and before a caller gets access to a monitor.

        Raises:
            RuntimeStateError: the file cannot be removed.
        """
        path = self.paths.balloon_unused_file
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RuntimeStateError(self.name, str(path), f"cannot be removed: {error.strerror}") from error

    def query(self, *, is_locked: bool = False) -> InstanceInfo:
        """Return the current state of the instance.

        If the instance appears stopped, its state file is read again: another process may have restarted it during the
        query.

        Args:
            is_locked: whether the caller holds the lock, so that no other operation can be running.

        Raises:
            InstanceNotFound: it has no persisted state.
            RuntimeStateError: its persisted state cannot be read.
        """
        runtime = self.load()
        while True:
            info = query_info(runtime, self.paths, timeout_s=QUERY_S, is_locked=is_locked)
            if is_locked or not info.state.is_over:
                return info
            before, runtime = runtime, self.load()
            if runtime == before:
                return info

    def require_alive(self, problem: str) -> None:
        """Check that the instance is RUNNING or PAUSED. The caller holds the lock.

        Args:
            problem: the operation that is not possible in another state.

        Raises:
            InstanceStateError: it is in another state.
        """
        state = self.query(is_locked=True).state
        if not state.is_alive:
            raise InstanceStateError(self.name, state.value, problem)

    def open_process(self, runtime: Runtime) -> Process:
        """Open the process of the instance.

        Raises:
            InstanceStateError: it has no process.
        """
        process = find_process(runtime, self.paths)
        if process is None:
            raise InstanceStateError(self.name, self.query().state.value, "QEMU is not running")
        return process

    @contextlib.contextmanager
    def connected(self, *, timeout_s: float = QUERY_S) -> Iterator[QmpConnection]:
        """Open a monitor of the instance for the duration of the block.

        Args:
            timeout_s: seconds for the control and the shared monitor together to answer.

        Raises:
            InstanceStateError: it has no process.
            ConnectError: neither monitor answers.
        """
        runtime = self.load()
        with self.open_process(runtime) as process:
            monitor = connect_monitor(transient_monitors(runtime, self.paths), process, timeout_s=timeout_s)
            with contextlib.closing(monitor):
                yield monitor

    def execute(self, command: Command[Any]) -> None:
        """Execute one command over a connection of its own.

        Raises:
            InstanceStateError: the instance has no process.
            QmpError: QEMU refuses, or does not answer.
        """
        with self.connected() as monitor:
            monitor.execute(command)

    def reap_stopped(self, problem: str) -> None:
        """Remove a stopped instance: its process, files and network interfaces. The caller holds the lock.

        If there is no such instance, leftover files of its name are removed.

        Args:
            problem: the operation that is not possible if the instance is not stopped.

        Raises:
            InstanceStateError: it is not stopped.
            HypervisorError: something cannot be removed.
        """
        runtime = None
        try:
            runtime = self.load()
            info = self.query(is_locked=True)
        except InstanceNotFound as error:
            # An adoption was interrupted before the state was persisted: hvkit does not manage that QEMU.
            if is_external(self.paths.control_socket):
                self.paths.remove()
                return
            info = describe_damage(self.paths, error)
        except RuntimeStateError as error:
            info = describe_damage(self.paths, error)
        if not info.state.is_over:
            raise InstanceStateError(self.name, info.state.value, problem)
        process = find_process(runtime, self.paths)
        if process is not None:
            with process:
                stop_process(process, self.paths, guest_timeout_s=0)
        end_tpm(self.paths.tpm_dir)
        if runtime is not None:
            take_down_nics(runtime)
            remove_socket(runtime.incoming_socket)
            remove_socket(runtime.copies_target)
            if runtime.backup is not None:
                remove_partial_files(runtime.backup.partial_files)
        self.paths.remove()
