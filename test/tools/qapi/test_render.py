# SPDX-License-Identifier: BSD-2-Clause
"""Version limits in words, and the order of modules."""

from __future__ import annotations

import pytest
from small_schemas import EVERY

from tools.qapi.render import check_no_cycles, version_limits


@pytest.mark.parametrize(
    ("versions", "since", "words"),
    [
        (EVERY, "2.0", ""),
        (("10.0", "11.1"), "9.1", "since 9.1"),
        (("10.0", "11.1"), "", "10.0 and later"),
        (("10.0", "11.1"), "2.4", "10.0 and later"),
        (("11.1",), "10.2", "since 10.2"),
        (("11.1",), "", "11.1 and later"),
        (("7.2", "10.0"), "2.0", "until 10.0"),
        (("7.2",), "", "7.2 only"),
        (("10.0",), "9.0", "10.0 only"),
        (("7.2", "11.1"), "", "7.2 and 11.1 only"),
    ],
)
def test_version_limits_describe_the_versions(versions: tuple[str, ...], since: str, words: str) -> None:
    assert version_limits(versions, EVERY, since) == words


def test_check_no_cycles_with_a_cycle_raises_value_error() -> None:
    check_no_cycles({"a": ["b"], "b": ["c"]})
    with pytest.raises(ValueError, match="a -> b -> a"):
        check_no_cycles({"a": ["b"], "b": ["a"]})
