# SPDX-License-Identifier: BSD-2-Clause
"""The kernel and the filesystem of this node: processes, sockets, taps, files, locks, accounts and swtpm.

Nothing here talks to a running instance. `probe` speaks QMP only to the program that it starts for that purpose.
"""
