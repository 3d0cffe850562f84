# SPDX-License-Identifier: BSD-2-Clause
"""Programs that look for what tests did not think of; run by hand, for as long as one likes."""
