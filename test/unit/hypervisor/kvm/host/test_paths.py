# SPDX-License-Identifier: BSD-2-Clause
"""The run directory and the files of an instance."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from hvkit.hypervisor.errors import ParameterError, RuntimeStateError
from hvkit.hypervisor.kvm.host.paths import MAX_SOCKET_PATH, RunDirectory


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_directories_are_private_regardless_of_the_umask(directory: RunDirectory) -> None:
    old = os.umask(0)
    try:
        directory.make()
        paths = directory.instance("web1")
        paths.make()
    finally:
        os.umask(old)
    made = [directory.path, *(path for path in directory.path.rglob("*"))]
    assert {path.name for path in made} == {"run", "instances", "web1", "sockets", "locks"}
    assert {mode_of(path) for path in made} == {0o700}


def test_make_twice_succeeds(directory: RunDirectory) -> None:
    directory.make()
    directory.make()
    assert directory.names() == []


def test_empty_run_dir_of_this_user_becomes_private(directory: RunDirectory) -> None:
    directory.path.mkdir(mode=0o755)
    directory.make()
    assert mode_of(directory.path) == 0o700


def test_run_dir_with_content_and_other_access_is_refused_unchanged(directory: RunDirectory) -> None:
    directory.path.mkdir()
    directory.path.chmod(0o755)
    (directory.path / "something").touch()
    with pytest.raises(ParameterError, match="has mode 0755, which gives other users access; it must have mode 0700"):
        directory.make()
    with pytest.raises(ParameterError, match="has mode 0755"):
        directory.names()
    assert mode_of(directory.path) == 0o755


def test_run_dir_that_is_a_symlink_is_refused(directory: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParameterError, match="is a symlink"):
        directory.make()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_run_dir_that_is_a_file_is_refused(directory: RunDirectory) -> None:
    directory.path.touch()
    with pytest.raises(ParameterError, match="is not a directory"):
        directory.make()


def test_run_dir_of_another_user_is_refused(directory: RunDirectory) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of a directory")
    directory.path.mkdir(mode=0o700)
    os.chown(directory.path, 65534, 65534)
    with pytest.raises(ParameterError, match="belongs to user 65534; it must belong to user 0, who runs hvkit"):
        directory.make()


def test_run_dir_that_cannot_be_created_reports_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="cannot be created: File exists"):
        RunDirectory(tmp_path / "file" / "run").make()


def test_sockets_of_the_longest_instance_name_can_be_bound(tmp_path: Path) -> None:
    paths = RunDirectory(tmp_path).instance("x" * 254)
    assert max(len(os.fsencode(path)) for path in paths.sockets) <= MAX_SOCKET_PATH
    (tmp_path / "sockets").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(paths.control_socket))


def test_run_dir_that_is_one_byte_too_long_is_refused() -> None:
    rest = len("/sockets/0123456789abcdef.c")
    RunDirectory(Path("/" + "x" * (MAX_SOCKET_PATH - rest - 1)))
    with pytest.raises(ParameterError) as caught:
        RunDirectory(Path("/" + "x" * (MAX_SOCKET_PATH - rest)))
    assert caught.value.name == "run_dir"
    assert "would have 108 bytes, more than 107" in str(caught.value)
    assert "1 bytes shorter" in str(caught.value)


def test_sockets_keep_the_names_that_older_versions_gave_them(directory: RunDirectory) -> None:
    paths = directory.instance("web1")
    monitors = (paths.control_socket, paths.shared_socket, paths.watch_socket)
    assert [path.suffix for path in monitors] == [".c", ".w", ".l"]
    assert [path.suffix for path in (paths.serial_socket, paths.agent_socket)] == [".s", ".a"]


def test_instances_share_no_files(directory: RunDirectory) -> None:
    first, second = directory.instance("web1"), directory.instance("web2")
    files = [{*each.sockets, each.dir, each.lock_file, each.runtime_file, each.pid_file} for each in (first, second)]
    assert not files[0] & files[1]
    assert all(path.is_relative_to(directory.path) for path in files[0] | files[1])


@pytest.mark.parametrize("name", ["../x", "..", "a/b", ""])
def test_instance_name_with_path_components_is_refused(directory: RunDirectory, name: str) -> None:
    with pytest.raises(ParameterError):
        directory.instance(name)


def test_names_lists_instances_with_a_state_file(directory: RunDirectory) -> None:
    directory.make()
    for name in ("web2", "web1", "incomplete"):
        directory.instance(name).make()
    directory.instance("web1").runtime_file.touch()
    directory.instance("web2").runtime_file.touch()
    assert directory.names() == ["web1", "web2"]


def test_directory_with_an_invalid_name_is_listed_as_stray(directory: RunDirectory) -> None:
    directory.make()
    for name in ("web1", ".bad"):
        (directory.path / "instances" / name).mkdir()
        (directory.path / "instances" / name / "runtime.json").touch()
    assert directory.names() == ["web1"]
    assert directory.strays() == [directory.path / "instances" / ".bad"]


def test_instance_directory_that_cannot_be_created_is_named(directory: RunDirectory) -> None:
    paths = directory.instance("web1")
    with pytest.raises(RuntimeStateError, match="cannot be created: No such file") as caught:
        paths.make()
    assert caught.value.path == str(paths.dir)


def test_remove_leaves_the_lock_file_only(directory: RunDirectory) -> None:
    directory.make()
    paths = directory.instance("web1")
    paths.make()
    for path in (*paths.sockets, paths.pid_file, paths.log_file, paths.runtime_file, paths.lock_file):
        path.touch()
    paths.remove()
    left = {str(path.relative_to(directory.path)) for path in directory.path.rglob("*")}
    assert left == {"instances", "locks", "locks/web1", "sockets"}
    paths.remove()
