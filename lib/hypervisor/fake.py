# SPDX-License-Identifier: BSD-2-Clause
"""A hypervisor that simulates instances: each is a JSON file with its state.

Use it to test programs that use hypervisors. It also shows that `BaseHypervisor` does not depend on the KVM plugin.
`FakeHypervisor.fail_instance` simulates a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.base import BaseHypervisor
from hvkit.hypervisor.errors import (
    InstanceNotFound,
    InstanceStartError,
    InstanceStateError,
    ParameterError,
    RuntimeStateError,
    reason_of,
)
from hvkit.hypervisor.model import (
    ConsoleKind,
    Instance,
    InstanceState,
    check_instance_name,
    check_kind,
    check_timeout,
)
from hvkit.hypervisor.model.reports import Console, InstanceInfo, NodeInfo
from hvkit.hypervisor.node import find_obstacle, read_node_info
from hvkit.hypervisor.parameters import Check, Parameter, ParameterTable, one_of

#: The version of the state file. Files of another version are refused.
_VERSION: Final = 1


@attrs.frozen(kw_only=True)
class _Persisted:
    """The persisted state of an instance."""

    info: InstanceInfo
    memory_mib: int
    parameters: dict[str, Any]


class FakeHypervisor(BaseHypervisor):
    """Simulates instances. It has the capabilities BALLOON and CONSOLE."""

    name = "fake"
    PARAMETERS: ClassVar = ParameterTable(
        (
            Parameter(
                name="start_failure",
                kind=str,
                default="",
                doc="The reason of a simulated failure to start; empty: the start succeeds.",
                advice=lambda value: "the instance will not start" if value else None,
            ),
            Parameter(
                name="guest",
                kind=str,
                default="obedient",
                doc="The response of the guest to a graceful shutdown: obedient shuts down, deaf does not respond.",
                syntax=one_of("obedient", "deaf"),
            ),
            Parameter(
                name="needs_file",
                kind=str,
                default="",
                doc="A file that must exist on the node.",
                syntax=Check("an absolute path", lambda value: value.startswith("/")),
                node=Check("a file on this node", os.path.isfile),
            ),
        )
    )

    def start_instance(self, instance: Instance, *, start_paused: bool = False) -> None:
        check_kind(instance, Instance)
        parameters = self.PARAMETERS.validate(instance.parameters)
        with self._lock(instance.name):
            self._require_over(instance.name, "cannot be started")
            if parameters["start_failure"]:
                self._delete(instance.name)
                raise InstanceStartError(instance.name, parameters["start_failure"])
            info = InstanceInfo(
                name=instance.name,
                uuid=instance.uuid,
                state=InstanceState.PAUSED if start_paused else InstanceState.RUNNING,
                memory_mib=instance.memory_mib,
                vcpus=instance.vcpus,
            )
            self._write(_Persisted(info=info, memory_mib=instance.memory_mib, parameters=parameters))

    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        check_timeout(timeout, default_s=0.0)
        with self._lock(name):
            persisted = self._read(name)
            if persisted.info.state.is_over:
                return
            is_graceful = persisted.parameters["guest"] == "obedient" and not force
            reason = "shut down by the guest" if is_graceful else "stopped by force"
            self._change(persisted, state=InstanceState.SHUTDOWN, reason=reason)

    def reboot_instance(self, name: str) -> None:
        with self._lock(name):
            persisted = self._read(name)
            if persisted.info.state is not InstanceState.RUNNING:
                raise InstanceStateError(name, persisted.info.state.value, "cannot be rebooted")
            self._change(persisted, memory_mib=persisted.memory_mib)

    def cleanup_instance(self, name: str) -> None:
        with self._lock(name):
            self._require_over(name, "cannot be cleaned up")
            self._delete(name)

    def fail_instance(self, name: str, reason: str) -> None:
        """Simulate a crash of an instance.

        After success it is CRASHED. After failure its state is unchanged.

        Raises:
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is stopped already.
        """
        with self._lock(name):
            persisted = self._read(name)
            if persisted.info.state.is_over:
                raise InstanceStateError(name, persisted.info.state.value, "cannot crash")
            self._change(persisted, state=InstanceState.CRASHED, reason=reason)

    def list_instances(self) -> list[str]:
        try:
            names = os.listdir(self.run_dir)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._directory_error("cannot be read", error) from error
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def get_instance_info(self, name: str) -> InstanceInfo:
        return self._read(name).info

    def get_all_instances_info(self) -> list[InstanceInfo]:
        infos = []
        for name in self.list_instances():
            try:
                infos.append(self._read(name).info)
            except InstanceNotFound:
                continue
            except RuntimeStateError as error:
                damaged = InstanceInfo(
                    name=name,
                    uuid=UUID(int=0),
                    state=InstanceState.CRASHED,
                    reason=reason_of(error),
                    memory_mib=0,
                    vcpus=0,
                )
                infos.append(damaged)
        return infos

    def get_node_info(self) -> NodeInfo:
        return read_node_info(hypervisor_version=(_VERSION,))

    def verify(self) -> list[str]:
        obstacle = find_obstacle(self.run_dir)
        return [obstacle] if obstacle else []

    def balloon_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        check_timeout(timeout, default_s=0.0)
        with self._lock(name):
            persisted = self._read(name)
            if type(memory_mib) is not int or not 1 <= memory_mib <= persisted.memory_mib:
                raise ParameterError("memory_mib", memory_mib, f"expected 1 to {persisted.memory_mib} MiB")
            if not persisted.info.state.is_alive:
                raise InstanceStateError(name, persisted.info.state.value, "its balloon cannot be set")
            self._change(persisted, memory_mib=memory_mib)
        return memory_mib

    def get_instance_console(self, name: str) -> Console:
        state = self._read(name).info.state
        if state.is_over:
            raise InstanceStateError(name, state.value, "has no console")
        return Console(instance=name, kind=ConsoleKind.MESSAGE, message="a fake instance has no console")

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Hold the lock of the run directory, which serializes changes of all processes."""
        check_instance_name(name)
        try:
            self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._directory_error("cannot be used", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _directory_error(self, problem: str, error: OSError) -> ParameterError:
        problem = f"{error.filename or self.run_dir} {problem}: {error.strerror}"
        return ParameterError("run_dir", str(self.run_dir), problem)

    def _path(self, name: str) -> Path:
        return self.run_dir / f"{check_instance_name(name)}.json"

    def _delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RuntimeStateError(name, str(path), f"cannot be removed: {error.strerror}") from error

    def _require_over(self, name: str, problem: str) -> None:
        try:
            state = self._read(name).info.state
        except (InstanceNotFound, RuntimeStateError):
            return
        if not state.is_over:
            raise InstanceStateError(name, state.value, problem)

    def _read(self, name: str) -> _Persisted:
        path = self._path(name)
        try:
            plain = json.loads(path.read_text())
            if plain["version"] != _VERSION:
                raise RuntimeStateError(name, str(path), f"has version {plain['version']}; expected {_VERSION}")
            info = InstanceInfo(
                name=name,
                uuid=UUID(plain["uuid"]),
                state=InstanceState(plain["state"]),
                reason=plain["reason"],
                memory_mib=plain["balloon_mib"],
                vcpus=plain["vcpus"],
            )
            return _Persisted(info=info, memory_mib=plain["memory_mib"], parameters=plain["parameters"])
        except FileNotFoundError:
            raise InstanceNotFound(name) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RuntimeStateError(name, str(path), f"{type(error).__name__}: {error}") from error

    def _change(self, persisted: _Persisted, **changes: Any) -> None:
        self._write(attrs.evolve(persisted, info=attrs.evolve(persisted.info, **changes)))

    def _write(self, persisted: _Persisted) -> None:
        info = persisted.info
        plain = {
            "version": _VERSION,
            "uuid": str(info.uuid),
            "state": info.state.value,
            "reason": info.reason,
            "memory_mib": persisted.memory_mib,
            "balloon_mib": info.memory_mib,
            "vcpus": info.vcpus,
            "parameters": persisted.parameters,
        }
        path = self._path(info.name)
        unfinished = path.with_suffix(".new")
        try:
            unfinished.write_text(json.dumps(plain))
            unfinished.replace(path)
        except OSError as error:
            raise RuntimeStateError(info.name, str(path), f"cannot be written: {error.strerror}") from error
