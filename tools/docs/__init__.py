# SPDX-License-Identifier: BSD-2-Clause
"""Generators of pages in docs/."""
