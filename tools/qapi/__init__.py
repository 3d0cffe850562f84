# SPDX-License-Identifier: BSD-2-Clause
"""The facts of QEMU's schema, and the generator of the classes in `hvkit.qmp.schema`.

`qapi-facts.json` holds the facts of several QEMU versions: names, types, versions and conditions, but no prose.
`make_facts` writes it from QEMU's sources, `introspection` compares it with the reply of a QEMU to `query-qmp-schema`,
and `generate` writes `hvkit.qmp.schema` from it.
"""
