# SPDX-License-Identifier: BSD-2-Clause
"""What the connections of threads (`hvkit.qmp.sync`) and of asyncio tasks (`hvkit.qmp.aio`) share, without waiting."""
