# SPDX-License-Identifier: BSD-2-Clause
"""The instances of one run directory: find them, hold them, look at them, talk to them.

What every act on an instance begins with. An act module (stop, hotplug, migration ...) takes an `Instances` and does
one thing with it; none of them needs the hypervisor object.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceNotFound, InstanceStateError, ParameterError, RuntimeStateError
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.log import cut_log
from hvkit.hypervisor.kvm.host.nics import take_down_nics
from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory, remove_partial_files, remove_socket
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Runtime, RuntimeCache, read_runtime
from hvkit.hypervisor.kvm.host.tpm import end_tpm
from hvkit.hypervisor.kvm.instance.state import (
    Asking,
    AskingInPassing,
    describe_damage,
    find_process,
    look,
    look_at_all,
)
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.plan.accounts import choose_account, find_account
from hvkit.hypervisor.kvm.plan.confinement import Account, parse_account_pool
from hvkit.hypervisor.kvm.plan.parameters import parse_extra
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor, is_elsewhere, monitors_in_passing
from hvkit.hypervisor.model import Instance
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.qmp import Command, QmpConnection

#: Seconds that an instance has to say what it is doing.
LOOK_S: Final = 2.0


@attrs.frozen
class Instances:
    """The instances of a run directory.

    Attributes:
        directory: where they are remembered.
        lock_timeout_s: seconds to wait for whoever is working on one before raising InstanceBusy.
    """

    directory: RunDirectory
    lock_timeout_s: float
    _cache: RuntimeCache = attrs.field(factory=RuntimeCache, init=False, repr=False, eq=False)

    def cache_dir(self) -> Path | None:
        """Return where what QEMU programs can do is kept; nowhere unless the run directory is there, and ours."""
        try:
            self.directory.check()
        except ParameterError:
            return None
        return self.directory.path / "cache" if os.path.isdir(self.directory.path) else None

    def refuse_twin(self, instance: Instance) -> None:
        """Make sure that no other instance with the same uuid is there.

        Raises:
            ParameterError: one is, and not over.
        """
        for name in self.directory.names():
            with contextlib.suppress(InstanceNotFound, RuntimeStateError):
                paths = self.directory.instance(name)
                if name == instance.name or self.recall(paths).instance.uuid != instance.uuid:
                    continue
                state = self.look(paths).state
                if not state.is_over:
                    problem = f"instance {name} has the same, and is {state.value}"
                    raise ParameterError(f"Instance({instance.name}).uuid", str(instance.uuid), problem)

    def refuse_trespass(self, instance: Instance) -> None:
        """Make sure that the extra arguments of an instance name nothing that is ours, or another instance's.

        Raises:
            ParameterError: they do, or are none.
        """
        self.directory.refuse_trespass("kvm_extra", parse_extra(str(instance.parameters.get("kvm_extra", ""))))

    @contextlib.contextmanager
    def reserving(self, instance: Instance, parameters: Mapping[str, Any]) -> Iterator[Account | None]:
        """Find the account that an instance is to run as, and keep that and its uuid from others.

        By the end of the block, which is short, both have to be remembered: then others see them.

        Args:
            instance: the instance.
            parameters: its parameters, filled and checked.

        Raises:
            ParameterError: another instance has the uuid, there is no such user, or the pool is used up.
            InstanceBusy: others are reserving for too long.
        """
        with instance_lock(instance.name, self.directory.reserving_lock_file, timeout_s=self.lock_timeout_s):
            self.refuse_twin(instance)
            match parameters["security_model"]:
                case "user":
                    yield find_account(parameters["security_domain"])
                case "pool":
                    pool = parse_account_pool(parameters["security_pool"])
                    yield choose_account(pool, self._taken_uids(instance.name))
                case _:
                    yield None

    def _taken_uids(self, name: str) -> set[int]:
        """Return the accounts that instances other than one have."""
        taken = set()
        for other in self.directory.names():
            with contextlib.suppress(InstanceNotFound, RuntimeStateError):
                account = self.recall(self.directory.instance(other)).account
                if other != name and account is not None:
                    taken.add(account.uid)
        return taken

    @contextlib.contextmanager
    def locked(self, paths: InstancePaths) -> Iterator[None]:
        """Hold the lock of an instance, and remove the lock file if nothing else of the instance is left."""
        with instance_lock(paths.name, paths.lock_file, timeout_s=self.lock_timeout_s):
            try:
                yield
            finally:
                if not os.path.lexists(paths.dir):
                    paths.remove_lock()

    def known(self, name: str) -> InstancePaths:
        """Return the files of an instance that something is remembered of.

        Raises:
            ParameterError: it is no name, or `run_dir` is not ours alone.
            InstanceNotFound: nothing is.
        """
        paths = self.directory.instance(name)
        self.directory.check()
        if not os.path.lexists(paths.runtime_file):
            raise InstanceNotFound(name)
        return paths

    def ours(self, name: str) -> InstancePaths:
        """Return the files of an instance that we started ourselves, for acts that take what only we know of it.

        Raises:
            ParameterError, InstanceNotFound: as for `known`.
            RuntimeStateError: what is remembered of it cannot be read.
            InstanceStateError: it was adopted.
        """
        paths = self.known(name)
        if self.recall(paths).adoption is not None:
            problem = "it was adopted: how its machine is made is not known here"
            raise InstanceStateError(name, self.look(paths).state.value, problem)
        return paths

    def recall(self, paths: InstancePaths) -> Runtime:
        """Return what is remembered of an instance.

        Raises:
            InstanceNotFound: nothing is.
            RuntimeStateError: it cannot be read.
        """
        runtime = read_runtime(paths.runtime_file, paths.name)
        if runtime is None:
            raise InstanceNotFound(paths.name)
        return runtime

    def read_if_sound(self, paths: InstancePaths) -> Runtime | None:
        """Return what is remembered of an instance, None where that cannot be read.

        Raises:
            InstanceNotFound: nothing is.
        """
        try:
            return self.recall(paths)
        except RuntimeStateError:
            return None

    def look(self, paths: InstancePaths, *, is_ours: bool = False) -> InstanceInfo:
        """Look at an instance. A sight that is over is only believed if nobody changed the instance meanwhile."""
        runtime = self.recall(paths)
        while True:
            info = look(runtime, paths, timeout_s=LOOK_S, is_ours=is_ours)
            if is_ours or not info.state.is_over:
                return info
            before, runtime = runtime, self.recall(paths)
            if runtime == before:
                return info

    def look_at_all(self, asking: Asking | None = None) -> list[InstanceInfo]:
        """Look at all instances at once, in the order of their names; one that goes meanwhile is left out.

        A sight that is over is looked at again, each by itself, as in `look`: the instance may have been changed.
        Logs that have grown too long are cut: who looks at all of them comes by often enough.

        Args:
            asking: who asks them; None: they are asked in passing.
        """
        remembered: list[tuple[Runtime, InstancePaths]] = []
        seen: dict[str, InstanceInfo] = {}
        names = self.directory.names()
        self._cache.keep(names)
        for name in names:
            paths = self.directory.instance(name)
            cut_log(paths.log_file)
            try:
                runtime = self._cache.read(paths.runtime_file, name)
            except HypervisorError as error:
                seen[name] = describe_damage(paths, error)
                continue
            if runtime is not None:
                remembered.append((runtime, paths))
        with AskingInPassing() as in_passing:
            for info in look_at_all(remembered, in_passing if asking is None else asking, timeout_s=LOOK_S):
                seen[info.name] = info
        for runtime, paths in remembered:
            if seen[paths.name].state.is_over:
                again = self._look_again(runtime, paths, seen.pop(paths.name))
                if again is not None:
                    seen[paths.name] = again
        return [seen[name] for name in sorted(seen)]

    def _look_again(self, before: Runtime, paths: InstancePaths, info: InstanceInfo) -> InstanceInfo | None:
        try:
            runtime = self._cache.read(paths.runtime_file, paths.name)
            if runtime is None:
                return None
            return info if runtime == before else self.look(paths)
        except InstanceNotFound:
            return None
        except HypervisorError as error:
            return describe_damage(paths, error)

    def need_alive(self, paths: InstancePaths, problem: str) -> None:
        """Make sure that an instance, whose lock we hold, is RUNNING or PAUSED.

        Args:
            paths: its files.
            problem: what cannot be done where it is in another state.

        Raises:
            InstanceStateError: it is.
        """
        state = self.look(paths, is_ours=True).state
        if not state.is_alive:
            raise InstanceStateError(paths.name, state.value, problem)

    def end_what_is_over(self, paths: InstancePaths, problem: str) -> None:
        """Remove what is left of an instance whose lock we hold, its process too. Nothing happens where there is none.

        Raises:
            InstanceStateError: it is not over.
        """
        runtime = None
        try:
            runtime = self.recall(paths)
            info = self.look(paths, is_ours=True)
        except InstanceNotFound as error:
            # Somebody died over its adoption, before it was one: that QEMU is none of ours.
            if is_elsewhere(paths.control_socket):
                paths.remove()
                return
            info = describe_damage(paths, error)
        except RuntimeStateError as error:
            info = describe_damage(paths, error)
        if not info.state.is_over:
            raise InstanceStateError(paths.name, info.state.value, problem)
        process = find_process(runtime, paths)
        if process is not None:
            with process:
                stop_process(process, paths, guest_timeout_s=0)
        end_tpm(paths.tpm_dir)
        if runtime is not None:
            take_down_nics(runtime)
            remove_socket(runtime.incoming_socket)
            remove_socket(runtime.copies_target)
            if runtime.backup is not None:
                remove_partial_files(runtime.backup.partial_files)
        paths.remove()

    def process(self, runtime: Runtime, paths: InstancePaths) -> Process:
        """Get hold of the process of an instance.

        Raises:
            InstanceStateError: it has none.
        """
        process = find_process(runtime, paths)
        if process is None:
            raise InstanceStateError(paths.name, self.look(paths).state.value, "it has no process")
        return process

    @contextlib.contextmanager
    def connected(self, paths: InstancePaths, *, timeout_s: float = LOOK_S) -> Iterator[QmpConnection]:
        """Open a monitor of an instance whose process is there, for a short while.

        Args:
            paths: files of the instance.
            timeout_s: seconds that both monitors together have to answer.

        Raises:
            InstanceStateError: it has no process.
            ConnectError: neither monitor answers.
        """
        runtime = self.recall(paths)
        with self.process(runtime, paths) as process:
            monitor = connect_monitor(monitors_in_passing(runtime, paths), process, timeout_s=timeout_s)
            with contextlib.closing(monitor):
                yield monitor

    def execute(self, paths: InstancePaths, command: Command[Any]) -> None:
        """Execute one command on an instance whose process is there, over a connection of its own."""
        with self.connected(paths) as monitor:
            monitor.execute(command)
