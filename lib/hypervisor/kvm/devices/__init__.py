# SPDX-License-Identifier: BSD-2-Clause
"""Changing the devices, vCPUs and memory of running instances."""
