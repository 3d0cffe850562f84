# SPDX-License-Identifier: BSD-2-Clause
"""Schema paths: syntax."""

from __future__ import annotations

import pytest
from recorded_schemas import NEW

from hvkit.errors import ProgrammerError


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/driver",
        "blockdev-add/",
        "blockdev-add//driver",
        "blockdev-add/driver=",
        "blockdev-add/=qcow2",
        "blockdev-add/driver=qcow2=x",
        "blockdev-add/driver->",
        "->",
        "@json-cli",
        "device_add/@",
        "device_add/@json-cli/driver",
        "device add",
        "-x",
    ],
)
def test_parse_path_malformed_raises_programmer_error(path: str) -> None:
    with pytest.raises(ProgrammerError, match="malformed schema path"):
        NEW.has(path)
