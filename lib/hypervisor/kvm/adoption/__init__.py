# SPDX-License-Identifier: BSD-2-Clause
"""Inspecting and adopting external instances."""
