# SPDX-License-Identifier: BSD-2-Clause
"""The common part of the connections for threads (`hvkit.qmp.sync`) and for tasks (`hvkit.qmp.aio`), without I/O."""
