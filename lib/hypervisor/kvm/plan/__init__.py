# SPDX-License-Identifier: BSD-2-Clause
"""What a machine is to be, computed from what was asked for and from what its QEMU can do.

Nothing here starts, connects to or waits for anything; only the checks of parameters look at the node.
"""
