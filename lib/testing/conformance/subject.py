# SPDX-License-Identifier: BSD-2-Clause
"""The plugin under test, and the fixtures of the conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import attrs
import pytest

from hvkit.hypervisor import BaseHypervisor, Capability, Instance


@attrs.frozen(kw_only=True)
class Subject:
    """The plugin under test.

    Attributes:
        open: returns a new hypervisor object. All objects share one run_dir, which is empty or missing at first.
        make_instance: returns a small, startable instance with the given name and members.
        make_broken: returns an instance with valid parameters that cannot start, such as one with a missing disk.
        hold_lock: holds the lock of the named instance inside a ``with`` block, like another operation, and yields a
            hypervisor object with a short lock timeout. None for a plugin without a lock timeout: the tests of
            `InstanceBusy` are skipped.
    """

    open: Callable[[], BaseHypervisor]
    make_instance: Callable[..., Instance]
    make_broken: Callable[[str], Instance]
    hold_lock: Callable[[str], AbstractContextManager[BaseHypervisor]] | None = None


class ConformanceFixtures:
    """The fixtures that all conformance tests use."""

    @pytest.fixture
    def subject(self) -> Subject:
        """The plugin under test. Every plugin overrides this fixture."""
        raise NotImplementedError

    @pytest.fixture
    def hypervisor(self, subject: Subject) -> Iterator[BaseHypervisor]:
        """The hypervisor under test. Its instances are stopped and cleaned up after the test."""
        hypervisor = subject.open()
        yield hypervisor
        for name in hypervisor.list_instances():
            hypervisor.stop_instance(name, force=True)
            hypervisor.cleanup_instance(name)
        assert hypervisor.list_instances() == []

    @pytest.fixture
    def running(self, subject: Subject, hypervisor: BaseHypervisor) -> Instance:
        """A running instance."""
        instance = subject.make_instance("conform")
        hypervisor.start_instance(instance)
        return instance

    @pytest.fixture
    def stopped(self, hypervisor: BaseHypervisor, running: Instance) -> Instance:
        """An instance that was started, then stopped by force."""
        hypervisor.stop_instance(running.name, force=True)
        return running


def hold_lock(subject: Subject, name: str) -> AbstractContextManager[BaseHypervisor]:
    """Hold the lock of an instance, as `Subject.hold_lock` does. Skip the test if the plugin has no such function."""
    if subject.hold_lock is None:
        pytest.skip("the plugin waits for locks without a limit")
    return subject.hold_lock(name)


def skip_without(hypervisor: BaseHypervisor, capability: Capability) -> None:
    """Skip the test if the hypervisor does not have the capability."""
    if not hypervisor.has(capability):
        pytest.skip(f"{hypervisor.name} does not have {capability.value}")
