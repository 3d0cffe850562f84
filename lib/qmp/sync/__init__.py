# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection to a monitor, for threads."""
