# SPDX-License-Identifier: BSD-2-Clause
"""Many threads on one connection: replies in any order, late replies, and events in between."""

from __future__ import annotations

import itertools
import json
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hvkit.qmp import CommandTimeout, GenericEvent, QmpConnection

WORKERS = 6
ROUNDS = 60
GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": ""}, "capabilities": []}}


def requests_of(peer: socket.socket) -> Iterator[dict[str, Any] | None]:
    """Yield each request, and None after each 10 ms without data, until the client closes."""
    decoder, text = json.JSONDecoder(), ""
    while True:
        try:
            data = peer.recv(65536)
        except TimeoutError:
            yield None
            continue
        if not data:
            return
        text += data.decode().lstrip()
        while text:
            try:
                request, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield request


def serve(peer: socket.socket, rng: random.Random) -> int:
    """Answer all requests in random order, with events in between; return the number of events.

    Replies are sent after several requests, or after 10 ms without data. The request `last` is answered last.
    """
    events = itertools.count()
    held: list[dict[str, Any]] = []
    peer.settimeout(0.01)
    peer.sendall(json.dumps(GREETING).encode() + b"\r\n")
    for request in requests_of(peer):
        if request is not None:
            held.append(request)
            if len(held) < WORKERS and request["execute"] == "echo":
                continue
        rng.shuffle(held)
        held.sort(key=lambda each: each["execute"] == "last")
        for each in held:
            for _ in range(rng.randrange(3) if each["execute"] == "echo" else 0):
                peer.sendall(b'{"event": "NUMBER", "data": {"n": %d}}\r\n' % next(events))
            returned = each["arguments"]["n"] if "arguments" in each else {}
            peer.sendall(json.dumps({"return": returned, "id": each["id"]}).encode() + b"\r\n")
        held.clear()
    return next(events)


@pytest.mark.parametrize("seed", range(3))
def test_threads_with_replies_in_any_order_get_their_own_and_lose_no_event(seed: int) -> None:
    ours, theirs = socket.socketpair()
    sent_events: list[int] = []
    wrong: list[tuple[int, Any]] = []
    timed_out: list[int] = []

    def peer() -> None:
        with theirs:
            sent_events.append(serve(theirs, random.Random(seed)))

    def work(worker: int) -> None:
        rng = random.Random(seed * 100 + worker)
        for number in range(worker * ROUNDS, (worker + 1) * ROUNDS):
            try:
                answer = connection.execute("echo", {"n": number}, timeout=rng.choice((0.0, 0.001, 30.0, 30.0)))
            except CommandTimeout:
                timed_out.append(number)
            else:
                if answer != number:
                    wrong.append((number, answer))

    server = threading.Thread(target=peer)
    server.start()
    with QmpConnection.from_socket(ours) as connection, connection.subscribe(GenericEvent, maxsize=100_000) as events:
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connection.execute("last", {"n": 0}, timeout=30)
        seen = []
        while events.is_ready:
            seen.append(events.get(timeout=1).data["n"])
    server.join()
    assert wrong == []
    assert timed_out
    assert seen == list(range(sent_events[0]))
