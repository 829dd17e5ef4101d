"""pause, resume, drain and reload as an operator types them: output, exit codes, and what they say when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import MotoServer, NatsServer, free_port
from tests.system.process import Bridge, until
from tests.system.test_verbs import call
from tests.system.world import Aws, Nats

TOKEN = "a-token-nobody-guesses-4711"
VERBS = ("pause", "resume", "drain", "reload")


def route(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 2},
        "destination": {"kind": "jetstream", "subject": f"{name}.in"},
        **more,
    }


def written(folder: Path, **http: Any) -> str:
    """A configuration of a daemon that does not run, and its path."""
    file = folder / "bridge.yaml"
    file.write_text(json.dumps({"http": {"port": free_port(), **http}, "routes": [route("in")]}))
    return str(file)


@pytest.mark.parametrize("verb", VERBS)
def test_each_has_help_with_an_example(verb: str) -> None:
    text = call(verb, "--help").stdout
    assert "Example: nats-sqs-bridge" in text
    assert f"nats-sqs-bridge {verb}" in text
    assert "Exits " in text


@pytest.mark.parametrize("verb", VERBS)
def test_a_daemon_that_does_not_run_is_reported_with_what_to_try(verb: str, tmp_path: Path) -> None:
    arguments = [verb] if verb == "reload" else [verb, "in"]
    done = call(*arguments, "--config", written(tmp_path))
    assert done.returncode == 1
    assert "no daemon answers at http://127.0.0.1:" in done.stderr
    assert "Try: is it running (nats-sqs-bridge run)?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [*VERBS, "status"])
@pytest.mark.parametrize("text", ["routes: [", "colour: red", None])
def test_a_broken_file_says_how_to_go_without_one(verb: str, text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    if text is not None:
        file.write_text(text)
    done = call(*([verb] if verb in ("reload", "status") else [verb, "in"]), "--config", str(file))
    assert done.returncode == 2
    needs = "" if verb == "status" else " with --token-file FILE"
    said = " ".join(done.stderr.split())
    assert f"--url http://127.0.0.1:9108{needs} needs no file" in said
    assert said.count("Try:") == 1


def test_what_the_configuration_cannot_shows_must_be_said(tmp_path: Path) -> None:
    done = call("pause", "in", "--config", written(tmp_path, port=0))
    assert (done.returncode, "--url" in done.stderr) == (2, True)
    done = call("pause", "in", "--config", written(tmp_path), "--url", "bridge:9108")
    assert (done.returncode, "is not a URL" in done.stderr) == (2, True)
    done = call("pause", "in", "--config", written(tmp_path), "--token-file", str(tmp_path / "none"))
    assert (done.returncode, "cannot read" in done.stderr) == (2, True)


@pytest.mark.server
def test_the_verbs_end_to_end(tmp_path: Path, moto_server: MotoServer, nats_server: NatsServer, name: str) -> None:
    aws, nats = Aws(moto_server.url), Nats(nats_server.url)
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with Bridge(tmp_path, [route(name, drain_seconds=2)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        config, where = ("--config", str(bridge.config)), f"http://127.0.0.1:{bridge.port}"

        done = call("pause", name, *config)
        assert (done.returncode, "http.token_file" in done.stderr) == (2, True)
        bridge.rewrite(http={"port": bridge.port, "token_file": str(token)})
        bridge.hang_up()
        until(lambda: bridge.events("reloaded"), "reloaded")

        done = call("pause", name, *config, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{name} is paus")
        until(lambda: bridge.state(name) == "paused", "paused")
        done = call("drain", name, *config)
        assert (done.returncode, "resume it first" in done.stderr) == (1, True)
        assert call("resume", name, "--url", f"{where}/", "--token-file", str(token)).returncode == 0
        until(lambda: bridge.state(name) == "running", "running")

        done = call("pause", f"{name}x", *config)
        assert (done.returncode, f"did you mean {name}?" in done.stderr) == (2, True)
        wrong = tmp_path / "wrong"
        wrong.write_text("a-token-that-is-not-the-one")
        done = call("pause", name, *config, "--token-file", str(wrong))
        assert (done.returncode, "the token is wrong" in done.stderr) == (2, True)

        aws.send(url, [f"m{n}" for n in range(30)])
        done = call("drain", name, "--wait", *config)
        assert done.returncode == 0, done.stderr
        assert "drained: empty for " in done.stdout.splitlines()[-1]
        assert nats.count(name) == 30
        assert bridge.state(name) == "drained"

        bridge.rewrite(routes=[route(name, drain_seconds=600)])
        done = call("reload", *config)
        assert (done.returncode, done.stdout) == (0, f"reloaded: restarted {name}\n")
        good = bridge.config.read_text()
        bridge.rewrite(colour="red")
        done = call("reload", "--url", where, "--token-file", str(token))
        assert done.returncode == 2
        assert "nothing has changed" in done.stderr
        assert "colour: unknown key" in done.stderr
        bridge.config.write_text(good)

        assert call("resume", name, *config).returncode == 0
        waiting = subprocess.Popen(
            [sys.executable, "-m", "bridge", "drain", name, "--wait", *config],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert waiting.stdout is not None
        next(line for line in waiting.stdout if "reads in a row" in line)
        waiting.send_signal(signal.SIGINT)
        said, _ = waiting.communicate(timeout=30)
        assert waiting.returncode == 1
        assert "the drain continues in the daemon" in said
        assert bridge.state(name) == "draining"

        ended = subprocess.Popen(
            [sys.executable, "-m", "bridge", "drain", name, "--wait", *config],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )
        assert ended.stdout is not None
        next(line for line in ended.stdout if "reads in a row" in line)
        assert call("resume", name, *config).returncode == 0
        _, complained = ended.communicate(timeout=30)
        assert ended.returncode == 1
        assert "the drain has ended before the source was empty" in complained
        assert TOKEN not in bridge.log.read_text()
