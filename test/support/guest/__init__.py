# SPDX-License-Identifier: BSD-2-Clause
"""A tiny real guest for the tests, made from the distribution's packages: no root, nothing installed."""
