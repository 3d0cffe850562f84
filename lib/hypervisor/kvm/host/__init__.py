# SPDX-License-Identifier: BSD-2-Clause
"""What is on this node: processes, files, sockets, monitors, taps, and the instances that these make up."""
