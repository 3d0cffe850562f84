# SPDX-License-Identifier: BSD-2-Clause
"""The figures that README quotes: each module makes one, ``python -m benchmark`` makes them all."""
