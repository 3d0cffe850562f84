# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of hvkit's users need: `QmpStub`, a monitor that plays a script.

`hvkit.testing.simulator` is a whole QEMU that is none, for tests of what starts machines.
"""

from hvkit.testing.stub import (
    CLOSE,
    DEFAULT_GREETING,
    SILENCE,
    Close,
    CloseAfter,
    Delay,
    QmpStub,
    WaitFor,
)

__all__ = ["CLOSE", "DEFAULT_GREETING", "SILENCE", "Close", "CloseAfter", "Delay", "QmpStub", "WaitFor"]
