# SPDX-License-Identifier: BSD-2-Clause
"""The instances of a run directory: lookup by name, listing, and reservation of uuids and accounts."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceNotFound, InstanceStateError, ParameterError, RuntimeStateError
from hvkit.hypervisor.kvm.host.accounts import choose_account, find_account
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.log import trim_log
from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import RuntimeCache
from hvkit.hypervisor.kvm.instance.handle import QUERY_S, InstanceHandle
from hvkit.hypervisor.kvm.instance.query import StatusSource, TransientStatusSource, query_all
from hvkit.hypervisor.kvm.instance.state import describe_damage
from hvkit.hypervisor.kvm.plan.confinement import Account, parse_account_pool
from hvkit.hypervisor.kvm.plan.parameters import parse_extra
from hvkit.hypervisor.model import Instance
from hvkit.hypervisor.model.reports import InstanceInfo


@attrs.frozen
class Instances:
    """The instances of a run directory.

    Attributes:
        directory: the run directory.
        lock_timeout_s: seconds to wait for the lock of an instance before raising InstanceBusy.
    """

    directory: RunDirectory
    lock_timeout_s: float
    _cache: RuntimeCache = attrs.field(factory=RuntimeCache, init=False, repr=False, eq=False)

    def handle(self, name: str) -> InstanceHandle:
        """Return the handle for a name, whether or not there is an instance of that name.

        Raises:
            ParameterError: the name is not valid for an instance.
        """
        return InstanceHandle(self.directory.instance(name), self.lock_timeout_s)

    def require(self, name: str) -> InstanceHandle:
        """Return the handle of an instance that has persisted state, readable or not.

        Raises:
            ParameterError: the name is not valid, or `run_dir` is accessible to other users.
            InstanceNotFound: there is no persisted state of that name.
        """
        handle = self.handle(name)
        self.directory.check()
        if not os.path.lexists(handle.paths.runtime_file):
            raise InstanceNotFound(name)
        return handle

    def require_managed(self, name: str) -> InstanceHandle:
        """Return the handle of an instance that was not adopted, for operations that need its full configuration.

        Raises:
            ParameterError, InstanceNotFound: as for `require`.
            RuntimeStateError: its persisted state cannot be read.
            InstanceStateError: it was adopted.
        """
        handle = self.require(name)
        if handle.load().adoption is not None:
            problem = "not available for an adopted instance: the configuration of its machine is not known"
            raise InstanceStateError(name, handle.query().state.value, problem)
        return handle

    def handles(self) -> list[InstanceHandle]:
        """Return the handles of all instances, in the order of their names.

        Raises:
            ParameterError: `run_dir` is accessible to other users.
        """
        return [self.handle(name) for name in self.directory.names()]

    def find_cache_dir(self) -> Path | None:
        """Return the directory for cached capabilities; None if the run directory does not exist or is not private."""
        try:
            self.directory.check()
        except ParameterError:
            return None
        return self.directory.path / "cache" if os.path.isdir(self.directory.path) else None

    def check_uuid_unique(self, instance: Instance) -> None:
        """Check that no other instance has the same uuid. Stopped instances do not count.

        Raises:
            ParameterError: another instance has it.
        """
        for handle in self.handles():
            with contextlib.suppress(InstanceNotFound, RuntimeStateError):
                if handle.name == instance.name or handle.load().instance.uuid != instance.uuid:
                    continue
                state = handle.query().state
                if not state.is_over:
                    problem = f"already used by instance {handle.name}, which is {state.value}"
                    raise ParameterError(f"Instance({instance.name}).uuid", str(instance.uuid), problem)

    def check_no_internal_paths(self, instance: Instance) -> None:
        """Check that the extra arguments of an instance do not name a file of hvkit or of another instance.

        Raises:
            ParameterError: an argument names such a file, or they cannot be parsed.
        """
        self.directory.check_no_internal_paths("kvm_extra", parse_extra(str(instance.parameters.get("kvm_extra", ""))))

    def check_reservable(self, instance: Instance, parameters: Mapping[str, Any]) -> None:
        """Check that `reserving` would succeed now. Call it before anything of a stopped instance is removed.

        Args:
            instance: the instance.
            parameters: its parameters, filled and checked.

        Raises:
            ParameterError, InstanceBusy: as for `reserving`.
        """
        with self.reserving(instance, parameters):
            pass

    @contextlib.contextmanager
    def reserving(self, instance: Instance, parameters: Mapping[str, Any]) -> Iterator[Account | None]:
        """Choose the account that an instance will run as, and reserve it and the uuid for the duration of the block.

        The block must persist the state of the instance with both, so that other processes find them in use. It must
        be short, because it holds a lock of the run directory.

        Args:
            instance: the instance.
            parameters: its parameters, filled and checked.

        Raises:
            ParameterError: another instance has the uuid, there is no such user, or the pool is exhausted.
            InstanceBusy: another process holds the reservation lock for too long.
        """
        with instance_lock(instance.name, self.directory.reserving_lock_file, timeout_s=self.lock_timeout_s):
            self.check_uuid_unique(instance)
            match parameters["security_model"]:
                case "user":
                    yield find_account(parameters["security_domain"])
                case "pool":
                    pool = parse_account_pool(parameters["security_pool"])
                    yield choose_account(pool, self._find_taken_uids(instance.name))
                case _:
                    yield None

    def _find_taken_uids(self, name: str) -> set[int]:
        """Return the uids that instances other than the named one use."""
        taken = set()
        for handle in self.handles():
            with contextlib.suppress(InstanceNotFound, RuntimeStateError):
                account = handle.load().account
                if handle.name != name and account is not None:
                    taken.add(account.uid)
        return taken

    def query_all(self, source: StatusSource | None = None) -> list[InstanceInfo]:
        """Return the current state of every instance, in the order of their names.

        All are queried before any reply is awaited. An instance that is removed meanwhile is left out. If an instance
        appears stopped, its state file is read again, as in `InstanceHandle.query`.

        Args:
            source: queries the monitors; None for connections made for this call alone.

        Raises:
            ParameterError: `run_dir` is accessible to other users.
        """
        loaded: list[tuple[Runtime, InstancePaths]] = []
        infos: dict[str, InstanceInfo] = {}
        names = self.directory.names()
        self._cache.keep(names)
        for name in names:
            paths = self.directory.instance(name)
            try:
                runtime = self._cache.read(paths.runtime_file, name)
            except HypervisorError as error:
                infos[name] = describe_damage(paths, error)
                continue
            if runtime is not None:
                loaded.append((runtime, paths))
        with TransientStatusSource() as transient:
            for info in query_all(loaded, transient if source is None else source, timeout_s=QUERY_S):
                infos[info.name] = info
        for runtime, paths in loaded:
            if infos[paths.name].state.is_over:
                again = self._query_again(runtime, paths, infos.pop(paths.name))
                if again is not None:
                    infos[paths.name] = again
        return [infos[name] for name in sorted(infos)]

    def _query_again(self, before: Runtime, paths: InstancePaths, info: InstanceInfo) -> InstanceInfo | None:
        try:
            runtime = self._cache.read(paths.runtime_file, paths.name)
            if runtime is None:
                return None
            return info if runtime == before else self.handle(paths.name).query()
        except InstanceNotFound:
            return None
        except HypervisorError as error:
            return describe_damage(paths, error)

    def trim_logs(self) -> None:
        """Trim the QEMU log of every instance to its maximum size."""
        for name in self.directory.names():
            trim_log(self.directory.instance(name).log_file)
