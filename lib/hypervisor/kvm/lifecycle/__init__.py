# SPDX-License-Identifier: BSD-2-Clause
"""Starting, stopping, resetting and validating instances."""
