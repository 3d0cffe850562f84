# SPDX-License-Identifier: BSD-2-Clause
"""Primitives over a monitor of a running instance: block nodes, jobs, unplug, passwords, thread pinning."""
