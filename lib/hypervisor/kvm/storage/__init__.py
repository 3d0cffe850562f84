# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots, overlays and backups of disks."""
