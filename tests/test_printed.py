"""Whatever a person reads: text from outside is shown there, and does nothing."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO

import pytest
import structlog
from _pytest.logging import LogCaptureHandler

from bridge import cli
from bridge.config import RouteConfig
from bridge.core.errors import BridgeError, ConfigError, Failed, Unavailable, Unmappable
from bridge.core.findings import Finding
from bridge.core.mapping.parked import Parked
from bridge.core.models import Attribute, JetStreamMessage, SqsMessage
from bridge.core.plain import plain, plain_document
from bridge.core.route import Receipt
from bridge.demo import show as demo
from bridge.legs.parking import Shelved
from bridge.observe import Observation, configure_logs
from bridge.page.html import SHOWN, el
from bridge.verbs import check, parked
from bridge.verbs.printed import console
from tests.page.documents import delivery, opened
from tests.page.test_html import Heard

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "c1": "\x9b2J\x85",
    "bidi": "invoice\u202efdp.exe\u2066x\u2069",
    "invisible": "a\u200bd\u2060m\ufeffin\u00ad",
    "lines": "one\r\nid           forged\n2026-01-01 [error] forged\u2028x",
    "return": "harmless\rOK        ",
    "surrogate": "\ud83dx\udc00",
    "markup": "[red]not red[/red] [link=https://x]y[/link] [/]",
    "tab": "a\tb\x0b\x0c",
}
ROUTE = RouteConfig.model_validate(
    {"name": "in", "source": {"kind": "sqs", "queue": "q"}, "destination": {"kind": "jetstream", "subject": "a.b"}}
)


@pytest.fixture(params=HOSTILE, ids=str)
def text(request: pytest.FixtureRequest) -> str:
    return HOSTILE[request.param]


def harmless(shown: str) -> None:
    """Nothing but printable text and newlines, and none of these starts a line of its own making."""
    for line in shown.split("\n"):
        assert line.isprintable(), ascii(line)
        assert not line.startswith(("id           forged", "2026-01-01 [error] forged"))


def printed(capsys: pytest.CaptureFixture[str], what: Callable[[], object]) -> str:
    what()
    said = capsys.readouterr()
    harmless(said.out + said.err)
    return said.out + said.err


def shelved(text: str) -> Iterator[Shelved]:
    sqs = SqsMessage(text, f"{text}\n{text}", text, text, {text: Attribute("String", text)}, {text: text})
    payload = text.encode(errors="surrogatepass")
    nats = JetStreamMessage(text, payload, text, 7, 1.0, 1, ((text, text),))
    for message in (sqs, nats):
        for at in (1.7e9, 1e300, float("nan"), -1e18):
            yield Shelved(Parked(message, text, text, text, 1), at, 10, None)


def test_parked_list_and_show(text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = [(ROUTE, each) for each in shelved(text)]
    printed(capsys, lambda: console().print(parked._table(found)))
    for each in shelved(text):
        if each.at == 1.7e9:
            parked._print_whole(ROUTE, each)
            shown = capsys.readouterr().out
            harmless(shown)
            margin = [line for line in shown.split("\n") if line and not line.startswith(" ")]
            assert len(margin) <= 13  # a member each, and no line that a body has made
            json.loads(json.dumps(parked._document(ROUTE, each, whole=True)))


def test_an_id_may_be_given_as_it_was_printed() -> None:
    (first, *_) = shelved(HOSTILE["title"])
    assert parked.Choice(ids=("\\x1b]0;owned\\x07",)).means(first, 1.7e9)
    assert parked.Choice(ids=(HOSTILE["title"],)).means(first, 1.7e9)
    assert not parked.Choice(ids=("owned",)).means(first, 1.7e9)


def test_check(text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    findings = [Finding(level, text, text, text, text) for level in ("error", "warning", "ok")]
    shown = printed(capsys, lambda: check._show(findings, console()))
    if text == HOSTILE["markup"]:
        assert text in shown


@pytest.mark.parametrize("error", [ConfigError, Failed, Unavailable])
def test_the_sentence_a_command_ends_with(
    text: str, error: type[BridgeError], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = capsys.readouterr().err
    cli._complain(error(f"one: {text}", hint=text))
    shown = capsys.readouterr().err
    assert all(line.isprintable() for line in shown.split("\n"))
    if error is not ConfigError:  # whose complaints have a line each
        harmless(shown)
    if text == HOSTILE["markup"]:
        assert shown.count(text) == 2


def test_the_demo(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    observation = Observation()
    opened(observation, "in")
    capsys.readouterr()
    status = {"routes": {text: {**observation.snapshot()["routes"]["in"], "state": text}}}
    printed(capsys, lambda: console().print(demo.routes(plain_document(status))))
    printed(capsys, lambda: console().print(demo.summary(1, {plain(text): 1}, [], [plain(text)])))


@pytest.fixture
def console_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    root, log = logging.getLogger(), StringIO()
    before = root.level, list(root.handlers)
    monkeypatch.setattr(sys, "stderr", log)
    configure_logs("console", "debug")
    yield log
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    structlog.reset_defaults()


def test_the_log_on_a_console(text: str, console_log: StringIO) -> None:
    observation = Observation()
    route = opened(observation, "in")
    route.parked(delivery(1, text), Unmappable(text, text), Receipt(text))
    route.not_open(Unavailable(text, hint=text), 1.0)
    observation.connection(text, "disconnected", text)
    observation.reload_failed(text, [text, text])
    observation.log.info(text, nested={text: [text]}, other=Failed(text))
    # pytest's own handlers would keep the text for a report, which cannot hold half a surrogate pair.
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, LogCaptureHandler)]
    logging.getLogger("nats").error("it said %s", text)
    lines = console_log.getvalue().splitlines()
    assert len(lines) == 7
    harmless(console_log.getvalue())


def test_the_log_as_json_keeps_what_was_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    configure_logs("json", "info")
    try:
        structlog.get_logger().info("odd", id=text)
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    (line,) = log.getvalue().splitlines()
    assert json.loads(line)["id"] == text
    assert line.isascii()


def test_the_page_shows_what_hides_or_turns(text: str) -> None:
    said = Heard(el("p", text, title=text)).said
    assert all(character.isprintable() or character in "\t\n\r " for character in said)
    if text in (HOSTILE["bidi"], HOSTILE["invisible"], HOSTILE["c1"]):
        assert SHOWN in said
