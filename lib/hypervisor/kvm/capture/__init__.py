# SPDX-License-Identifier: BSD-2-Clause
"""Screenshots and memory dumps."""
