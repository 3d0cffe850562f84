# SPDX-License-Identifier: BSD-2-Clause
"""Pages of docs/ that are made from the code."""
