# SPDX-License-Identifier: BSD-2-Clause
"""The files of one instance, and the directory they live in.

Below the run directory, all of it of mode 0700 and owned by us::

    instances/NAME/runtime.json   what is remembered of the instance (hvkit.hypervisor.kvm.host.runtime)
    instances/NAME/pid            written by QEMU, removed by QEMU when it ends in an orderly way; or by who adopted it
    instances/NAME/root/          the root directory of a QEMU that is to see nothing else; empty
    instances/NAME/log            what QEMU said on its standard output and error
    instances/NAME/tpm.log        what swtpm said
    state/NAME/variables.fd       what its UEFI firmware keeps; here unless told otherwise, and never removed by itself
    state/NAME/tpm/               what its TPM keeps
    sockets/KEY.c .m .w .s .a     control, shared and watch monitor, serial console, guest agent
                                  or, of an adopted instance, links to those that it has
    locks/NAME                    held while somebody works on the instance
    locks/.reserving              held while an instance takes its uuid and account
    locks/.watching               held by the watch that keeps a connection to every instance
    cache/                        what QEMU programs can do (hvkit.hypervisor.kvm.host.probe)

Sockets have a short directory and a short name, made of a hash of the instance's name, because the address of a unix
socket has to fit into 108 bytes and an instance's name may be longer than that alone.
"""

import functools
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from hvkit.hypervisor.errors import ParameterError, RuntimeStateError
from hvkit.hypervisor.model import check_instance_name, is_instance_name

#: The longest address of a unix socket: sun_path has 108 bytes, the last one is zero. Source: unix(7).
MAX_SOCKET_PATH: Final = 107

_SOCKET_SUFFIXES: Final = (".c", ".m", ".w", ".s", ".a")


@attrs.frozen
class InstancePaths:
    """Where the files of one instance are. Nothing here touches them but `make` and what removes.

    Attributes:
        name: the instance.
        dir: its directory.
        lock_file: outside its directory, which comes and goes while the lock is held.
        state_dir: what outlives it: variables of its firmware, state of its TPM.
    """

    name: str
    dir: Path
    lock_file: Path
    state_dir: Path
    control_socket: Path
    shared_socket: Path
    watch_socket: Path
    serial_socket: Path
    agent_socket: Path
    runtime_file: Path = attrs.field(init=False)
    log_file: Path = attrs.field(init=False)

    # Made once: whoever lists many instances looks at both of each.
    @runtime_file.default
    def _find_runtime_file(self) -> Path:
        return self.dir / "runtime.json"

    @log_file.default
    def _find_log_file(self) -> Path:
        return self.dir / "log"

    @property
    def pid_file(self) -> Path:
        return self.dir / "pid"

    @property
    def root_dir(self) -> Path:
        return self.dir / "root"

    @property
    def variables_file(self) -> Path:
        return self.state_dir / "variables.fd"

    @property
    def tpm_dir(self) -> Path:
        return self.state_dir / "tpm"

    @property
    def tpm_log_file(self) -> Path:
        return self.dir / "tpm.log"

    @property
    def sockets(self) -> tuple[Path, ...]:
        """All its sockets."""
        return (self.control_socket, self.shared_socket, self.watch_socket, self.serial_socket, self.agent_socket)

    def make(self) -> None:
        """Make the directory of the instance, which is not there. The run directory is.

        Raises:
            RuntimeStateError: it cannot be made.
        """
        try:
            self.dir.mkdir(mode=0o700)
        except OSError as error:
            raise RuntimeStateError(self.name, str(self.dir), f"cannot be made: {error.strerror}") from error

    def make_root_dir(self) -> None:
        """Make the empty directory that a QEMU may have for its root directory: for everybody to see, and to look into.

        Raises:
            RuntimeStateError: it cannot be made.
        """
        try:
            self.root_dir.mkdir()
            self.root_dir.chmod(0o755)
        except OSError as error:
            raise RuntimeStateError(self.name, str(self.root_dir), f"cannot be made: {error.strerror}") from error

    def remove_traces(self) -> None:
        """Remove what a QEMU that has ended may have left: sockets and pid file.

        Raises:
            RuntimeStateError: something could not be removed.
        """
        try:
            for path in (*self.sockets, self.pid_file):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove(self) -> None:
        """Remove every file of the instance but the lock file, which the caller holds.

        Raises:
            RuntimeStateError: something could not be removed.
        """
        self.remove_traces()
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.dir)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove_state(self) -> None:
        """Remove what outlives the instance.

        Raises:
            RuntimeStateError: something could not be removed.
        """
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.state_dir)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove_lock(self) -> None:
        """Remove the lock file, which the caller holds.

        Raises:
            RuntimeStateError: it could not be removed.
        """
        try:
            self.lock_file.unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def _cannot_remove(self, error: OSError) -> RuntimeStateError:
        return RuntimeStateError(self.name, str(error.filename), f"cannot be removed: {error.strerror}")


