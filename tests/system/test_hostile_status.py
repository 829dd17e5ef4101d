"""`status` and the actions against something that is no daemon, or wants to be mistaken for one."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main
from bridge.core.errors import Unavailable, Unmappable
from bridge.core.route import Receipt
from bridge.observe import Observation
from bridge.verbs import control, status
from bridge.verbs.control import Running
from tests.page.documents import abandoned, delivery, opened, served, watched

EVIL = "x\x1b]0;owned\x07\x9b2J\u202egnp\u200b\nid           forged [red]y[/red] \ud83d"


def document() -> dict[str, Any]:
    """A real one, with every text in it that may come from outside."""
    observation = Observation()
    route = opened(observation, "in", pending=3)
    abandoned(watched(route, "new", "jetstream", "S/c"))
    route.parked(delivery(0), Unmappable("subject", "none"), Receipt("P:1"))
    observation.route("down").not_open(Unavailable("refused", hint="try"), 1.0)
    observation.judge()
    return json.loads(json.dumps(observation.snapshot()))  # type: ignore[no-any-return]


def poisoned(value: Any) -> Any:
    """The same with EVIL behind every text that is no verdict and no state."""
    if isinstance(value, dict):
        keep = ("verdict", "state", "side", "system", "routes")
        return {name: each if name in keep[:4] else poisoned(each) for name, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return value + EVIL if isinstance(value, str) else value


@contextmanager
def answering(*chunks: bytes, hold: bool = False) -> Iterator[str]:
    """Something on a port that answers every request with these bytes, and with `hold` never ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        for chunk in chunks:
                            connection.sendall(chunk)
                        while hold and not ended.wait(0.02):
                            connection.sendall(b"x")
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def response(body: bytes, kind: str = "application/json", code: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        code,
        kind.encode(),
        len(body),
        body,
    )


def look(url: str, *, as_json: bool = False) -> int:
    return status.status(Running(url), "", watch=False, as_json=as_json)


def wrong_shapes() -> Iterator[tuple[str, Any]]:
    """The real document with one member after another replaced by what it never is."""
    real = document()
    for value in (None, "text", -1e300, [None], {"a": None}):
        for name in ("routes", "version", "connections", "uptime_seconds", "reload"):
            yield f"{name}={value!r}", {**real, name: value}
        whole = real
        for name in whole["routes"]["in"]:
            routes = {"in": {**whole["routes"]["in"], name: value}}
            yield f"in.{name}={value!r}", {**whole, "routes": routes}
        for name in whole["routes"]["in"]["places"][0]:
            place = {**whole["routes"]["in"]["places"][0], name: value}
            yield f"place.{name}={value!r}", {**whole, "routes": {"in": {**whole["routes"]["in"], "places": [place]}}}


def test_whatever_shape_a_document_has_it_is_shown_or_said_to_be_strange(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    refused = 0
    for what, shape in wrong_shapes():
        monkeypatch.setattr(Running, "get", lambda _, path, shape=shape: shape if path == "/status" else {})
        try:
            assert look("http://127.0.0.1:1") in (0, 1), what
            assert look("http://127.0.0.1:1", as_json=True) in (0, 1), what
        except Unavailable as error:
            refused += "not nats-sqs-bridge" in str(error)
    assert refused > 50
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "history",
    [{"places": 3}, {"places": [{}]}, {"places": [{"side": "new", "name": "S/c", "points": [[1]]}]}, {"places": None}],
)
def test_a_history_of_another_shape_is_strange_too(history: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Running, "get", lambda _, path: document() if path == "/status" else history)
    with pytest.raises(Unavailable, match="not nats-sqs-bridge"):
        look("http://127.0.0.1:1")


@pytest.mark.parametrize("columns", ["30", "80", "200"])
def test_nothing_a_document_says_steers_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    whole = poisoned(document())
    whole["routes"] = {name + (EVIL if name == "in" else ""): route for name, route in whole["routes"].items()}
    monkeypatch.setattr(Running, "get", lambda _, path: whole if path == "/status" else {})
    assert look("http://127.0.0.1:1") == 1
    shown = capsys.readouterr().out
    assert "\\x1b" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert not any(line.startswith("id           forged") for line in shown.split("\n"))
    assert look("http://127.0.0.1:1", as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == whole


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """The command itself, in this process: the exit code, and all that was printed."""
    monkeypatch.setattr(sys, "argv", ["nats-sqs-bridge", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


@pytest.mark.parametrize(
    "answer",
    [
        response(b"<!doctype html><title>\x1b]0;x\x07</title>", "text/html"),
        response(b'{"routes": {"a": {"verdict": "OK", "state": "running"}}, "version": "1"}'),
        response(b"[" * 200_000),
        response(b"no host of that name here: \x1b[31m\n", "text/plain", 421),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"\x00\xff\x1b[2J\r\n\r\n",
        b"",
    ],
)
def test_something_else_is_a_sentence_and_one(
    answer: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    with answering(answer) as url:
        for arguments in (["status"], ["pause", "r", "--token-file", str(token)]):
            code, said = run(capsys, monkeypatch, *arguments, "--url", url)
            assert code in (1, 2)
            assert said.strip()
            assert all(line.isprintable() for line in said.split("\n"))


def test_an_answer_has_a_largest_size_and_a_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST_ANSWER", 1_000_000)
    monkeypatch.setattr(control, "ASKING_SECONDS", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 629145600\r\n\r\n"
    with answering(head, b"x" * 2_000_000, hold=True) as url, pytest.raises(Unavailable, match="more than 1,000,000"):
        Running(url).get("/status")
    for slow in (head, b"HTTP/1.1 200 OK\r\nX-Filler: ", b""):
        with answering(slow, hold=True) as url, pytest.raises(Unavailable, match="no daemon answers"):
            Running(url).get("/status")


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:x", "http://127.0.0.1:1/\n", "http://127.0.0.1:1/ü", "http://.."]
)
def test_an_address_no_request_can_be_made_for_is_no_traceback(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = run(capsys, monkeypatch, "status", "--url", url)
    assert code in (1, 2)
    assert said.strip()


def test_a_drain_that_is_followed_believes_no_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MISSED", 1)
    shapes: list[Any] = [None, [], {"r": 3}, {"r": []}]
    for routes in shapes:
        monkeypatch.setattr(Running, "_ask", lambda *_, routes=routes: (200, {"routes": routes}, ""))
        with pytest.raises(Unavailable, match="not nats-sqs-bridge"):
            control._follow(Running("http://127.0.0.1:1"), "r")
    odd = {"r": {"state": "drained", "drain": "x", "trouble": 3}}
    monkeypatch.setattr(Running, "_ask", lambda *_: (200, {"routes": odd}, ""))
    assert control._follow(Running("http://127.0.0.1:1"), "r") == 0


def test_what_readyz_says_may_be_read_in_a_terminal() -> None:
    observation = Observation()
    observation.route("in").not_open(Unavailable(EVIL), 1.0)
    with served(observation) as surface:
        code, _, text = Running(surface.url)._ask("GET", "/readyz", 5)
        assert (code, text.isprintable()) == (503, True)
        assert "\\x1b" in text
