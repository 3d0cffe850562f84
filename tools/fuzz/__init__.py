# SPDX-License-Identifier: BSD-2-Clause
"""Fuzzers, run manually for any length of time."""