def remove_socket(path: str) -> None:
    """Remove a unix socket outside the run directory that nobody listens on any more; nothing else is removed.

    A path that is no absolute one is none.

    Where it cannot be removed it stays: it does no harm, and whoever listens there next replaces it.
    """
    with suppress(OSError):
        if path.startswith("/") and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def remove_partial_files(paths: Iterable[str]) -> None:
    """Remove files that somebody died over before they were whole; what cannot be removed stays and does no harm."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


class RunDirectory:
    """The directory of everything that runs, for one hypervisor on one node.

    Args:
        path: made absolute. Nothing is looked at or made until it is needed.
        state_path: directory of what outlives instances; None: in this one.

    Raises:
        ParameterError: the sockets in it would not have a valid address.
    """

    def __init__(self, path: Path, state_path: Path | None = None) -> None:
        self.path = Path(os.path.abspath(path))
        self.state_path = self.path / "state" if state_path is None else Path(os.path.abspath(state_path))
        length = len(os.fsencode(_socket_path(self.path, "", ".c")))
        if length > MAX_SOCKET_PATH:
            raise ParameterError(
                "run_dir",
                str(self.path),
                f"a socket in {self.path} would have an address of {length} bytes and {MAX_SOCKET_PATH} is the most; "
                f"choose a directory whose path is {length - MAX_SOCKET_PATH} bytes shorter",
            )

    @property
    def reserving_lock_file(self) -> Path:
        """Held while an instance takes what no other one may have. No instance has this name."""
        return self.path / "locks" / ".reserving"

    @property
    def watching_lock_file(self) -> Path:
        """Held by whoever has the monitors that only one can have. No instance has this name."""
        return self.path / "locks" / ".watching"

    def instance(self, name: str) -> InstancePaths:
        """Return where the files of an instance are, whether it exists or not.

        Raises:
            ParameterError: it is no name of an instance.
        """
        return _instance_paths(self.path, self.state_path, check_instance_name(name))

    def names(self) -> list[str]:
        """Return the names of the instances that something is remembered of, in order.

        Raises:
            ParameterError: the directory is not ours alone, or cannot be read.
        """
        return [name for name in self._remembered() if is_instance_name(name)]

    def strays(self) -> list[Path]:
        """Return the directories that look like those of instances, under names that no instance can have, in order.

        Raises:
            ParameterError: the directory is not ours alone, or cannot be read.
        """
        return [self.path / "instances" / name for name in self._remembered() if not is_instance_name(name)]

    def _remembered(self) -> list[str]:
        self.check()
        try:
            with os.scandir(self.path / "instances") as entries:
                return sorted(entry.name for entry in entries if os.path.lexists(os.path.join(entry, "runtime.json")))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _cannot(self.path / "instances", "cannot be read", error) from error

    def check(self) -> None:
        """Make sure that the run directory, if it exists, is ours alone.

        Raises:
            ParameterError: it is a symlink or no directory, belongs to somebody else, or others may enter it.
        """
        try:
            _check_private(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot(self.path, "cannot be looked at", error) from error

    def check_no_internal_paths(self, parameter: str, words: Iterable[str]) -> None:
        """Refuse words for a command line that name something in here: QEMU would take it away from whose it is.

        Args:
            parameter: the one that the words are of.
            words: of a command line, commas doubled or not.

        Raises:
            ParameterError: one does.
        """
        places = {place for each in (self.path, self.state_path) for place in (str(each), os.path.realpath(each))}
        for word in words:
            # In JSON a slash may be escaped.
            plain = os.path.normpath(word.replace(",,", ",").replace("\\/", "/"))
            for place in places:
                if f"{place}/" in f"{plain}/":
                    raise ParameterError(
                        parameter, word, f"{place} is where instances are remembered, and not for this"
                    )

    def make(self) -> None:
        """Make the run directory and those below it, as far as they are missing.

        One that exists, belongs to us and is empty gets mode 0700. One that holds something and lets others in is
        refused: they may have put it there, and it may be a directory like /tmp that others need.

        Raises:
            ParameterError: it cannot be made, or what is there is not ours alone.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self.path, self.path / "instances", self.path / "sockets", self.path / "locks"):
                _make_private(directory)
        except OSError as error:
            raise _cannot(self.path, "cannot be made", error) from error


def _socket_path(run_dir: Path, name: str, suffix: str) -> Path:
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    return run_dir / "sockets" / f"{key}{suffix}"


@functools.lru_cache(maxsize=4096)
def _instance_paths(run_dir: Path, state_dir: Path, name: str) -> InstancePaths:
    control, shared, watch, serial, agent = (_socket_path(run_dir, name, suffix) for suffix in _SOCKET_SUFFIXES)
    return InstancePaths(
        name=name,
        dir=run_dir / "instances" / name,
        lock_file=run_dir / "locks" / name,
        state_dir=state_dir / name,
        control_socket=control,
        shared_socket=shared,
        watch_socket=watch,
        serial_socket=serial,
        agent_socket=agent,
    )


def _make_private(path: Path) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        _check_private(path)
    except _TooOpen:
        if any(path.iterdir()):
            raise
        path.chmod(0o700, follow_symlinks=True)
        _check_private(path)


class _TooOpen(ParameterError):
    """Raised when a directory is ours but lets others in."""


def _cannot(path: Path, what: str, error: OSError) -> ParameterError:
    return ParameterError("run_dir", str(path), f"{error.filename or path} {what}: {error.strerror}")


def _check_private(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "a symlink" if stat.S_ISLNK(status.st_mode) else "no directory"
        raise ParameterError("run_dir", str(path), f"{path} is {what}; it has to be a directory of ours")
    if status.st_uid != os.geteuid():
        problem = f"{path} belongs to user {status.st_uid}; it has to belong to us, user {os.geteuid()}"
        raise ParameterError("run_dir", str(path), problem)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise _TooOpen("run_dir", str(path), f"{path} has mode {mode:04o}, which lets others in; it has to be 0700")
