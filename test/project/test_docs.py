# SPDX-License-Identifier: BSD-2-Clause
"""The pages in docs/: every Python block of a page is executed, in order, in one namespace.

The namespace of a page has the names in `PausedQemu`, or those of the fixture that `NAMES_FIXTURES` lists for it.
"""

from __future__ import annotations

import contextlib
import pkgutil
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import pytest

from guest.agent_machine import agent_machine
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.hypervisor import Disk, Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp import QmpConnection
from hvkit.testing.toy_guest import write_disk

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted((ROOT / "docs").glob("*.md"))
MAX_LINES: Final = 120

#: The fixture with the namespace of a page, by the page's name. The default is a paused QEMU.
NAMES_FIXTURES: Final = {
    "adoption": "adoption_names",
    "agent": "agent_names",
    "backups": "hypervisor_names",
    "captures": "hypervisor_names",
    "confinement": "hypervisor_names",
    "hotplug": "hypervisor_names",
    "lifecycle": "hypervisor_names",
    "listing": "hypervisor_names",
    "media": "hypervisor_names",
    "migration": "hypervisor_names",
    "placement": "hypervisor_names",
    "snapshots": "hypervisor_names",
}
_DEFAULT_FIXTURE: Final = "qemu_names"

_FENCE: Final = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)

#: Reference pages, which may be long.
REFERENCE: Final = ("figures", "parameters")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


class Block(NamedTuple):
    """A code block of a page, and its first line."""

    language: str
    code: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start(2))) for found in _FENCE.finditer(text)]


def run_page(page: Path, names: dict[str, Any]) -> None:
    """Execute the Python blocks of a page. Tracebacks have the page's line numbers."""
    for block in blocks_of(page):
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)  # noqa: S102


@attrs.frozen
class PausedQemu:
    """The default namespace of a page. Each attribute is a name.

    Attributes:
        path: unix socket of the monitor of a paused machine.
        abstract: abstract unix socket of its second monitor, with a leading ``@``.
        port: TCP port on 127.0.0.1 of its third monitor.
        qemu: path of the QEMU program.
        directory: directory for the page's files.
    """

    path: Path
    abstract: str
    port: int
    qemu: str
    directory: Path


