# SPDX-License-Identifier: BSD-2-Clause
"""What is done to instances, a module for each act: start, plug, move, back up and so on.

An act takes an `Instances` and what it is to do; none of them needs the hypervisor object.
"""
