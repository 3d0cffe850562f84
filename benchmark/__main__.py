# SPDX-License-Identifier: BSD-2-Clause
"""Run every benchmark, one after the other."""

from benchmark import one_shot

if __name__ == "__main__":
    one_shot.main()
