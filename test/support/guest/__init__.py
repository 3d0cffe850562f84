# SPDX-License-Identifier: BSD-2-Clause
"""The tiny guest: a small Linux guest for tests, built from Debian packages without root or installation."""
