# SPDX-License-Identifier: BSD-2-Clause
"""Test tools for users of hvkit: `QmpStub`, a scripted QMP monitor.

`hvkit.testing.simulator` simulates a complete QEMU process, for tests of code that starts instances.
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
