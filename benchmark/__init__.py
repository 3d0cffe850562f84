# SPDX-License-Identifier: BSD-2-Clause
"""The benchmarks whose figures README and docs/figures.md quote; ``python -m benchmark`` runs all of them."""
