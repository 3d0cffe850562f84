# SPDX-License-Identifier: BSD-2-Clause
"""The commands of ``hvkit``, one module per subject. Importing this package registers all of them."""

from hvkit.cli.commands import adoption, capture, lifecycle, monitor, node, reports
from hvkit.cli.commands.group import hvkit

__all__ = ["adoption", "capture", "hvkit", "lifecycle", "monitor", "node", "reports"]
