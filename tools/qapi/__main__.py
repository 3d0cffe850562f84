# SPDX-License-Identifier: BSD-2-Clause
"""Entry point: `python -m tools.qapi` runs `python -m tools.qapi.generate`."""

import sys

from tools.qapi.generate import main

if __name__ == "__main__":
    sys.exit(main())
