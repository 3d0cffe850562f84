# SPDX-License-Identifier: BSD-2-Clause
"""Pure planning: from an instance, its parameters and the capabilities of QEMU to a `MachinePlan` and a command line.

No module here accesses the node: an import contract forbids it.
"""
