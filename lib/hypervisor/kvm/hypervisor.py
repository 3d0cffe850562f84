# SPDX-License-Identifier: BSD-2-Clause
"""The KVM hypervisor: what `BaseHypervisor` promises, put together from the modules beside this one."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.base import BaseHypervisor
from hvkit.hypervisor.errors import InstanceStateError, ParameterError, ProgramError
from hvkit.hypervisor.kvm.adoption.verbs import KvmAdoption
from hvkit.hypervisor.kvm.capture.verbs import KvmCapture
from hvkit.hypervisor.kvm.devices import KvmDevices
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.host.probe import probe_capabilities
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process, stop_remembered
from hvkit.hypervisor.kvm.instance.watch import KvmWatch
from hvkit.hypervisor.kvm.lifecycle.console import describe_console
from hvkit.hypervisor.kvm.lifecycle.display_console import find_display
from hvkit.hypervisor.kvm.lifecycle.reboot import reset_instance
from hvkit.hypervisor.kvm.lifecycle.start import bring_up, prepare
from hvkit.hypervisor.kvm.lifecycle.validation import check_program
from hvkit.hypervisor.kvm.migration import KvmMigration
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.monitors import open_monitor
from hvkit.hypervisor.kvm.storage import KvmStorage
from hvkit.hypervisor.model import Capability, Instance, check_kind, check_timeout
from hvkit.hypervisor.model.reports import Console, InstanceInfo, NodeInfo
from hvkit.hypervisor.node import read_node_info
from hvkit.hypervisor.watch import InstanceWatch
from hvkit.qmp import QmpConnection

#: Seconds that a guest has to shut down when the caller does not say.
_GUEST_S: Final = 60.0


class KvmHypervisor(KvmAdoption, KvmCapture, KvmDevices, KvmMigration, KvmStorage, BaseHypervisor):
    """Runs instances as QEMU processes on this node, with KVM where that works.

    What belongs to an instance is in `run_dir`, as `hvkit.hypervisor.kvm.host.paths` says. An instance whose guest
    powered off is SHUTDOWN and still has a process, which holds its disks until `stop_instance`, `cleanup_instance` or
    `start_instance` ends it.
    """

    PARAMETERS: ClassVar = TABLE
    CAPABILITIES: ClassVar = frozenset(
        {
            Capability.ADOPT,
            Capability.BACKUP,
            Capability.BALLOON,
            Capability.CONSOLE,
            Capability.DUMP,
            Capability.HOTPLUG,
            Capability.LIMIT_DISK,
            Capability.MEDIA,
            Capability.MEMORY,
            Capability.MIGRATION,
            Capability.MONITOR,
            Capability.RESIZE_DISK,
            Capability.SCREENSHOT,
            Capability.SNAPSHOT,
            Capability.VCPUS,
        }
    )

    def __init__(
        self,
        *,
        run_dir: str | os.PathLike[str],
        state_dir: str | os.PathLike[str] | None = None,
        lock_timeout_s: float = 10.0,
        kvm_path: str | None = None,
    ) -> None:
        """Use what is, or will be, in a directory. Nothing is touched before an instance is started.

        Args:
            run_dir: where instances are remembered. It is made when first needed, for this user only (mode 0700).
            state_dir: where what outlives instances is kept, such as the variables of their firmware: a directory that
                outlives the node's reboot, and is ours alone. None: ``state`` in `run_dir`.
            lock_timeout_s: seconds to wait for whoever is working on an instance before raising InstanceBusy.
            kvm_path: the QEMU of instances whose parameters name none; None for the default of that parameter.

        Raises:
            ParameterError: the path is too long for the sockets in it.
        """
        super().__init__(run_dir=run_dir)
        self._instances = Instances(
            RunDirectory(self.run_dir, None if state_dir is None else Path(state_dir)), lock_timeout_s
        )
        self._kvm_path = str(TABLE["kvm_path"].default) if kvm_path is None else kvm_path

    # ---- the life of an instance

    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        """Start an instance, as `BaseHypervisor.start_instance` says.

        A start that somebody died over leaves an instance that is CRASHED, even if its process is there: its guest
        never ran.

        Raises:
            ParameterError: another instance here, which is not over, has the same uuid.
        """
        check_kind(instance, Instance)
        handle = self._instances.handle(instance.name)
        instance = self._with_program(instance)
        preparation = prepare(instance, cache_dir=self._instances.find_cache_dir())
        self._instances.check_no_internal_paths(instance)
        self._instances.directory.make()
        with handle.locked():
            self._instances.check_uuid_unique(instance)
            handle.reap_stopped("cannot be started")
            reserved = self._instances.reserving(instance, preparation.parameters)
            bring_up(preparation, handle, reserved, start_paused=start_paused)

    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        """Stop an instance, as `BaseHypervisor.stop_instance` says.

        The power button is pressed again every few seconds, because a guest that boots misses it. When the time is
        over, or with `force` at once, QEMU is told to quit; a QEMU that does not is sent SIGTERM and SIGKILL. A guest
        whose processors stand still cannot obey and is not waited for. An instance of which nothing sensible is
        remembered is stopped all the same.

        Raises:
            InstanceStateError: not even SIGKILL ends its process.
        """
        timeout = check_timeout(timeout)
        handle = self._instances.require(name)
        paths = handle.paths
        guest_timeout_s = 0.0 if force else _GUEST_S if timeout is None else timeout
        with handle.locked():
            runtime = handle.load_if_sound()
            process = find_process(runtime, paths)
            if process is None:
                return
            with process:
                if runtime is None:
                    stop_process(process, paths, guest_timeout_s=guest_timeout_s, press=not retry)
                else:
                    stop_remembered(runtime, process, paths, guest_timeout_s=guest_timeout_s, press=not retry)
            paths.remove_traces()

    def reboot_instance(self, name: str) -> None:
        """Reset an instance, as `BaseHypervisor.reboot_instance` says: as its reset button would, unasked.

        What the guest did not write to its disks is lost. The process, its monitors and taps stay.
        """
        reset_instance(self._instances.require(name))

    def cleanup_instance(self, name: str) -> None:
        """Forget an instance that is over, as `BaseHypervisor.cleanup_instance` says."""
        handle = self._instances.handle(name)
        self._instances.directory.check()  # what may not be looked at is not there either, for lexists
        if not os.path.lexists(self.run_dir):
            return
        self._instances.directory.make()
        with handle.locked():
            handle.reap_stopped("cannot be cleaned up")

    def purge_instance(self, name: str) -> None:
        """Forget an instance for good, as `BaseHypervisor.purge_instance` says."""
        self.cleanup_instance(name)
        self._instances.directory.instance(name).remove_state()

    # ---- what there is

    def list_instances(self) -> list[str]:
        """Return the names of all instances known here, sorted. Asks no instance anything.

        Raises:
            ParameterError: `run_dir` is not ours alone.
        """
        return self._instances.directory.names()

    def get_instance_info(self, name: str) -> InstanceInfo:
        """Return what an instance is doing, as `BaseHypervisor.get_instance_info` says; takes no lock."""
        return self._instances.require(name).query()

    def get_all_instances_info(self) -> list[InstanceInfo]:
        """Return what every instance is doing, as `BaseHypervisor.get_all_instances_info` says.

        All are asked before any is waited for; those that do not answer are waited for together, two seconds at most.
        Of the instances nothing is changed; logs of QEMUs that have grown too long are cut.
        """
        return self._instances.query_all()

    def watch(self) -> InstanceWatch:
        """Return what looks at all instances again and again, as `BaseHypervisor.watching` says.

        It keeps a connection to each instance, on a monitor that nobody else uses. Only one watch at a time has these,
        among all processes that use this `run_dir`: another one connects anew for each look, as
        `get_all_instances_info` does, until the first is closed or its process ends.
        """
        return KvmWatch(self._instances)

    def get_node_info(self) -> NodeInfo:
        """Return what this node has. Changes nothing."""
        try:
            version = self._probe(self._kvm_path).version
        except ProgramError:
            version = None
        return read_node_info(hypervisor_version=version)

    def verify(self) -> list[str]:
        """Return what keeps this hypervisor from working on this node, a sentence each. Changes nothing."""
        problems: list[str] = []
        with _noting(problems):
            self._probe(self._kvm_path)
        with _noting(problems):
            problems += [f"{stray}: no instance can have that name" for stray in self._instances.directory.strays()]
            for name in self._instances.directory.names():
                with _noting(problems):
                    self._instances.handle(name).load()
        return problems

    # ---- parameters

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on this node, also against what the QEMU program they name can do. Changes nothing."""
        filled = TABLE.validate({"kvm_path": self._kvm_path, **parameters})
        binary = filled["kvm_path"]
        try:
            capabilities = self._probe(binary)
        except ProgramError as error:
            raise ParameterError("kvm_path", binary, str(error)) from error
        check_program(filled, capabilities)

    # ---- CONSOLE, MONITOR

    def get_instance_console(self, name: str) -> Console:
        """Return how to reach an instance's serial console, or else its VNC or SPICE. Changes nothing."""
        handle = self._instances.require(name)
        runtime = handle.load()
        return describe_console(runtime, handle.paths) if runtime.has_serial else find_display(handle)

    @contextlib.contextmanager
    def monitor(self, name: str) -> Iterator[QmpConnection]:
        """Open the control monitor of an instance, as `BaseHypervisor.monitor` says.

        Nobody else gets this monitor meanwhile; the hypervisor itself goes on with the watchers' monitor, which an
        adopted instance may not have.
        """
        handle = self._instances.require(name)
        runtime = handle.load()
        process = find_process(runtime, handle.paths)
        if process is None:
            raise InstanceStateError(name, handle.query().state.value, "it has no process, and so no monitor")
        with process, contextlib.closing(open_monitor(handle.paths.control_socket, process)) as connection:
            yield connection

    def _probe(self, binary: str) -> Capabilities:
        """Return what a QEMU program can do, without keeping it for others: they would find something changed."""
        return probe_capabilities(binary, cache_dir=self._instances.find_cache_dir(), keeps=False)


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Put down what goes wrong, instead of failing."""
    try:
        yield
    except HypervisorError as error:
        problems.append(str(error))
