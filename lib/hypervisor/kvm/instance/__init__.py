# SPDX-License-Identifier: BSD-2-Clause
"""Instances of a run directory: handles, derivation of states, queries, watches, and the stop of a process."""
