# SPDX-License-Identifier: BSD-2-Clause
"""The run directory and the files of each instance.

The layout of the run directory, which has mode 0700 and belongs to the user that runs hvkit::

    instances/NAME/runtime.json   the state file (hvkit.hypervisor.kvm.host.state_file)
    instances/NAME/pid            written by QEMU and removed by it at a clean end; for an adopted instance, by hvkit
    instances/NAME/balloon-unused exists while the balloon of the instance cannot have been used; empty
    instances/NAME/root/          the root directory of a QEMU with use_chroot; empty
    instances/NAME/log            standard output and standard error of QEMU
    instances/NAME/tpm.log        log of swtpm
    state/NAME/variables.fd       UEFI variables; kept until the state of the instance is deleted explicitly
    state/NAME/tpm/               state of the TPM, kept likewise
    sockets/KEY.c .w .l .s .a     control, shared and watch monitor, serial console, guest agent;
                                  for an adopted instance, symlinks to its sockets
    locks/NAME                    locked during an operation on the instance
    locks/.reserving              locked while an instance reserves its uuid and account
    locks/.watching               locked by the watch that holds the watch monitors of all instances
    cache/                        capabilities of QEMU programs (hvkit.hypervisor.kvm.host.probe)

``state`` can be elsewhere. Sockets have a short directory and a short name, a hash of the instance name: the path of a
unix socket has at most 107 bytes, and the name of an instance alone may be longer.
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

#: The longest path of a unix socket: sun_path has 108 bytes, the last one is zero. Source: unix(7).
MAX_SOCKET_PATH: Final = 107

#: In the order of the sockets of `InstancePaths`. They never change: an instance that an older hvkit started has them.
_SOCKET_SUFFIXES: Final = (".c", ".w", ".l", ".s", ".a")


@attrs.frozen
class InstancePaths:
    """The paths of one instance. Only the methods touch the filesystem.

    Attributes:
        name: the instance.
        dir: its directory.
        lock_file: its lock file, outside its directory: the directory is created and removed under the lock.
        state_dir: the directory of its UEFI variables and TPM state, which outlive the instance.
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
    balloon_unused_file: Path = attrs.field(init=False)

    # Computed once, because listings of many instances use them.
    @runtime_file.default
    def _find_runtime_file(self) -> Path:
        return self.dir / "runtime.json"

    @log_file.default
    def _find_log_file(self) -> Path:
        return self.dir / "log"

    @balloon_unused_file.default
    def _find_balloon_unused_file(self) -> Path:
        return self.dir / "balloon-unused"

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
        """Create the directory of the instance. The run directory exists, this directory does not.

        Raises:
            RuntimeStateError: it cannot be created.
        """
        try:
            self.dir.mkdir(mode=0o700)
        except OSError as error:
            raise RuntimeStateError(self.name, str(self.dir), f"cannot be created: {error.strerror}") from error

    def make_root_dir(self) -> None:
        """Create the empty root directory for QEMU, with mode 0755, because QEMU may run as any account.

        Raises:
            RuntimeStateError: it cannot be created.
        """
        try:
            self.root_dir.mkdir()
            self.root_dir.chmod(0o755)
        except OSError as error:
            raise RuntimeStateError(self.name, str(self.root_dir), f"cannot be created: {error.strerror}") from error

    def remove_traces(self) -> None:
        """Remove the sockets and the other files of a QEMU that has ended; state file and log are kept.

        Raises:
            RuntimeStateError: a file cannot be removed.
        """
        try:
            for path in (*self.sockets, self.pid_file, self.balloon_unused_file):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove(self) -> None:
        """Remove all files of the instance except the lock file, which the caller has locked.

        Raises:
            RuntimeStateError: a file cannot be removed.
        """
        self.remove_traces()
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.dir)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove_state(self) -> None:
        """Remove the UEFI variables and the TPM state, which outlive the instance.

        Raises:
            RuntimeStateError: a file cannot be removed.
        """
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.state_dir)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def remove_lock(self) -> None:
        """Remove the lock file, which the caller has locked.

        Raises:
            RuntimeStateError: it cannot be removed.
        """
        try:
            self.lock_file.unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot_remove(error) from error

    def _cannot_remove(self, error: OSError) -> RuntimeStateError:
        return RuntimeStateError(self.name, str(error.filename), f"cannot be removed: {error.strerror}")


