# SPDX-License-Identifier: BSD-2-Clause
"""Assertions of the conformance suite say what they compared."""

import pytest

pytest.register_assert_rewrite("hvkit.testing.conformance")
