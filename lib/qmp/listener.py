# SPDX-License-Identifier: BSD-2-Clause
"""The public import path of `QmpListener`, which `hvkit.qmp` does not import: few processes need it."""

from hvkit.qmp.sync.listener import QmpListener

__all__ = ["QmpListener"]