@pytest.fixture
def qemu_names(qemu_binary: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    path, directory = tmp_path / "qmp.sock", tmp_path / "page"
    directory.mkdir()
    abstract = f"@hvkit-docs-{tmp_path}"
    with (
        socket.socket(socket.AF_UNIX) as by_path,
        socket.socket(socket.AF_UNIX) as by_name,
        socket.socket(socket.AF_INET) as by_port,
    ):
        by_path.bind(str(path))
        by_name.bind("\0" + abstract[1:])
        by_port.bind(("127.0.0.1", 0))
        port = by_port.getsockname()[1]
        arguments = ["-S", "-M", "q35,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"]
        listeners = [by_path, by_name, by_port]
        for number, listener in enumerate(listeners):
            listener.listen(1)
            arguments += ["-chardev", f"socket,id=c{number},fd={listener.fileno()},server=on,wait=off"]
            arguments += ["-mon", f"chardev=c{number},mode=control"]
        process = subprocess.Popen([qemu_binary, *arguments], pass_fds=[each.fileno() for each in listeners])
    try:
        found = PausedQemu(path=path, abstract=abstract, port=port, qemu=qemu_binary, directory=directory)
        yield attrs.asdict(found)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def agent_names(tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The namespace of a booted guest: `path` is the socket of its agent, `monitor` a connection to its monitor."""
    with agent_machine(tiny_guest, disk_image(), tmp_path) as machine:
        # as in the guest of a distribution
        machine.console.run("printf '#!/bin/sh\\npoweroff -f\\n' >/sbin/shutdown && chmod 755 /sbin/shutdown")
        yield {"path": machine.agent_path, "monitor": machine.qmp}


@pytest.fixture
def adoption_names(qemu_names: dict[str, Any]) -> dict[str, Any]:
    """The namespace of a hypervisor and an external paused QEMU."""
    with QmpConnection(qemu_names["path"]):  # before QEMU answers, this process is the listener
        pass
    return {**qemu_names, "hypervisor": KvmHypervisor(run_dir=qemu_names["directory"] / "run")}


@pytest.fixture
def hypervisor_names(qemu_binary: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The namespace of a hypervisor with an instance with an empty CD drive, and of a migration destination."""
    hypervisor, other = (KvmHypervisor(run_dir=tmp_path / name) for name in ("one", "two"))
    (tmp_path / "more.img").write_bytes(bytes(1 << 20))
    instance = Instance(
        name="web1",
        memory_mib=32,
        disks=(Disk(path=str(write_disk(tmp_path / "disk.img"))),),
        parameters={
            "kvm_path": qemu_binary,
            "migration_bandwidth": 0,
            "cdrom_disk_type": "ide",
            "cdrom_image_path": "empty",
        },
    )
    hypervisor.start_instance(instance)
    try:
        yield {
            "hypervisor": hypervisor,
            "instance": instance,
            "directory": tmp_path,
            "source": hypervisor,
            "destination": other,
            "target": str(tmp_path / "migration.sock"),
        }
    finally:
        for each in (hypervisor, other):
            for name in each.list_instances():
                each.stop_instance(name, force=True)
                each.cleanup_instance(name)


@pytest.mark.qemu
@every_page
def test_page_examples_run(page: Path, request: pytest.FixtureRequest) -> None:
    names: dict[str, Any] = request.getfixturevalue(NAMES_FIXTURES.get(page.stem, _DEFAULT_FIXTURE))
    run_page(page, {"__name__": page.stem, **names})


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in REFERENCE], ids=lambda page: page.stem)
def test_page_is_not_too_long(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@every_page
def test_page_code_blocks_have_language(page: Path) -> None:
    assert not [block.line for block in blocks_of(page) if not block.language]


@every_page
def test_page_code_fits_line_length(page: Path) -> None:
    assert not [line for block in blocks_of(page) for line in block.code.splitlines() if len(line) > 120]


@every_page
def test_page_links_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [each for each in targets if "://" not in each and not (page.parent / each).exists()]


#: Modules of the classes and functions that the text names without a module.
_MODULES: Final = (
    "builtins",
    *("hvkit.errors", "hvkit.qmp", "hvkit.qmp.agent", "hvkit.qmp.aio", "hvkit.qmp.errors", "hvkit.qmp.fleet"),
    *("hvkit.qmp.introspection", "hvkit.qmp.jobs", "hvkit.qmp.listener", "hvkit.qmp.schema", "hvkit.hypervisor"),
)


def exists(name: str) -> bool:
    """Whether a dotted name exists: as a full path, or relative to one of `_MODULES`."""
    candidates = [name] if name.startswith("hvkit") else [f"{module}.{name}" for module in _MODULES]
    for candidate in candidates:
        with contextlib.suppress(ImportError, AttributeError):
            pkgutil.resolve_name(candidate)
            return True
    return False


@every_page
def test_page_names_exist(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    # Matches names of hvkit, of classes and of their members. QEMU's names are in lower case.
    named = re.findall(r"`((?:hvkit\.|[A-Z][a-z]+[A-Z]|[A-Z][a-z]+\.[a-z])[\w.]*)[`(]", prose)
    assert not [each for each in named if not exists(each)]


def test_exists_rejects_unknown_name() -> None:
    assert exists("hvkit.qmp.aio.AsyncQmpListener")
    assert exists("Job.find")
    assert not exists("hvkit.qmp.aio.AsyncQmpListner")
    assert not exists("Job.look")
    assert not exists("JobSeeker")


def test_run_page_reports_line_of_failure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n```sh\nfalse\n```\n\nText.\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run_page(page, {})
    assert caught.traceback[-1].lineno == 14 - 1  # pytest counts from 0
