# SPDX-License-Identifier: BSD-2-Clause
"""The largest reply that every QEMU gives: its schema, 248 KB on 11.1, as a typed value."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.contestants import Contestant, Hvkit
from benchmark.harness import OURS, OURS_FAST, Effort, Figure, Timed, compare, cpus, loop, pinned
from benchmark.servers import Servers
from hvkit.qmp.codec import structure_reply, unstructure_command
from hvkit.qmp.protocol import Protocol
from hvkit.qmp.schema import QueryQmpSchema

_RECORDING: Final = Path(__file__).parents[1] / "tools" / "qapi" / "recordings" / "11.1.json.gz"
_RECEIVE_BYTES: Final = 65536


def schema_reply(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure reading the reply to query-qmp-schema, from what recv gave to the typed value."""
    del servers
    recorded = json.loads(gzip.decompress(_RECORDING.read_bytes()))
    line = json.dumps({"return": recorded, "id": 1}).encode() + b"\r\n"
    received = [line[at : at + _RECEIVE_BYTES] for at in range(0, len(line), _RECEIVE_BYTES)]
    ours = [each for each in contestants if isinstance(each, Hvkit)]

    def typed(contestant: Hvkit) -> Timed:
        def timed(times: int) -> float:
            contestant.prepare()
            return sum(_read_typed(received) for _ in range(times))

        return timed

    floor = "json.loads"
    turns: dict[str, Timed] = {floor: loop(lambda: json.loads(line)), **{each.name: typed(each) for each in ours}}
    with pinned(cpus()[0]):
        return compare(
            f"the {len(line) // 1000} KB schema reply, typed",
            turns,
            effort.of(60, least=3),
            3,
            {OURS: 2.0, OURS_FAST: 2.0},
            to=floor,
        )


def _read_typed(received: list[bytes]) -> float:
    """Return the seconds that it takes to make a value of a reply."""
    protocol = Protocol(expects_greeting=False)
    name, arguments, _, reply_type = unstructure_command(QueryQmpSchema(), None)
    exchange, _ = protocol.open_exchange(name, arguments)
    began_s = time.perf_counter()
    for data in received:
        protocol.receive_data(data)
    assert len(structure_reply(exchange, reply_type)) > 1000
    return time.perf_counter() - began_s
