# SPDX-License-Identifier: BSD-2-Clause
"""The files of an instance: where they are, who may see them, and that they go."""

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


def test_directories_are_ours_alone_whatever_the_umask(directory: RunDirectory) -> None:
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


def test_making_twice_is_no_error(directory: RunDirectory) -> None:
    directory.make()
    directory.make()
    assert directory.names() == []


def test_empty_run_dir_of_ours_is_narrowed(directory: RunDirectory) -> None:
    directory.path.mkdir(mode=0o755)
    directory.make()
    assert mode_of(directory.path) == 0o700


def test_run_dir_that_others_may_enter_is_refused_and_left_alone(directory: RunDirectory) -> None:
    directory.path.mkdir()
    directory.path.chmod(0o755)
    (directory.path / "something").touch()
    with pytest.raises(ParameterError, match="has mode 0755, which lets others in; it has to be 0700"):
        directory.make()
    with pytest.raises(ParameterError, match="has mode 0755"):
        directory.names()
    assert mode_of(directory.path) == 0o755


def test_symlink_is_refused(directory: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParameterError, match="is a symlink"):
        directory.make()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_file_is_refused(directory: RunDirectory) -> None:
    directory.path.touch()
    with pytest.raises(ParameterError, match="is no directory"):
        directory.make()


def test_directory_of_somebody_else_is_refused(directory: RunDirectory) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to somebody else")
    directory.path.mkdir(mode=0o700)
    os.chown(directory.path, 65534, 65534)
    with pytest.raises(ParameterError, match="belongs to user 65534; it has to belong to us, user 0"):
        directory.make()


def test_run_dir_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="cannot be made: File exists"):
        RunDirectory(tmp_path / "file" / "run").make()


def test_sockets_of_the_longest_name_have_an_address(tmp_path: Path) -> None:
    paths = RunDirectory(tmp_path).instance("x" * 254)
    assert max(len(os.fsencode(path)) for path in paths.sockets) <= MAX_SOCKET_PATH
    (tmp_path / "sockets").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(paths.control_socket))


def test_run_dir_is_refused_from_the_first_byte_too_many() -> None:
    rest = len("/sockets/0123456789abcdef.c")
    RunDirectory(Path("/" + "x" * (MAX_SOCKET_PATH - rest - 1)))
    with pytest.raises(ParameterError) as caught:
        RunDirectory(Path("/" + "x" * (MAX_SOCKET_PATH - rest)))
    assert caught.value.name == "run_dir"
    assert "108 bytes and 107 is the most" in str(caught.value)
    assert "1 bytes shorter" in str(caught.value)


def test_instances_have_files_of_their_own(directory: RunDirectory) -> None:
    first, second = directory.instance("web1"), directory.instance("web2")
    files = [{*each.sockets, each.dir, each.lock_file, each.runtime_file, each.pid_file} for each in (first, second)]
    assert not files[0] & files[1]
    assert all(path.is_relative_to(directory.path) for path in files[0] | files[1])


@pytest.mark.parametrize("name", ["../x", "..", "a/b", ""])
def test_name_that_leads_elsewhere_is_refused(directory: RunDirectory, name: str) -> None:
    with pytest.raises(ParameterError):
        directory.instance(name)


def test_only_what_is_remembered_is_listed(directory: RunDirectory) -> None:
    directory.make()
    for name in ("web2", "web1", "half-made"):
        directory.instance(name).make()
    directory.instance("web1").runtime_file.touch()
    directory.instance("web2").runtime_file.touch()
    assert directory.names() == ["web1", "web2"]


def test_what_is_no_name_is_not_listed_and_told_apart(directory: RunDirectory) -> None:
    directory.make()
    for name in ("web1", ".bad"):
        (directory.path / "instances" / name).mkdir()
        (directory.path / "instances" / name / "runtime.json").touch()
    assert directory.names() == ["web1"]
    assert directory.strays() == [directory.path / "instances" / ".bad"]


def test_directory_that_cannot_be_made_is_named(directory: RunDirectory) -> None:
    paths = directory.instance("web1")
    with pytest.raises(RuntimeStateError, match="cannot be made: No such file") as caught:
        paths.make()
    assert caught.value.path == str(paths.dir)


def test_removing_leaves_nothing_but_the_lock_that_is_held(directory: RunDirectory) -> None:
    directory.make()
    paths = directory.instance("web1")
    paths.make()
    for path in (*paths.sockets, paths.pid_file, paths.log_file, paths.runtime_file, paths.lock_file):
        path.touch()
    paths.remove()
    left = {str(path.relative_to(directory.path)) for path in directory.path.rglob("*")}
    assert left == {"instances", "locks", "locks/web1", "sockets"}
    paths.remove()
