# SPDX-License-Identifier: BSD-2-Clause
"""Instances of a run directory: their handles, their state as derived from three inputs, how they are stopped."""
