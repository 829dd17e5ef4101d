"""`status` as an operator types it: the real command against the daemon's own HTTP surface."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.errors import NotUsable, Unmappable
from bridge.embedded import MotoServer, free_port
from bridge.observe import Observation
from bridge.verbs.status import BARS, spark
from tests.page.documents import Served, abandoned, carried, delivery, opened, served, watched
from tests.page.test_page import busy
from tests.system.process import until
from tests.system.test_verbs import call

pytestmark = pytest.mark.server

COMMAND = [sys.executable, "-m", "bridge", "status"]


@pytest.fixture
def calm() -> Iterator[Served]:
    observation = Observation()
    route = opened(observation, "payments-in")
    carried(route, 12)
    watched(route, "new", "jetstream", "PAYMENTS/validation")
    opened(observation, "settlements-back").paused()
    observation.judge()
    with served(observation) as surface:
        yield surface


@pytest.fixture
def broken() -> Iterator[Served]:
    observation = busy()
    observation.judge()
    with served(observation) as surface:
        yield surface


def test_all_is_well_is_zero_and_what_rests_on_purpose_is_well(calm: Served) -> None:
    done = call("status", "--url", calm.url)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[1]
    assert re.fullmatch(r"AT REST  1 route is paused since \d\d:\d\d UTC; 0 wait", first), first
    assert "$ nats-sqs-bridge resume settlements-back" in done.stdout
    assert "All is well" not in done.stdout
    assert "settlements-back is paused" in done.stdout
    assert "12 carried" in done.stdout


def test_a_stopped_route_is_one_and_comes_first(broken: Served) -> None:
    done = call("status", "--url", broken.url)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[1].startswith("STOPPED  third is STOPPED")
    assert "connection refused" in lines[2]
    for text in (
        "PAYMENTS/validation",
        "no client is reading",
        "1,207",
        "unknown",
        "2 messages in the dead-letter queue",
        "8 parked since the start",
    ):
        assert text in done.stdout, text
    assert (
        done.stdout.index("\nthird ") < done.stdout.index("\npayments-in ") < done.stdout.index("\nsettlements-back ")
    )


def test_a_consumer_of_others_that_stalls_is_shown_and_changes_no_exit_code() -> None:
    observation = Observation()
    abandoned(watched(opened(observation, "in"), "new", "jetstream", "S/c"))
    observation.judge()
    with served(observation) as surface:
        done = call("status", "--url", surface.url)
    assert done.returncode == 0
    assert "STALLED  Consumer S/c is not acknowledging messages" in done.stdout
    assert "$ nats consumer info S c" in done.stdout


def test_a_refused_reload_is_a_note_and_changes_no_exit_code(calm: Served) -> None:
    calm.observation.reload_failed("alice", ["bridge.yaml:3: routes[0].colour: unknown key"])
    done = call("status", "--url", calm.url)
    assert done.returncode == 0
    assert "note  The configuration on disk is wrong; the next start would fail" in done.stdout
    assert "routes[0].colour: unknown key" in done.stdout
    assert "$ nats-sqs-bridge check" in done.stdout


def test_what_is_left_to_the_source_is_a_warning_and_changes_no_exit_code() -> None:
    observation = Observation()
    route = opened(observation, "in")
    route.rejected(delivery(1), Unmappable("subject", "the attribute eventType is missing"), 1.0)
    observation.judge()
    with served(observation) as surface:
        done = call("status", "--url", surface.url)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith(
        "WARNING  in: once since the start a message could be neither carried nor parked"
    )
    assert "the attribute eventType is missing" in done.stdout


def test_of_several_routes_that_are_down_each_says_why_and_what_to_do() -> None:
    observation = Observation()
    opened(observation, "fine")
    for name in ("a", "b"):
        missing = NotUsable(f"queue {name} does not exist", hint=f"aws sqs create-queue --queue-name {name}")
        observation.route(name).not_open(missing, 1.0)
    observation.judge()
    with served(observation) as surface:
        done = call("status", "--url", surface.url)
    assert done.returncode == 1
    said = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    for name in ("a", "b"):
        own = said.partition(f"\n{name}  STOPPED")[2].partition("\n\n")[0].splitlines()
        assert own[1] == f"  queue {name} does not exist"
        assert own[2] == f"  Try: aws sqs create-queue --queue-name {name}"
        assert not any("verdict" in line for line in own)  # no table without a row
    assert said.count("  oldest") == 1


def test_one_route_alone_decides_when_it_is_named(broken: Served) -> None:
    assert call("status", "--url", broken.url, "settlements-back").returncode == 0
    assert "payments-in" not in call("status", "--url", broken.url, "settlements-back").stdout
    assert call("status", "--url", broken.url, "third").returncode == 1
    unknown = call("status", "--url", broken.url, "nope")
    assert unknown.returncode == 2
    assert "there is no route nope; there are: payments-in, settlements-back, third" in unknown.stderr


def test_json_is_what_the_daemon_says(calm: Served) -> None:
    done = call("status", "--url", calm.url, "--json", "payments-in")
    document = json.loads(done.stdout)
    assert list(document["routes"]) == ["payments-in"]
    assert document["routes"]["payments-in"] == calm.observation.snapshot()["routes"]["payments-in"]
    assert document["version"]


@pytest.mark.parametrize("columns", ["30", "45", "60", "80", "104", "200"])
def test_it_fits_any_terminal_and_says_every_verdict(broken: Served, columns: str) -> None:
    done = call("status", "--url", broken.url, COLUMNS=columns)
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    for verdict in ("STOPPED", "STALLED", "UNKNOWN", "OK"):
        assert re.search(rf"\b{verdict}\b", done.stdout), verdict
    assert ("retention left" in done.stdout) == (int(columns) >= 104)


def test_no_one_there_is_one_with_a_sentence() -> None:
    done = call("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "no daemon answers at" in done.stderr
    assert "Try:" in done.stderr
    assert "Traceback" not in done.stderr


def test_someone_else_there_is_distinguished(moto_server: MotoServer) -> None:
    done = call("status", "--url", moto_server.url)
    assert done.returncode == 1
    assert "answered" in done.stderr or "not nats-sqs-bridge" in done.stderr


def test_the_daemon_is_found_through_configuration_and_environment(calm: Served, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    route = {
        "name": "r",
        "source": {"kind": "sqs", "queue": "q"},
        "destination": {"kind": "jetstream", "subject": "a.b"},
    }
    config.write_text(json.dumps({"nats": {"servers": ["nats://x"]}, "http": {"host": "0.0.0.0"}, "routes": [route]}))
    done = call("status", "-c", str(config), BRIDGE_HTTP__PORT=calm.url.rpartition(":")[2])
    assert "1 route is paused" in done.stdout, done.stderr
    missing = call("status", "-c", str(tmp_path / "none.yaml"))
    assert missing.returncode == 2
    assert "there is no configuration file" in missing.stderr


def watching(surface: Served, *arguments: str, out: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90", "LINES": "30"}
    command = [*COMMAND, "--watch", "--url", surface.url, *arguments]
    return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)


def test_watching_into_a_file_goes_on_through_a_silence(calm: Served, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = watching(calm, out=file.fileno())
        try:
            until(lambda: log.read_text().count("1 route is paused") >= 2, "two frames")
            carried(calm.observation.route("payments-in"), 4_000)
            until(lambda: "4,012 carried" in log.read_text(), "the new count")
            calm.stop()
            until(lambda: "NO ANSWER" in log.read_text(), "the silence")
            assert "\x1b" not in log.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1
        finally:
            process.kill()
            process.wait()


def test_watching_as_json_is_a_line_each(calm: Served, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = watching(calm, "--json", out=file.fileno())
        try:
            until(lambda: log.read_text().count("\n") >= 2, "two lines")
            calm.stop()
            until(lambda: '{"error"' in log.read_text(), "the silence")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1
        finally:
            process.kill()
            process.wait()
    assert all(json.loads(line) for line in log.read_text().splitlines())


def test_watching_in_a_terminal_draws_in_place_and_leaves_it_as_it_was(calm: Served) -> None:
    ours, theirs = pty.openpty()
    process = watching(calm, out=theirs)
    os.close(theirs)
    seen = b""
    try:
        while seen.count(b"1 route is paused") < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while b"\x1b[?1049l" not in seen:
            seen += os.read(ours, 65536)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"\x1b[?1049h" in seen
    assert b"Traceback" not in seen


def test_a_spark_shows_the_worst_of_each_part_and_blanks_what_is_unknown() -> None:
    assert spark([0, 1, None, 8]) == f"{BARS[0]}{BARS[0]} {BARS[7]}"
    assert spark([]) == ""
    assert spark([None, None]) == "  "
    long = spark([0.0] * 359 + [5.0])
    assert len(long) == 20
    assert long.endswith(BARS[7])


def test_a_route_that_opens_again_is_no_failure_any_more(calm: Served) -> None:
    route = calm.observation.route("payments-in")
    route.not_open(NotUsable("queue payments-bridge does not exist", hint="create it"), 1.0)
    calm.observation.judge()
    assert call("status", "--url", calm.url).returncode == 1
    opened(calm.observation, "payments-in")
    calm.observation.judge()
    assert call("status", "--url", calm.url).returncode == 0
