# SPDX-License-Identifier: BSD-2-Clause
"""Fuzzer for the protocol core: ``python -m tools.fuzz.protocol --seconds 600``.

It alternates between two kinds of conversation. Each has its own seed, which is printed on failure:

* A correct server over a channel that damages bytes: the result must be messages or `QmpError`, nothing else.
* A server that drops, duplicates, delays and reorders messages, and sends events and errors without ids: every reply
  must belong to its own command.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from typing import Any

from hvkit.qmp.errors import QmpError
from hvkit.qmp.protocol import Exchange, Protocol, State

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}
NOISE: tuple[Any, ...] = (
    {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}},
    {"event": "BLOCK_JOB_READY", "data": {"device": "d", "len": 1, "offset": 0, "speed": 0, "type": "mirror"}},
    {"error": {"class": "GenericError", "desc": "JSON parse error"}},
    {"return": {}, "id": 4711},
    {"return": {}, "id": [1]},
    {"timestamp": 1},
    [],
    "text",
    None,
)


def line(message: Any) -> bytes:
    """Return the bytes of a message as QEMU sends it."""
    return json.dumps(message).encode() + b"\r\n"


def in_pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut data into pieces at random places."""
    pieces = []
    while data:
        size = rng.choice((1, 2, 3, 7, 64, 4096))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def ready(rng: random.Random) -> Protocol:
    """Return a protocol after its negotiation."""
    protocol = Protocol(wants_out_of_band=rng.random() < 0.5)
    for piece in in_pieces(rng, line(GREETING)):
        protocol.receive_data(piece)
    request = json.loads(protocol.data_to_send())
    protocol.receive_data(line({"return": {}, "id": request["id"]}))
    return protocol


def damage(rng: random.Random, data: bytes) -> bytes:
    """Return data with a few bytes changed, removed or inserted."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(damaged) + 1)
        match rng.randrange(4):
            case 0 if at < len(damaged):
                damaged[at] = rng.randrange(256)
            case 1:
                del damaged[at : at + rng.randint(1, 20)]
            case 2:
                damaged[at:at] = rng.randbytes(rng.randint(1, 20))
            case _:
                damaged[at:at] = rng.choice((b"\n", b"{", b"}", b'"', b"[" * 2000, b"\x00", b"\xff", b'{"QMP":{}}\n'))
    return bytes(damaged)


def check_outcomes(protocol: Protocol, exchanges: list[Exchange]) -> None:
    """Check that every exchange is open, has a message as its reply, or has failed with a `QmpError`."""
    assert protocol.state in (State.READY, State.ENDED)
    assert protocol.failure is None or isinstance(protocol.failure, QmpError)
    for exchange in exchanges:
        assert exchange.reply is None or isinstance(exchange.reply, dict)
        assert exchange.error is None or isinstance(exchange.error, QmpError)
        if exchange.is_ready:
            try:
                exchange.result()
            except QmpError:
                continue


def damaged_conversation(rng: random.Random) -> None:
    """Run a conversation with a correct server over a channel that damages bytes."""
    protocol = ready(rng)
    exchanges = []
    for _ in range(rng.randint(1, 6)):
        if protocol.state is not State.READY:
            break
        exchange, data = protocol.open_exchange("query-status")
        exchanges.append(exchange)
        answer = line({"return": {"status": "running", "running": True}, "id": json.loads(data)["id"]})
        stream = b"".join(rng.sample([answer, line(NOISE[0]), line(NOISE[1])], 3))
        for piece in in_pieces(rng, damage(rng, stream) if rng.random() < 0.7 else stream):
            protocol.receive_data(piece)
        protocol.take_events()
    check_outcomes(protocol, exchanges)


def disordered_conversation(rng: random.Random) -> None:
    """Run a conversation with a server that mishandles whole messages; a reply returns the number in its command."""
    protocol = ready(rng)
    exchanges: list[tuple[int, Exchange]] = []
    owed: list[bytes] = []
    events = seen = 0
    for number in range(rng.randint(1, 12)):
        exchange, data = protocol.open_exchange("echo", {"n": number})
        exchanges.append((number, exchange))
        owed.append(line({"return": number, "id": json.loads(data)["id"]}))
        rng.shuffle(owed)
        stream = b""
        while owed and rng.random() < 0.6:
            answer = owed.pop()
            stream += answer * rng.choice((0, 1, 1, 1, 2))
            noise = rng.choice(NOISE)
            if rng.random() < 0.3:
                stream += line(noise)
                events += isinstance(noise, dict) and "event" in noise
        for piece in in_pieces(rng, stream):
            protocol.receive_data(piece)
        seen += len(protocol.take_events())
        if rng.random() < 0.3:
            protocol.abandon(rng.choice(exchanges)[1])
    assert protocol.state is State.READY
    assert seen == events
    for number, exchange in exchanges:
        assert exchange.reply is None or exchange.reply["return"] == number
    check_outcomes(protocol, [exchange for _, exchange in exchanges])


def main() -> None:
    """Run the fuzzer and print the number of conversations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="seed of the first conversation")
    options = parser.parse_args()
    end_s = time.monotonic() + options.seconds
    count = 0
    while time.monotonic() < end_s:
        seed = options.seed + count
        rng = random.Random(seed)
        try:
            (damaged_conversation if seed % 2 else disordered_conversation)(rng)
        except BaseException:
            print(f"conversation {count} failed; repeat it with --seed {seed}", file=sys.stderr)
            raise
        count += 1
    print(f"{count} conversations in {options.seconds:g} s, first seed {options.seed}: no failures")


if __name__ == "__main__":
    main()
