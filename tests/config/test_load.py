"""What a good configuration gives, from the file and the environment; the examples; the reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config, JetStreamSourceConfig, SqsSourceConfig, json_schema, load, reference
from bridge.config.connections import NatsConnectionConfig, Section

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy").glob("*.yaml"))
EXAMPLES = [path for path in EXAMPLES if path.name.startswith("bridge.")]

ROUTE = """
routes:
  - name: payments-in
    source: {kind: sqs, queue: orders}
    destination: {kind: jetstream, subject: "orders.{group}"}
"""


def loaded(tmp_path: Path, text: str = ROUTE, **environ: str) -> Config:
    path = tmp_path / "bridge.yaml"
    path.write_text(text)
    return load(path, environ)


def test_defaults_need_nothing_but_a_route(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert config.nats.servers == ["nats://127.0.0.1:4222"]
    assert (config.http.host, config.http.port) == ("127.0.0.1", 9108)
    assert config.shutdown_timeout == 30
    assert isinstance(config.routes[0].source, SqsSourceConfig)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        f"nats: {{servers: [nats://file:1]}}\nconnections: {{hub-1: {{kind: nats}}}}{ROUTE}",
        BRIDGE_CONFIG="ignored here",
        BRIDGE_NATS__SERVERS="nats://a:4222, nats://b:4222",
        BRIDGE_AWS__REGION="eu-central-1",
        BRIDGE_HTTP__PORT="9200",
        BRIDGE_SHUTDOWN_TIMEOUT="5.5",
        BRIDGE_NATS__TLS__REQUIRED="true",
        BRIDGE_CONNECTIONS__HUB_1__SERVERS='["nats://hub:4222"]',
        BRIDGE_CONNECTIONS__SPOKE__KIND="aws",
        BRIDGE_ROUTES__0__SOURCE__QUEUE="other",
        BRIDGE_ROUTES__PAYMENTS_IN__MAX_IN_FLIGHT="77",
        UNRELATED="x",
    )
    assert config.nats.servers == ["nats://a:4222", "nats://b:4222"]
    assert config.aws.region == "eu-central-1"
    assert config.http.port == 9200
    assert config.shutdown_timeout == 5.5
    assert config.nats.tls is not None
    assert config.nats.tls.required
    assert isinstance(hub := config.connections["hub-1"], NatsConnectionConfig)
    assert hub.servers == ["nats://hub:4222"]
    assert config.connections["spoke"].kind == "aws"
    assert isinstance(config.routes[0].source, SqsSourceConfig)
    assert config.routes[0].source.queue == "other"
    assert config.routes[0].max_in_flight == 77


def test_lists_may_be_written_as_one_text(tmp_path: Path) -> None:
    text = """
nats: {servers: "nats://a:1,nats://b:2"}
routes:
  - name: out
    source: {kind: jetstream, stream: S, consumer: c, filter_subjects: "a.>, b.*"}
    destination: {kind: sns, topic: t}
"""
    config = loaded(tmp_path, text)
    assert config.nats.servers == ["nats://a:1", "nats://b:2"]
    assert isinstance(config.routes[0].source, JetStreamSourceConfig)
    assert config.routes[0].source.filter_subjects == ["a.>", "b.*"]


def test_secrets_come_from_files_and_are_masked(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    text = f"nats: {{servers: ['nats://u:hunter2@x'], user: me, password_file: {tmp_path}/password}}{ROUTE}"
    config = loaded(tmp_path, text)
    assert config.nats.password is not None
    assert config.nats.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(config.nats)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    assert load(path, {}).routes


def test_the_example_shows_every_key() -> None:
    """As README says. Commented keys count: they are shown."""
    text = (ROOT / "deploy" / "bridge.example.yaml").read_text()
    schema = json_schema()
    keys = {key for section in (schema, *schema["$defs"].values()) for key in section.get("properties", {})}
    missing = {key for key in keys if not re.search(rf"\b{key}\b", text)}
    assert not missing


def test_the_reference_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), (
        "nats-sqs-bridge schema --markdown > docs/configuration.md"
    )


def test_the_reference_leaves_no_section_out() -> None:
    text = reference()
    assert "<class" not in text
    for model in Section.__subclasses__():
        if not model.__subclasses__():  # connections say that they take the keys of nats and aws
            assert (model.__doc__ or "").strip() in text
            assert all(f"| `{name}` |" in text for name in model.model_fields)


def test_what_kubernetes_sets_for_a_service_called_bridge_is_passed_over(tmp_path: Path) -> None:
    links = {
        "BRIDGE_SERVICE_HOST": "10.0.0.1",
        "BRIDGE_SERVICE_PORT": "9108",
        "BRIDGE_SERVICE_PORT_HTTP": "9108",
        "BRIDGE_PORT": "tcp://10.0.0.1:9108",
        "BRIDGE_PORT_9108_TCP": "tcp://10.0.0.1:9108",
        "BRIDGE_PORT_9108_TCP_PROTO": "tcp",
        "BRIDGE_PORT_9108_TCP_ADDR": "10.0.0.1",
        "BRIDGE_METRICS_SERVICE_HOST": "10.0.0.2",
        "BRIDGE_METRICS_PORT_9108_TCP": "tcp://10.0.0.2:9108",
    }
    assert loaded(tmp_path, **links) == loaded(tmp_path)


def test_every_key_is_explained() -> None:
    def unexplained(schema: Any, name: str) -> list[str]:
        properties = schema.get("properties", {})
        return [f"{name}.{key}" for key, value in properties.items() if not value.get("description")]

    schema = json_schema()
    assert unexplained(schema, "") == []
    for name, definition in schema["$defs"].items():
        assert unexplained(definition, name) == []
        assert definition["description"]


def test_the_schema_knows_the_examples() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    for path in EXAMPLES:
        jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(json.dumps(json_schema())))
