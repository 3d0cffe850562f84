# SPDX-License-Identifier: BSD-2-Clause
"""Pure planning of a machine: instance, parameters and QEMU capabilities to a `MachinePlan`, and to its command line.

No module here accesses the node: an import contract forbids it.
"""
