# SPDX-License-Identifier: BSD-2-Clause
"""A typed client of the QEMU Machine Protocol."""
