"""NATS spoken by hand: any bytes for subject, headers and payload, and what a stream holds read back byte for byte.

May not: use the bridge's code, whose parser is what the tests doubt.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

PIPELINED = 250  # publishes whose answers are awaited together


class Kept(NamedTuple):
    """One message of a stream. `at` is when it was stored, in seconds since the epoch."""

    subject: bytes
    block: bytes
    payload: bytes
    sequence: int
    at: float

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n" + re.escape(name.encode()) + rb": ([^\r\n]*)\r\n", self.block)
        return None if found is None else found[1].decode("utf-8", "replace")


class RawNats:
    """One connection. `url` is nats://HOST:PORT."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("nats://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._file = self._socket.makefile("rb")
        self._inbox = b"raw.inbox"
        self._file.readline()
        self._socket.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        self._socket.sendall(b"SUB " + self._inbox + b".> 1\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def publish(self, messages: Sequence[tuple[bytes, bytes, bytes]]) -> list[int | None]:
        """Stores (subject, header block, payload) in order; the sequence of each, None for what no stream took."""
        found: list[int | None] = [None] * len(messages)
        for start in range(0, len(messages), PIPELINED):
            some = messages[start : start + PIPELINED]
            lines = []
            for at, (subject, block, payload) in enumerate(some, start):
                total = b"%d %d" % (len(block), len(block) + len(payload)) if block else b"%d" % len(payload)
                verb = b"HPUB" if block else b"PUB"
                lines.append(b"%s %s %s.p.%d %s\r\n%s%s\r\n" % (verb, subject, self._inbox, at, total, block, payload))
            self._socket.sendall(b"".join(lines))
            for _ in some:
                subject, _, _, payload = self._next()
                try:
                    ack = json.loads(payload)
                except ValueError:
                    continue  # no stream captures it
                if "seq" in ack and not ack.get("duplicate"):
                    found[int(subject.rpartition(b".")[2])] = int(ack["seq"])
        return found

    def stream(self, name: str) -> list[Kept]:
        """Everything a stream holds, in order."""
        about = self._api(f"STREAM.INFO.{name}")
        expected = int(about["state"]["messages"])
        config = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "inactive_threshold": 60 * 10**9}
        made = self._api(f"CONSUMER.CREATE.{name}", {"stream_name": name, "config": config})
        return list(self._pulled(name, str(made["name"]), expected))

    def _pulled(self, stream: str, consumer: str, expected: int) -> Iterator[Kept]:
        count = 0
        while count < expected:
            request = b'{"batch":200,"expires":5000000000}'
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
            self._socket.sendall(b"PUB %s %s.m %d\r\n%s\r\n" % (subject, self._inbox, len(request), request))
            for _ in range(min(200, expected - count)):
                subject, reply, block, payload = self._next()
                tokens = reply.split(b".")
                assert reply.startswith(b"$JS.ACK."), (subject, block)
                count += 1
                yield Kept(subject, block, payload, int(tokens[-4]), int(tokens[-2]) / 1e9)

    def _api(self, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps(request).encode() if request else b""
        self._socket.sendall(b"PUB $JS.API.%s %s.a %d\r\n%s\r\n" % (call.encode(), self._inbox, len(body), body))
        answer: dict[str, Any] = json.loads(self._next()[3])
        assert "error" not in answer, answer
        return answer

    def _next(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The next message: subject, reply subject, header block and payload."""
        while True:
            line = self._file.readline()
            assert line, "the server closed the connection"
            verb, *words = re.split(rb"[ \t]+", line.rstrip(b"\r\n"))
            if verb == b"PING":
                self._socket.sendall(b"PONG\r\n")
                continue
            assert verb in (b"MSG", b"HMSG"), line
            headers = verb == b"HMSG"
            size, header = int(words[-1]), int(words[-2]) if headers else 0
            reply = words[2] if len(words) == (5 if headers else 4) else b""
            data = self._file.read(size + 2)
            return words[0], reply, data[:header], data[header:size]
