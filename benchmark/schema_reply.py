# SPDX-License-Identifier: BSD-2-Clause
"""The largest reply of every QEMU: its schema, 248 KB on 11.1, as a typed value."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.clients import Client
from benchmark.clients.ours import Hvkit
from benchmark.figure import OURS, OURS_FAST, Figure
from benchmark.harness import Effort, compare, pinned
from benchmark.meter import Meter, Turn, repeat
from benchmark.servers import Servers
from hvkit.qmp import QmpMessage
from hvkit.qmp.converter import structure
from hvkit.qmp.schema import QueryQmpSchema

_RECORDING: Final = Path(__file__).parents[1] / "tools" / "qapi" / "recordings" / "11.1.json.gz"
_REFERENCE: Final = "json.loads"


def schema_reply(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure converting the reply to `query-qmp-schema`, from its bytes to the typed value."""
    del servers
    recorded = json.loads(gzip.decompress(_RECORDING.read_bytes()))
    line = json.dumps({"return": recorded, "id": 1}).encode() + b"\r\n"

    def convert() -> None:
        reply = QmpMessage.build_from_json_string(line)
        assert len(structure(reply["return"], QueryQmpSchema.reply_type, where="query-qmp-schema")) > 1000

    def typed(client: Hvkit) -> Turn:
        def turn(meter: Meter, calls: int) -> None:
            client.prepare()
            repeat(convert)(meter, calls)

        return turn

    ours = [each for each in clients if isinstance(each, Hvkit)]
    turns = {_REFERENCE: repeat(lambda: json.loads(line)), **{each.name: typed(each) for each in ours}}
    with pinned():
        return compare(
            "Reply of `query-qmp-schema`, no server",
            f"The {len(line) // 1000} KB reply of QEMU 11.1, from its bytes to typed values.",
            turns,
            rounds=effort.of(80, least=3),
            calls=2,
            aims={OURS: 2.0, OURS_FAST: 2.0},
            reference=_REFERENCE,
        )
