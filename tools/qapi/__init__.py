# SPDX-License-Identifier: BSD-2-Clause
"""What QEMU's schema says, and the classes made of it.

`qapi-facts.json` holds the facts of several QEMU versions: names, types, versions and conditions, no prose.
`make_facts` writes it from QEMU's own sources, `introspection` holds it against what a QEMU says of itself, and
`generate` turns it into `hvkit.qmp.schema`.
"""
