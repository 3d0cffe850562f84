# SPDX-License-Identifier: BSD-2-Clause
"""The connection to a monitor for the tasks of asyncio.

`import hvkit.qmp`, which takes 50 ms, does not import this package: asyncio takes another 20 ms.
"""

from hvkit.qmp.aio.connection import AsyncQmpConnection
from hvkit.qmp.aio.listener import AsyncQmpListener
from hvkit.qmp.aio.subscription import AsyncSubscription

__all__ = ["AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"]
