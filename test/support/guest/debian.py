# SPDX-License-Identifier: BSD-2-Clause
"""Gets packages of a Debian and reads what is in them, as any user: nothing is installed, no system file is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

_APT_TIMEOUT_S: Final = 600
#: Of what `apt-cache depends` shows, dependencies only.
_ONLY_DEPENDENCIES: Final = [
    f"--no-{other}" for other in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
]
_DEPENDENCY: Final = re.compile(r" [ |](?:Pre)?Depends: (?P<name>[^<\s]+)$")


class PackagesUnavailable(Exception):
    """Raised when packages cannot be had: no apt, no network, no such package."""


@attrs.frozen
class Package:
    """A version of a package.

    Attributes:
        name: the package.
        version: the version, as Debian writes it.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"

    @property
    def file_name(self) -> str:
        """What apt calls the file it downloads; the architecture is left to a pattern."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_*.deb"


class Apt:
    """apt, with the system's package lists or with lists of our own.

    Args:
        lists: where to keep lists of our own; None means the system's, which only root can refresh and which a small
            image may not have at all.
    """

    def __init__(self, lists: Path | None = None) -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise PackagesUnavailable("the tiny guest is made of Debian's packages, and this machine has no apt")
        #: What went wrong when the lists were fetched. That alone is no failure: a source that we need may be sound.
        self._excuse = ""
        self._options = [
            # What runs as root without this drops to a user who may not write here, and says so in a warning.
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Retries=2",
            "-oAcquire::http::Timeout=20",
        ]
        if lists:
            (lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
            (lists / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
            self._options += [f"-oDir::State::Lists={lists / 'lists'}", f"-oDir::Cache={lists / 'cache'}"]
            self._run("apt-get", "-qq", "update")

    def resolve(self, roots: Sequence[str], follow: tuple[str, ...]) -> list[Package]:
        """Find the packages to get, by name.

        Args:
            roots: the packages that are wanted.
            follow: how the names of dependencies begin that are wanted too.

        Raises:
            PackagesUnavailable: the lists do not have them.
        """
        wanted: set[str] = set()
        dependencies = self._dependencies(roots)
        queue = list(roots)
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += [other for other in dependencies.get(name, ()) if other.startswith(follow)]
        shown = self._run("apt-cache", "show", "--no-all-versions", *sorted(wanted))
        versions = dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", shown, re.MULTILINE | re.DOTALL))
        return [Package(name, version) for name, version in sorted(versions.items())]

    def download(self, packages: Iterable[Package], directory: Path) -> dict[str, Path]:
        """Get the packages that the directory does not have yet.

        Returns:
            The files, by name of package.

        Raises:
            PackagesUnavailable: apt could not fetch one of them.
        """
        unfinished = directory / "unfinished"  # apt writes to the final name at once, and may be killed
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        packages = list(packages)
        missing = [str(package) for package in packages if not any(directory.glob(package.file_name))]
        if missing:
            self._run("apt-get", "-qq", "download", *missing, directory=unfinished)
            for file in unfinished.glob("*.deb"):
                file.rename(directory / file.name)
        return {package.name: next(directory.glob(package.file_name)) for package in packages}

    def _dependencies(self, roots: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        of: list[str] = []
        for line in self._run("apt-cache", "depends", "--recurse", *_ONLY_DEPENDENCIES, *roots).splitlines():
            if not line.startswith((" ", "<")):
                of = found[line] = []
            elif match := _DEPENDENCY.match(line):
                of.append(match["name"])
        return found

    def _run(self, program: str, *arguments: str, directory: Path | None = None) -> str:
        what = f"{program} {next(word for word in arguments if not word.startswith('-'))}"
        command = [program, *self._options, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_APT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PackagesUnavailable(f"{what}: not done after {_APT_TIMEOUT_S} s") from None
        if done.returncode:
            raise PackagesUnavailable(f"{what}: {_first_line(done.stderr)}{self._excuse}")
        if what == "apt-get update" and done.stderr:
            self._excuse = f" (after {what}: {_first_line(done.stderr)})"
        return done.stdout


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def read_members(package: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | str]]:
    """Read from a package's file, in its order.

    Args:
        package: the file.
        is_wanted: says of a member's path, relative to the root, whether to read it.

    Yields:
        Paths, each with the content of a file, or with the target of a symlink as text.

    Raises:
        PackagesUnavailable: the file is damaged.
    """
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
                for member in archive:
                    path = member.name.removeprefix("./")
                    if (member.issym() or member.isreg()) and is_wanted(path):
                        content = archive.extractfile(member) if member.isreg() else None
                        yield path, content.read() if content else member.linkname
        except tarfile.TarError as error:
            raise PackagesUnavailable(f"{package} is damaged ({error}): remove it") from error
