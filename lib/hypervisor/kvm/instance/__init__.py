# SPDX-License-Identifier: BSD-2-Clause
"""The registry of instances, their state as derived from three inputs, and how they are stopped."""