def remove_socket(path: str) -> None:
    """Remove a stale unix socket outside the run directory.

    A path that is not absolute, or not a socket, is ignored. Errors are ignored, too: the next program that listens
    there replaces a stale socket.
    """
    with suppress(OSError):
        if path.startswith("/") and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def remove_partial_files(paths: Iterable[str]) -> None:
    """Remove incomplete files of an interrupted operation. Errors are ignored: the files are not used."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


class RunDirectory:
    """The run directory of one hypervisor on one node.

    Args:
        path: the directory; made absolute. It is not accessed or created before it is needed.
        state_path: the directory of files that outlive instances; None: ``state`` in the run directory.

    Raises:
        ParameterError: the path is too long for the sockets in it.
    """

    def __init__(self, path: Path, state_path: Path | None = None) -> None:
        self.path = Path(os.path.abspath(path))
        self.state_path = self.path / "state" if state_path is None else Path(os.path.abspath(state_path))
        length = len(os.fsencode(_socket_path(self.path, "", ".c")))
        if length > MAX_SOCKET_PATH:
            raise ParameterError(
                "run_dir",
                str(self.path),
                f"the path of a socket in {self.path} would have {length} bytes, more than {MAX_SOCKET_PATH}; "
                f"choose a directory whose path is {length - MAX_SOCKET_PATH} bytes shorter",
            )

    @property
    def reserving_lock_file(self) -> Path:
        """The lock file of reservations of uuids and accounts. No instance can have this name."""
        return self.path / "locks" / ".reserving"

    @property
    def watching_lock_file(self) -> Path:
        """The lock file of the watch that holds the watch monitors. No instance can have this name."""
        return self.path / "locks" / ".watching"

    def instance(self, name: str) -> InstancePaths:
        """Return the paths of an instance, whether it exists or not.

        Raises:
            ParameterError: the name is not a valid name of an instance.
        """
        return _instance_paths(self.path, self.state_path, check_instance_name(name))

    def names(self) -> list[str]:
        """Return the sorted names of all instances with a state file.

        Raises:
            ParameterError: the directory is accessible to other users, or cannot be read.
        """
        return [name for name in self._names_with_state() if is_instance_name(name)]

    def strays(self) -> list[Path]:
        """Return the sorted directories that have a state file and a name that no instance can have.

        Raises:
            ParameterError: the directory is accessible to other users, or cannot be read.
        """
        return [self.path / "instances" / name for name in self._names_with_state() if not is_instance_name(name)]

    def _names_with_state(self) -> list[str]:
        self.check()
        try:
            with os.scandir(self.path / "instances") as entries:
                return sorted(entry.name for entry in entries if os.path.lexists(os.path.join(entry, "runtime.json")))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _cannot(self.path / "instances", "cannot be read", error) from error

    def check(self) -> None:
        """Check that the run directory, if it exists, is private.

        Raises:
            ParameterError: it is not a directory, belongs to another user, or is accessible to other users.
        """
        try:
            _check_private(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot(self.path, "cannot be accessed", error) from error

    def check_no_internal_paths(self, parameter: str, words: Iterable[str]) -> None:
        """Check that command line arguments do not name files in the run directory or the state directory.

        QEMU would replace or overwrite files of hvkit or of other instances.

        Args:
            parameter: the parameter that contains the arguments.
            words: the arguments, with commas doubled or not.

        Raises:
            ParameterError: an argument names such a file.
        """
        places = {place for each in (self.path, self.state_path) for place in (str(each), os.path.realpath(each))}
        for word in words:
            # JSON allows an escaped slash.
            plain = os.path.normpath(word.replace(",,", ",").replace("\\/", "/"))
            for place in places:
                if f"{place}/" in f"{plain}/":
                    raise ParameterError(
                        parameter, word, f"{word} names a file in {place}, which is reserved for hvkit"
                    )

    def make(self) -> None:
        """Create the run directory and its subdirectories, unless they exist.

        An existing empty directory of this user gets mode 0700. A directory that has content and is accessible to other
        users is refused: the content may be theirs, and they may need the directory, as with /tmp.

        Raises:
            ParameterError: a directory cannot be created, or is not private.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self.path, self.path / "instances", self.path / "sockets", self.path / "locks"):
                _make_private(directory)
        except OSError as error:
            raise _cannot(self.path, "cannot be created", error) from error


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
    """Raised when a directory of this user is accessible to other users."""


def _cannot(path: Path, what: str, error: OSError) -> ParameterError:
    return ParameterError("run_dir", str(path), f"{error.filename or path} {what}: {error.strerror}")


def _check_private(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "a symlink" if stat.S_ISLNK(status.st_mode) else "not a directory"
        raise ParameterError("run_dir", str(path), f"{path} is {what}; a directory is required")
    if status.st_uid != os.geteuid():
        problem = f"{path} belongs to user {status.st_uid}; it must belong to user {os.geteuid()}, who runs hvkit"
        raise ParameterError("run_dir", str(path), problem)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        problem = f"{path} has mode {mode:04o}, which gives other users access; it must have mode 0700"
        raise _TooOpen("run_dir", str(path), problem)
