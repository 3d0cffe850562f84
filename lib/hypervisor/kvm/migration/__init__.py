# SPDX-License-Identifier: BSD-2-Clause
"""Outgoing and incoming migration, copies of disks, postcopy."""
