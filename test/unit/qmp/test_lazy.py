# SPDX-License-Identifier: BSD-2-Clause
"""Deferred processing of schema classes."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest

from hvkit.qmp.base import Struct
from hvkit.qmp.converter import structure


class Leaf(Struct):
    size: int
    mode: str


class Wide(Leaf):
    ratio: float
    secret: int = 3


def test_structured_value_of_unbuilt_class_is_immutable() -> None:
    class Unseen(Struct):
        size: int

    value = structure({"size": 1}, Unseen)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.size = 2  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del value.size
    assert value == Unseen(size=1)


def test_unbuilt_class_is_an_attrs_class() -> None:
    class Fresh(Wide):
        more: int = 1

    assert attrs.has(Fresh)
    assert [field.name for field in attrs.fields(Fresh)][-3:] == ["ratio", "secret", "more"]
    assert attrs.asdict(Fresh(size=1, mode="on", ratio=0.5))["more"] == 1


def test_subclass_of_built_class_has_its_own_members() -> None:
    Leaf(size=1, mode="on")

    class Longer(Leaf):
        length: int

    assert Longer(size=1, mode="on", length=3).length == 3


def test_first_use_by_many_threads_builds_class_once() -> None:
    for _ in range(20):

        class Raced(Wide):
            more: int

        barrier = threading.Barrier(8)
        made: list[Raced] = []

        def use(kind: Any = Raced, barrier: threading.Barrier = barrier, made: list[Any] = made) -> None:
            barrier.wait()
            made.append(kind(size=1, mode="on", ratio=1, more=2))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [Raced(size=1, mode="on", ratio=1, more=2)] * 8
