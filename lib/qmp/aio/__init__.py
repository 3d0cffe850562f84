# SPDX-License-Identifier: BSD-2-Clause
"""The asyncio connection to a monitor.

`import hvkit.qmp` takes 50 ms and does not import this package, because importing asyncio takes another 20 ms.
"""

from hvkit.qmp.aio.connection import AsyncQmpConnection
from hvkit.qmp.aio.listener import AsyncQmpListener
from hvkit.qmp.aio.subscription import AsyncSubscription

__all__ = ["AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"]
