# SPDX-License-Identifier: BSD-2-Clause
"""The builder of the tiny guest, with and without available packages."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from guest import build
from guest.build import GuestImage, GuestUnavailable, find_or_build_guest, order_modules
from guest.debian import Apt, Package, PackagesUnavailable


def test_modules_are_ordered_after_dependencies() -> None:
    modules = {
        "virtio": b"\0license=GPL\0depends=\0",
        "virtio_ring": b"\0depends=virtio\0",
        "virtio_blk": b"\0depends=virtio-ring,virtio\0name=virtio_blk\0",
        "unwanted": b"\0depends=\0",
    }
    assert order_modules(modules, ["virtio_blk", "built_in", "virtio"]) == ["virtio", "virtio_ring", "virtio_blk"]


def test_build_without_apt_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestUnavailable, match="no apt"):
        find_or_build_guest(tmp_path / "cache")


class FakeApt(Apt):
    """An apt with one package."""

    def __init__(self, lists: Path | None = None) -> None:
        pass

    def resolve(self, roots: Sequence[str], follow: tuple[str, ...]) -> list[Package]:
        return [Package("kernel", "1.0")]

    def download(self, packages: object, directory: Path) -> dict[str, Path]:
        return {}


def no_network(lists: Path | None = None) -> NoReturn:
    raise PackagesUnavailable("apt-get download: Temporary failure resolving")


def fake_build(packages: Mapping[str, Path], image: GuestImage) -> None:
    image.kernel.touch()
    image.initrd.touch()


def test_build_without_network_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", no_network)
    with pytest.raises(GuestUnavailable, match="Temporary failure resolving"):
        find_or_build_guest(tmp_path)


def test_build_without_network_returns_earlier_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", fake_build)
    earlier = find_or_build_guest(tmp_path)
    monkeypatch.setattr(build, "Apt", no_network)
    assert find_or_build_guest(tmp_path) == earlier


def test_concurrent_builders_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[GuestImage] = []
    both_started = threading.Barrier(2)

    def count(packages: Mapping[str, Path], image: GuestImage) -> None:
        built.append(image)
        fake_build(packages, image)

    def use() -> None:
        both_started.wait(timeout=10)
        guests.append(find_or_build_guest(tmp_path))

    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", count)
    guests: list[GuestImage] = []
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(built) == 1
    assert len(guests) == 2
    assert guests[0] == guests[1]
    assert guests[0].kernel.exists()


def test_interrupted_build_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(packages: Mapping[str, Path], image: GuestImage) -> None:
        image.kernel.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", fail)
    with pytest.raises(KeyboardInterrupt):
        find_or_build_guest(tmp_path)
    monkeypatch.setattr(build, "build_guest", fake_build)
    guest = find_or_build_guest(tmp_path)
    assert guest.initrd.exists()


def test_change_of_builder_builds_another_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", fake_build)
    overlay = tmp_path / "root"
    overlay.mkdir()
    monkeypatch.setattr(build, "OVERLAY", overlay)
    (overlay / "init").write_text("one")
    before = find_or_build_guest(tmp_path / "cache")
    (overlay / "init").write_text("two")
    assert find_or_build_guest(tmp_path / "cache") != before
