# SPDX-License-Identifier: BSD-2-Clause
"""The connection to a monitor for the tasks of asyncio."""

from hvkit.qmp.aio.connection import AsyncQmpConnection, AsyncQmpListener, AsyncSubscription

__all__ = ["AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"]
