# SPDX-License-Identifier: BSD-2-Clause
"""Parameters that change the target and the mode of a migration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.model import Instance, InstanceState, MigrationState
from hvkit.qmp.schema import QueryStatus


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other")
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


@pytest.mark.qemu
def test_migration_mode_non_live_overrides_live_argument(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: Callable[..., Instance], tmp_path: Path
) -> None:
    # So slow that the test can observe the migration.
    toy = make_toy(parameters={"migration_mode": "non-live", "migration_bandwidth": 1})
    kvm.start_instance(toy)
    info = kvm.migration_info("web1")
    path = str(tmp_path / "link.sock")
    other.accept_instance(toy, info, path)
    kvm.migrate_instance("web1", path, live=True)
    with kvm.monitor("web1") as monitor:
        assert not monitor.execute(QueryStatus()).running
    assert kvm.follow_migration("web1").status is MigrationState.COMPLETED
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert other.get_instance_info("web1").state is InstanceState.RUNNING
