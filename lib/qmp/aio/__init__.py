# SPDX-License-Identifier: BSD-2-Clause
"""The connection to a monitor for the tasks of asyncio.

`import hvkit.qmp` does not import this package: asyncio alone takes longer to import than all of `hvkit.qmp`.
"""

from hvkit.qmp.aio.connection import AsyncQmpConnection
from hvkit.qmp.aio.listener import AsyncQmpListener
from hvkit.qmp.aio.subscription import AsyncSubscription

__all__ = ["AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"]
