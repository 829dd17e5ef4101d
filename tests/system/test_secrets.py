"""No secret and nothing of a message in what the daemon shows: logs of both formats, /status, /metrics, /readyz and the
output of `check`, while all is well and while the server refuses us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import MotoServer, NatsServer
from tests.system.process import Bridge, until
from tests.system.test_verbs import call
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

WAYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "user and password": ("user: me, password: hunter2", {"user": "me", "password": "hunter2"}, ""),
    "a password in the URL": ("user: me, password: hunter2", {}, "me:hunter2@"),
    "a token": ("token: hunter2", {"token": "hunter2"}, ""),
    "a token in the URL": ("token: hunter2", {}, "hunter2@"),
}
SECRETS = ("hunter2", "aws-s3cret", "body-s3cret", "attribute-s3cret")


@pytest.mark.parametrize(("way", "log"), list(zip(WAYS, ["json", "console", "console", "json"], strict=True)))
def test_no_secret_is_shown(
    tmp_path: Path, moto_server: MotoServer, name: str, monkeypatch: pytest.MonkeyPatch, way: str, log: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-s3cret")
    authorization, login, prefix = WAYS[way]
    aws = Aws(moto_server.url)
    aws.send(aws.queue(name), ["body-s3cret"] * 3, kind="attribute-s3cret")
    route = {
        "name": "in",
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.{{attributes.missing}}"},
        "parking": {"kind": "jetstream", "subject": f"{name}.parked"},
    }
    server = NatsServer(tmp_path / "nats", config=f"authorization {{ {authorization} }}")
    with server:
        inside = server.url.replace("//", f"//{prefix or ('me:hunter2@' if 'user' in authorization else 'hunter2@')}")
        Nats(inside).stream(name, f"{name}.>")
        url = server.url.replace("//", f"//{prefix}")
        bridge = Bridge(tmp_path, [route], nats=url, aws=aws.url, log={"format": log, "level": "debug"})
        document = json.loads(bridge.config.read_text())
        document["nats"] |= login
        bridge.config.write_text(json.dumps(document))
        with bridge:
            until(lambda: bridge.count("in", "parked") == 3, "parked")
            shown = [bridge.get(path)[1] for path in ("/status", "/metrics", "/readyz", "/")]
            shown.append(call("check", "--config", str(bridge.config)).stdout)
            shown.append(call("parked", "list", "--config", str(bridge.config)).stdout)
            server.kill()
            server.config = "authorization { token: another }"
            server.start()
            until(lambda: "uthorization" in bridge.log.read_text(), "the server refuses us")
            aws.send(aws.queue(name), ["body-s3cret"], kind="attribute-s3cret")
            until(lambda: bridge.status("in")["trouble"], "the route is in trouble")
            shown += [bridge.get(path)[1] for path in ("/status", "/metrics", "/readyz")]
            done = call("check", "--config", str(bridge.config))
            shown += [done.stdout, done.stderr]
    shown.append(bridge.log.read_text())
    assert "no value in this message" in "".join(shown)  # the reason is shown, and what it is about is not
    for text in shown:
        assert not [secret for secret in SECRETS if secret in text], text
