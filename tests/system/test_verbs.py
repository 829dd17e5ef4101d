"""The commands as an operator types them: output, exit codes, and that check changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge import __version__
from bridge.embedded import MotoServer, NatsServer
from tests.system.process import until
from tests.system.world import Aws, Nats


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # Wide, so that a sentence the test looks for is not broken over two lines.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**environment, "COLUMNS": "200", **environ},
        check=False,
    )


def test_version_and_help() -> None:
    assert call("--version").stdout == f"nats-sqs-bridge {__version__}\n"
    whole = call("--help")
    assert "Exit codes: 0 done, 1 failed, 2 bad configuration or usage." in whole.stdout
    for verb in ("run", "check", "demo", "schema"):
        assert verb in whole.stdout
        assert f"Example: nats-sqs-bridge {verb}" in call(verb, "--help").stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["demo", "--seconds", "x"]])
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert call(*arguments).returncode == 2


def test_schema_prints_json_and_markdown() -> None:
    assert json.loads(call("schema").stdout)["title"] == "nats-sqs-bridge configuration"
    assert call("schema", "--markdown").stdout.startswith("# Configuration")


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_missing_file_is_two_with_a_hint(verb: str, tmp_path: Path) -> None:
    done = call(verb, "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "there is no configuration file" in done.stderr
    assert "Try:" in done.stderr
    assert "Traceback" not in done.stderr


class Checked:
    def __init__(
        self, path: Path, routes: list[dict[str, Any]], nats: str, aws: str, login: dict[str, str] | None = None
    ) -> None:
        document = {
            "nats": {"servers": [nats], "connect_timeout": 2, **(login or {})},
            "aws": {"region": "eu-west-1", "endpoint_url": aws},
            "routes": routes,
        }
        path.write_text(json.dumps(document))
        self.done = call("check", "--config", str(path), "--json")
        assert self.done.stdout.startswith("["), self.done.stderr
        self.findings = json.loads(self.done.stdout)
        self.table = call("check", "--config", str(path)).stdout

    def said(self, level: str) -> list[str]:
        return [f"{each['text']} | {each['advice']}" for each in self.findings if each["level"] == level]


PARKED = {"kind": "jetstream", "subject": "check.parked"}


def inward(name: str, queue: str, subject: str, **more: Any) -> dict[str, Any]:
    destination = {"kind": "jetstream", "subject": subject}
    return {"name": name, "source": {"kind": "sqs", "queue": queue}, "destination": destination, **more}


def outward(name: str, stream: str, consumer: str, **destination: str) -> dict[str, Any]:
    source = {"kind": "jetstream", "stream": stream, "consumer": consumer}
    return {"name": name, "source": source, "destination": destination, "parking": PARKED}


@pytest.mark.server
def test_check_finds_what_is_missing_and_what_will_hurt(
    tmp_path: Path, moto_server: MotoServer, nats_server: NatsServer, name: str
) -> None:
    aws, nats = Aws(moto_server.url), Nats(nats_server.url)
    url = aws.queue(name, VisibilityTimeout="45")
    aws.queue(f"{name}-in", MessageRetentionPeriod="60")
    aws.send(url, ["untouched"])
    nats.stream(name, f"{name}.in.>", duplicate_window=20 * 10**9)
    nats.stream(f"{name}B", f"{name}.back.>", retention="workqueue")
    nats.consumer(f"{name}B", "ours", ack_wait=5 * 10**9, filter_subject=f"{name}.back.a")
    nats.consumer(f"{name}B", "theirs", filter_subject=f"{name}.back.b")
    nats.consumer(name, "echo")
    watch = [
        {"kind": "sqs", "queue": name},
        {"kind": "sqs", "queue": f"{name}-old"},
        {"kind": "jetstream", "stream": f"{name}B"},
        {"kind": "jetstream", "stream": f"{name}B", "consumer": "nobody"},
        {"kind": "jetstream", "stream": f"{name}C", "consumer": "c"},
    ]
    routes = [
        inward("in", name, f"{name}.in.x", watch=watch),
        inward("inside", f"{name}-in", f"{name}.in.x", parking={"kind": "jetstream", "subject": f"{name}.in.parked"}),
        inward("lost", name + "-missing", f"{name}.nowhere"),
        outward("back", f"{name}B", "ours", kind="sns", topic=f"{name}-missing"),
        {**outward("echo", name, "echo", kind="sqs", queue=name), "echo": "carry"},
        outward("gone", name, "gone", kind="sqs", queue=name),
    ]
    checked = Checked(tmp_path / "bridge.yaml", routes, nats.url, aws.url)
    assert checked.done.returncode == 1
    errors, warnings = "\n".join(checked.said("error")), "\n".join(checked.said("warning"))
    for words in (
        f"aws sqs create-queue --queue-name {name}-missing",
        f"no stream captures {name}.nowhere",
        f"there is no SNS topic {name}-missing",
        f"nats consumer add {name} gone",
        "no stream captures check.parked",
        "messages would loop forever: in -> echo -> in",
    ):
        assert words in errors, words
    unseen = {each["what"]: each for each in checked.findings if each["what"].startswith("watch")}
    assert set(unseen) == {"watch[1]", "watch[3]", "watch[4]"}
    assert all(each["text"].endswith("; its lag will be unknown") for each in unseen.values())
    assert unseen["watch[3]"]["advice"] == f"consumers of {name}B here are ours, theirs"
    assert unseen["watch[4]"]["advice"].startswith("streams here are ")
    for words in (
        "its duplicate window (20 s) is shorter than the route needs (1855 s: longest_outage 1800 s",
        f"it lies inside stream {name}: its consumers (echo) are given parked messages",
        "it keeps a message for 60 s, and longest_outage is 1800 s",
        "it is a work queue that others consume too (theirs)",
        "its ack wait is 5 s; a batch of 200 can take",
        "it has no redrive policy and the route no parking",
    ):
        assert words in warnings, words
    assert "create-queue" in checked.table
    # Nothing was touched: the message is there, was never received, and nothing is in flight.
    assert aws.counts(url) == (1, 0)
    (message,) = aws.drain(url, 1)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    info = nats.api(f"CONSUMER.INFO.{name}B.ours")
    assert (info["num_waiting"], info["num_ack_pending"]) == (0, 0)


@pytest.mark.server
def test_check_is_content_with_a_sound_world(
    tmp_path: Path, moto_server: MotoServer, nats_server: NatsServer, name: str
) -> None:
    aws, nats = Aws(moto_server.url), Nats(nats_server.url)
    aws.queue(name)
    nats.stream(name, f"{name}.>", duplicate_window=3600 * 10**9)
    nats.stream(f"{name}P", f"parked.{name}")
    parking = {"kind": "jetstream", "subject": f"parked.{name}"}
    checked = Checked(tmp_path / "b.yaml", [inward("in", name, f"{name}.x", parking=parking)], nats.url, aws.url)
    assert checked.done.returncode == 0
    assert {each["level"] for each in checked.findings} == {"ok"}
    assert "it needs a duplicate window of 1840 s" in "".join(each["text"] for each in checked.findings)
    assert "0 errors, 0 warnings." in checked.table


@pytest.mark.server
def test_check_shows_what_the_nats_user_may_not_do(tmp_path: Path, moto_server: MotoServer, name: str) -> None:
    aws = Aws(moto_server.url)
    aws.queue(name)
    config = (
        "max_payload: 1MB\n"
        "authorization { users = [ { user: admin, password: a }, { user: bridge, password: b, permissions: "
        '{ publish: { allow: ["$JS.API.>", "$SYS.REQ.USER.INFO"] } } } ] }'
    )
    with NatsServer(tmp_path / "nats", config=config) as server:
        admin = server.url.replace("nats://", "nats://admin:a@")
        Nats(admin).stream(name, f"{name}.>")
        login = {"user": "bridge", "password": "b"}
        checked = Checked(tmp_path / "b.yaml", [inward("in", name, f"{name}.x")], server.url, aws.url, login)
    assert f"the NATS user may not publish {name}.x | allow it" in "\n".join(checked.said("error"))
    assert "max_payload is 1,048,576 bytes" in "\n".join(checked.said("warning"))


@pytest.mark.server
def test_check_says_that_it_cannot_know_what_the_nats_user_may_do(
    tmp_path: Path, moto_server: MotoServer, name: str
) -> None:
    """A user with a list of allowed subjects may often not ask for it. Unknown is not the same as allowed."""
    aws = Aws(moto_server.url)
    aws.queue(name)
    config = (
        "authorization { users = [ { user: admin, password: a }, { user: bridge, password: b, permissions: "
        f'{{ publish: {{ allow: ["$JS.API.>", "{name}.>"] }} }} }} ] }}'
    )
    with NatsServer(tmp_path / "nats", config=config) as server:
        Nats(server.url.replace("nats://", "nats://admin:a@")).stream(name, f"{name}.>")
        login = {"user": "bridge", "password": "b"}
        checked = Checked(tmp_path / "b.yaml", [inward("in", name, f"{name}.x")], server.url, aws.url, login)
    assert "the server does not say what this NATS user may do" in "\n".join(checked.said("warning"))


@pytest.mark.server
def test_check_without_a_server_says_so(tmp_path: Path) -> None:
    routes = [inward(name, name, "a.b", parking=PARKED, ledger={"bucket": "b"}) for name in ("one", "two")]
    checked = Checked(tmp_path / "b.yaml", routes, "nats://127.0.0.1:1", "http://127.0.0.1:1")
    assert checked.done.returncode == 1
    said = [(each["route"], each["what"], each["advice"]) for each in checked.findings if each["level"] == "error"]
    assert sorted(said) == [
        (route, *about)
        for route in ("one", "two")
        for about in (
            ("AWS default", "is aws.endpoint_url right, is the network open?"),
            ("NATS default", "start nats-server, or fix nats.servers"),
        )
    ]


@pytest.mark.server
def test_the_demo_ends_well_and_leaves_nothing_running(name: str) -> None:
    done = call("demo", "--seconds", "4", "--rate", "30", MARK=name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every consumer has seen every one of" in done.stdout
    assert running(name) == []


@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(number: signal.Signals, tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "bridge", "demo", "--keep"]
        demo = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "MARK": name})
        until(lambda: "producing" in log.read_text(), "producing")
        assert len(running(name)) == 4  # the demo, its two servers and the daemon
        demo.send_signal(number)
        assert demo.wait(60) == 130, log.read_text()
    assert running(name) == []


def running(mark: str) -> list[str]:
    """The command lines of the processes that were started with MARK=`mark`, at any remove."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
