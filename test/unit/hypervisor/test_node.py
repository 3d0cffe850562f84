# SPDX-License-Identifier: BSD-2-Clause
"""Resources of the node, from samples of /proc and /sys and from this node."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.errors import HypervisorError
from hvkit.hypervisor.node import (
    find_obstacle,
    parse_list,
    parse_meminfo,
    parse_sockets,
    read_node_info,
    read_numa_nodes,
)

MEMINFO = """\
MemTotal:       16384000 kB
MemFree:         1000000 kB
MemAvailable:    8192000 kB
Active(anon):     150880 kB
HugePages_Total:       4
Hugepagesize:       2048 kB
"""


def make_root(root: Path, *, meminfo: str = MEMINFO, packages: tuple[str, ...] = ("0", "0", "1", "1")) -> Path:
    """Create the files of /proc and /sys that are read, and return their root directory."""
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(meminfo)
    cpus = root / "sys/devices/system/cpu"
    for index, package in enumerate(packages):
        topology = cpus / f"cpu{index}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
    (cpus / "cpufreq").mkdir()
    (cpus / "online").write_text(f"0-{len(packages) - 1}\n")
    (root / "sys/devices/system/node").mkdir()
    (root / "sys/devices/system/node/online").write_text("0-1\n")
    return root


def test_parse_meminfo_returns_amounts_without_counts() -> None:
    assert parse_meminfo(MEMINFO) == {
        "MemTotal": 16384000,
        "MemFree": 1000000,
        "MemAvailable": 8192000,
        "Active(anon)": 150880,
        "Hugepagesize": 2048,
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0\n", {0}), ("0-3\n", {0, 1, 2, 3}), ("0-1,4,6-7", {0, 1, 4, 6, 7}), ("\n", set()), ("", set())],
)
def test_parse_list_returns_numbers(text: str, numbers: set[int]) -> None:
    assert parse_list(text) == numbers


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1,,2"])
def test_parse_list_rejects_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_list(text)


@pytest.mark.parametrize(("ids", "sockets"), [(["0\n", "0\n"], 1), (["0", "1", "1"], 2), (["-1", "-1"], 1), ([], 1)])
def test_parse_sockets_counts_packages(ids: list[str], sockets: int) -> None:
    assert parse_sockets(ids) == sockets


def test_read_node_info_of_two_sockets(tmp_path: Path) -> None:
    node = read_node_info(root=make_root(tmp_path), hypervisor_version=(11, 1, 0))
    assert (node.memory_total_mib, node.memory_free_mib, node.memory_used_mib) == (16000, 8000, 8000)
    assert (node.cpu_total, node.cpu_sockets, node.numa_nodes) == (4, 2, 2)
    assert node.hypervisor_version == (11, 1, 0)


def test_read_node_info_without_numa_reports_one_node(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "sys/devices/system/node/online").unlink()
    assert read_node_info(root=root).numa_nodes == 1


def test_read_numa_nodes_returns_numbers(tmp_path: Path) -> None:
    assert read_numa_nodes(root=tmp_path) == {0}
    (tmp_path / "sys/devices/system/node").mkdir(parents=True)
    (tmp_path / "sys/devices/system/node/online").write_text("0-1,4\n")
    assert read_numa_nodes(root=tmp_path) == {0, 1, 4}
    (tmp_path / "sys/devices/system/node/online").write_text("some\n")
    with pytest.raises(HypervisorError, match="cannot read the resources of this node"):
        read_numa_nodes(root=tmp_path)


def test_read_node_info_names_missing_amount(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="meminfo has no line 'MemAvailable'"):
        read_node_info(root=make_root(tmp_path, meminfo="MemTotal: 1 kB\n"))


def test_read_node_info_without_proc_raises_hypervisor_error(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="proc/meminfo"):
        read_node_info(root=tmp_path)


def test_read_node_info_of_this_node() -> None:
    node = read_node_info()
    assert 0 < node.memory_free_mib < node.memory_total_mib
    assert node.cpu_total >= node.cpu_sockets >= 1


def test_find_obstacle_of_usable_directory_is_empty(tmp_path: Path) -> None:
    assert find_obstacle(tmp_path) == ""
    assert find_obstacle(tmp_path / "a" / "b") == ""
    assert list(tmp_path.iterdir()) == []


def test_find_obstacle_names_file_and_loop(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert find_obstacle(tmp_path / "file" / "a") == f"{tmp_path}/file is not a directory"
    assert find_obstacle(tmp_path / "loop" / "a").startswith(f"{tmp_path}/loop/a cannot be accessed: ")
