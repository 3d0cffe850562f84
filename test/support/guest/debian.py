# SPDX-License-Identifier: BSD-2-Clause
"""Download and extraction of Debian packages as any user, without installation or changes to the system."""

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
#: Options that limit `apt-cache depends` to dependencies.
_ONLY_DEPENDENCIES: Final = [
    f"--no-{other}" for other in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
]
_DEPENDENCY: Final = re.compile(r" [ |](?:Pre)?Depends: (?P<name>[^<\s]+)$")


class PackagesUnavailable(Exception):
    """Raised when packages are not available: no apt, no network, or no such package."""


@attrs.frozen
class Package:
    """A version of a package.

    Attributes:
        name: the package name.
        version: the Debian version.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"

    @property
    def file_name(self) -> str:
        """A glob pattern of the file that apt downloads, for any architecture."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_*.deb"


class Apt:
    """apt with the system's package lists or with separate ones.

    Args:
        lists: directory for separate package lists. None: the system's lists, which only root can update and which
            small container images may lack.
    """

    def __init__(self, lists: Path | None = None) -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise PackagesUnavailable("the tiny guest is built from Debian packages, and this machine has no apt")
        #: Warnings of the update, for later error messages. One failed source is not an error: others may suffice.
        self._update_warning = ""
        self._options = [
            # Without this, apt as root drops to a user that cannot write to the directory, and prints a warning.
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
        """Return the packages to download, sorted by name.

        Args:
            roots: names of the required packages.
            follow: name prefixes of the dependencies to include.

        Raises:
            PackagesUnavailable: the lists do not contain the packages.
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
        """Download the packages that are missing in a directory.

        Returns:
            The package files, by package name.

        Raises:
            PackagesUnavailable: apt could not download a package.
        """
        unfinished = directory / "unfinished"  # apt writes to the final name directly, and may be killed
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
            raise PackagesUnavailable(f"{what}: not finished after {_APT_TIMEOUT_S} s") from None
        if done.returncode:
            raise PackagesUnavailable(f"{what}: {_first_line(done.stderr)}{self._update_warning}")
        if what == "apt-get update" and done.stderr:
            self._update_warning = f" (after {what}: {_first_line(done.stderr)})"
        return done.stdout


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def read_members(package: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | str]]:
    """Read members of a package file, in its order.

    Args:
        package: the package file.
        is_wanted: whether to read the member with a path, which is relative to the root.

    Yields:
        The path of each member, with the content of a file or the target of a symlink.

    Raises:
        PackagesUnavailable: the package file is damaged.
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
            raise PackagesUnavailable(f"{package}: damaged ({error}); remove the file") from error
