# SPDX-License-Identifier: BSD-2-Clause
"""Builder of the tiny guest: a kernel that QEMU boots directly, and an initramfs with busybox and the guest agent.

It uses Debian's cloud kernel, unpacked, and an uncompressed initramfs. Of Debian's kernels the cloud kernel is the
smallest download (27 MB instead of 71 MB), and the fastest to unpack and to boot under TCG (2.7 s on an idle machine).
It has no drivers for AHCI, e1000 and the i6300esb watchdog.

Guests are cached in the build tree, in a directory named by a hash of the package versions and the builder's sources.
A lock makes concurrent builders wait for the first.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from guest.cpio import CpioArchive
from guest.debian import Apt, PackagesUnavailable, read_members
from guest.kernel_image import unpack_kernel

HERE: Final = Path(__file__).parent
#: Files that are copied into the guest unchanged.
OVERLAY: Final = HERE / "root"
CACHE: Final = HERE.parents[2] / "build" / "guest"

KERNEL: Final = "linux-image-cloud-amd64"
AGENT: Final = "qemu-guest-agent"
BUSYBOX: Final = "busybox-static"
#: Prefixes of dependencies to include: libraries, and the kernel package that the metapackage depends on.
FOLLOW: Final = ("lib", "zlib", "linux-image-")

#: Modules to load, unless they are built into the kernel.
MODULES: Final = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "virtio_mem",
    "button",  # the power button
    "evdev",  # delivers the power button to acpid
    "pvpanic_mmio",  # includes the ISA device
    "pvpanic_pci",
)
MOUNT_POINTS: Final = ("proc", "sys", "dev", "run", "tmp", "mnt", "bin", "root", "var")
LOADER: Final = "ld-linux-x86-64.so.2"

_LIBRARY: Final = re.compile(r"(?:usr/)?lib(?:64|/x86_64-linux-gnu)?/([^/]+\.so(?:\.\d+)*)")
_MODULE: Final = re.compile(r"(?:usr/)?lib/modules/.*/([^/]+)\.ko(\.xz)?")
_KERNEL: Final = re.compile(r"boot/vmlinuz-.*")
_MODULE_DEPENDENCIES: Final = re.compile(rb"\0depends=([^\0]*)\0")


class GuestUnavailable(Exception):
    """Raised when the tiny guest is not cached and cannot be built. The text has the reason."""


@attrs.frozen
class GuestImage:
    """A built guest.

    Attributes:
        kernel: path of the kernel.
        initrd: path of the initramfs.
    """

    kernel: Path
    initrd: Path

    @classmethod
    def in_directory(cls, directory: Path) -> GuestImage:
        return cls(kernel=directory / "vmlinux", initrd=directory / "initrd")


def find_or_build_guest(cache: Path = CACHE) -> GuestImage:
    """Return the guest for the current package versions, and build it if it is not cached.

    An incomplete build is never used. Without apt or network, a guest of earlier package versions is returned.

    Raises:
        GuestUnavailable: no guest is cached and none can be built.
    """
    cache.mkdir(parents=True, exist_ok=True)
    builder = _builder_key()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        problems = []
        # The system's package lists need no download, but may be missing or outdated.
        for lists in (None, cache / "apt"):
            try:
                return _find_or_build(Apt(lists), cache, builder)
            except PackagesUnavailable as error:
                problems.append(str(error))
        earlier = max(cache.glob(f"{builder}-*"), key=lambda path: path.stat().st_mtime, default=None)
        if earlier:
            return GuestImage.in_directory(earlier)
        raise GuestUnavailable(f"cannot build the tiny guest: {'; '.join(dict.fromkeys(problems))}")


def _find_or_build(apt: Apt, cache: Path, builder: str) -> GuestImage:
    packages = apt.resolve([KERNEL, BUSYBOX, AGENT], FOLLOW)
    directory = cache / f"{builder}-{_key(str(package).encode() for package in packages)}"
    if not directory.exists():
        files = apt.download(packages, cache / "packages")
        unfinished = cache / "unfinished"  # may exist after a killed build
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        build_guest(files, GuestImage.in_directory(unfinished))
        unfinished.rename(directory)
    return GuestImage.in_directory(directory)


def build_guest(packages: Mapping[str, Path], image: GuestImage) -> None:
    """Build the kernel and the initramfs of the guest.

    Args:
        packages: paths of the package files, by package name.
        image: the files to write.

    Raises:
        PackagesUnavailable: a package lacks an expected file.
    """
    boot_image = b""
    modules: dict[str, bytes] = {}
    for name, file in packages.items():
        if name.startswith("linux-image-"):
            for path, content in read_members(file, _matches(_KERNEL, _MODULE)):
                if isinstance(content, str):
                    continue
                if match := _MODULE.fullmatch(path):
                    modules[_module_name(match[1])] = lzma.decompress(content) if match[2] else content
                else:
                    boot_image = content
    try:
        image.kernel.write_bytes(unpack_kernel(boot_image))
    except ValueError as error:
        raise PackagesUnavailable(f"the kernel of {KERNEL} cannot be used: {error}") from error

    archive = CpioArchive()
    for path in MOUNT_POINTS:
        archive.add_directory(path)
    archive.add_character_device("dev/console", 5, 1)  # stdin and stdout of init before it mounts /dev
    for file in sorted(OVERLAY.rglob("*")):
        if file.is_file():
            executable = file.stat().st_mode & 0o100 != 0
            archive.add_file(str(file.relative_to(OVERLAY)), file.read_bytes(), executable=executable)
    archive.add_file("bin/busybox", _program(packages[BUSYBOX], "busybox"), executable=True)
    archive.add_symlink("bin/sh", "busybox")
    _add_agent(archive, packages)
    order = order_modules(modules, MODULES)
    for name in order:
        archive.add_file(f"lib/modules/{name}.ko", modules[name])
    archive.add_file("lib/modules/order", "".join(f"/lib/modules/{name}.ko\n" for name in order).encode())
    image.initrd.write_bytes(archive.to_bytes())


def order_modules(modules: Mapping[str, bytes], wanted: Sequence[str]) -> list[str]:
    """Return the modules in the order to load them, dependencies first.

    The dependencies are read from the modules, because packages do not contain depmod's files.

    Args:
        modules: the modules of the kernel, by name.
        wanted: the modules to load. A module that is not in `modules` is assumed to be built in.
    """
    order: list[str] = []

    def add(name: str) -> None:
        if name in modules and name not in order:
            found = _MODULE_DEPENDENCIES.search(modules[name])
            for dependency in found[1].decode().split(",") if found else ():
                add(_module_name(dependency))
            order.append(name)

    for name in wanted:
        add(name)
    return order


def _add_agent(archive: CpioArchive, packages: Mapping[str, Path]) -> None:
    """Add the guest agent and the libraries that it needs, recursively."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for name, package in packages.items():
        if not name.startswith("linux-image-"):
            for path, content in read_members(package, _matches(_LIBRARY)):
                library = Path(path).name
                if isinstance(content, bytes):
                    files[library] = content
                else:
                    links[library] = Path(content).name
    agent = _program(packages[AGENT], "qemu-ga")
    archive.add_file("usr/sbin/qemu-ga", agent, executable=True)
    queue, added = [agent], set[str]()
    while queue:
        # Libraries are names in the string table of a binary, and the loader is a path. An extra match is harmless.
        strings = queue.pop().replace(b"/", b"\0")
        for library in files.keys() | links.keys():
            if library not in added and b"\0" + library.encode() + b"\0" in strings:
                added.add(library)
                content = files[library] if library in files else files[links[library]]
                archive.add_file(f"{'lib64' if library == LOADER else 'lib'}/{library}", content, executable=True)
                queue.append(content)


def _program(package: Path, name: str) -> bytes:
    for path, content in read_members(package, lambda path: "bin/" in path and path.endswith(f"/{name}")):
        if isinstance(content, bytes):
            return content
        raise PackagesUnavailable(f"{package}: {path} is a symlink")
    raise PackagesUnavailable(f"{package}: does not contain {name}")


def _matches(*patterns: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda path: any(pattern.fullmatch(path) for pattern in patterns)


def _module_name(name: str) -> str:
    return name.replace("-", "_")


def _builder_key() -> str:
    """Return a hash of the builder's sources and the overlay, including file modes."""
    sources = [(name, HERE / name) for name in ("build.py", "cpio.py", "debian.py", "kernel_image.py")]
    sources += sorted((str(file.relative_to(OVERLAY)), file) for file in OVERLAY.rglob("*") if file.is_file())
    return _key(f"{name} {file.stat().st_mode & 0o100}\n".encode() + file.read_bytes() for name, file in sources)


def _key(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]
