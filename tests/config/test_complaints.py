"""One bad configuration per rule, and the exact sentence the operator reads."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from bridge.config import load
from bridge.core.errors import ConfigError

ROUTE = """
routes:
  - name: in
    source: {kind: sqs, queue: orders}
    destination: {kind: jetstream, subject: orders}
"""


def complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, **environ: str) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("bridge.yaml").write_text(dedent(text))
    with pytest.raises(ConfigError) as raised:
        load(None, environ)
    said = str(raised.value).splitlines()
    for jargon in ("Input should", "type=", "pydantic", "validation error", "value_error", "Field required"):
        assert jargon not in str(raised.value)
    return said


def route(source: str = "", destination: str = "", more: str = "") -> str:
    """One route on known lines: source is line 4, destination line 5, anything more line 6."""
    source = source or "{kind: sqs, queue: orders}"
    destination = destination or "{kind: jetstream, subject: orders}"
    return f"\nroutes:\n  - name: in\n    source: {source}\n    destination: {destination}\n    {more}\n"


CASES: dict[str, tuple[str, list[str]]] = {
    "an unknown key, with the nearest": (
        route("{kind: sqs, queu: orders}"),
        [
            'bridge.yaml:4: routes[0].source.queu: unknown key; did you mean "queue"?',
            "bridge.yaml:4: routes[0].source.queue: it is missing; add queue: Name, URL or ARN",
        ],
    ),
    "an unknown key, with those known": (
        f"zzz: 1{ROUTE}",
        [
            "bridge.yaml:1: zzz: unknown key; known here: nats, aws, connections, http, tracing, log, sampling, shutdown_timeout, routes",
        ],
    ),
    "a token file that is not there": (
        f"http: {{token_file: /nowhere}}{ROUTE}",
        ["bridge.yaml:1: http.token_file: cannot read /nowhere: No such file or directory"],
    ),
    "a token file that holds no token": (
        f"http: {{token_file: /dev/null}}{ROUTE}",
        ["bridge.yaml:1: http.token_file: /dev/null is empty; make one with: openssl rand -hex 32"],
    ),
    "a drain that would prove nothing": (
        route(more="drain_seconds: 0.5"),
        ["bridge.yaml:6: routes[0].drain_seconds: it must be at least 1 (0.5)"],
    ),
    "an unknown key of a connection": (
        f"connections: {{hub: {{kind: nats, server: x}}}}{ROUTE}",
        ['bridge.yaml:1: connections.hub.server: unknown key; did you mean "servers"?'],
    ),
    "a budget smaller than one message may be": (
        route(more="max_in_flight_bytes: 1000"),
        ["bridge.yaml:6: routes[0].max_in_flight_bytes: it must be at least 1048576 (1000)"],
    ),
    "verify without envelopes": (
        route('{kind: sqs, queue: orders, envelope: never, verify: ["arn:aws:sns:eu-west-1:123456789012:t"]}'),
        [
            "bridge.yaml:4: routes[0].source.verify: envelope is never, so there is nothing to verify; leave one of them out",
        ],
    ),
    "an envelope of no topic": (
        route("{kind: jetstream, stream: S, consumer: c}", "{kind: sqs, queue: orders, envelope: payments}"),
        [
            "bridge.yaml:5: routes[0].destination.envelope: not a topic ARN; for example arn:aws:sns:eu-west-1:123456789012:orders ('payments')",
        ],
    ),
    "a share of spans beyond all": (
        f"tracing: {{sample_ratio: 1.5}}{ROUTE}",
        ["bridge.yaml:1: tracing.sample_ratio: it must be at most 1 (1.5)"],
    ),
    "a collector that is no URL": (
        f"tracing: {{endpoint: 'collector:4318'}}{ROUTE}",
        ["bridge.yaml:1: tracing.endpoint: not a URL; for example http://127.0.0.1:4566 ('collector:4318')"],
    ),
    "a secret in a URL": (
        f"tracing: {{endpoint: 'http://me:secret@collector:4318'}}{ROUTE}",
        [
            "bridge.yaml:1: tracing.endpoint: it holds a user or password, which have no place in a URL; leave them out ('http://***@collector:4318')",
        ],
    ),
    "a heartbeat that never rests": (
        route(more="heartbeat: {every: 0}"),
        ["bridge.yaml:6: routes[0].heartbeat.every: it must be at least 1 (0)"],
    ),
    "a claim check of no kind": (
        route(more="claim_check: {kind: s4, bucket: large}"),
        ["bridge.yaml:6: routes[0].claim_check: kind must be s3, object_store ('s4')"],
    ),
    "a block where there are no groups": (
        route(more="cannot_carry: block"),
        [
            "bridge.yaml:6: routes[0].cannot_carry: orders is not a FIFO queue or topic (.fifo) and has no groups; write park",
        ],
    ),
    "a delivery time without a place to wait": (
        route(destination='{kind: jetstream, subject: orders, deliver_at: "{attributes.at}"}'),
        ["bridge.yaml:5: routes[0].destination.deliver_at: it needs schedules; add it"],
    ),
    "a ledger that is no bucket": (
        route(more='ledger: {bucket: "a b"}'),
        [
            "bridge.yaml:6: routes[0].ledger.bucket: not a bucket name; write letters, digits, _ and - ('a b')",
        ],
    ),
    "a claim check in no bucket of S3's": (
        route(more="claim_check: {kind: s3, bucket: Large}"),
        [
            "bridge.yaml:6: routes[0].claim_check.bucket: not an S3 bucket name; write 3 to 63 lower-case letters, digits, dots and - ('Large')",
        ],
    ),
    "no routes": (
        "aws: {region: x}",
        ["bridge.yaml:1: routes: it is missing; add routes: What is carried from where to where"],
    ),
    "empty routes": ("routes: []", ["bridge.yaml:1: routes: it must not be empty"]),
    "an empty file": ("", ["bridge.yaml: routes: it is missing; add routes: What is carried from where to where"]),
    "routes that are no list": (
        "routes: {a: b}",
        ["bridge.yaml:1: routes: it must be a list; write - before each item, or [a, b]"],
    ),
    "a section that is no mapping": (
        f"http: 9108{ROUTE}",
        ["bridge.yaml:1: http: it must hold keys and values, indented below it"],
    ),
    "a key written twice": (
        f"aws: {{region: a}}\naws: {{region: b}}{ROUTE}",
        ["bridge.yaml:2: aws: written twice, in line 1 too; keep one"],
    ),
    "a number out of range": (
        f"http: {{port: 99999}}{ROUTE}",
        ["bridge.yaml:1: http.port: it must be at most 65535 (99999)"],
    ),
    "a number that is none": (
        f"http: {{port: many}}{ROUTE}",
        ["bridge.yaml:1: http.port: not a whole number ('many')"],
    ),
    "a boolean that is none": (
        f"nats: {{tls: {{required: perhaps}}}}{ROUTE}",
        ["bridge.yaml:1: nats.tls.required: it is neither true nor false ('perhaps')"],
    ),
    "a text YAML reads as a boolean": (
        f"aws: {{region: no}}{ROUTE}",
        ["bridge.yaml:1: aws.region: it must be text (False); put quotes around it"],
    ),
    "an unquoted template": (
        route(destination="{kind: jetstream, subject: {group}}"),
        ["bridge.yaml:5: routes[0].destination.subject: YAML reads {…} as a mapping; put quotes around it"],
    ),
    "a choice that is none": (
        f"log: {{level: loud}}{ROUTE}",
        ["bridge.yaml:1: log.level: it must be debug, info, warning or error ('loud')"],
    ),
    "a kind that is none": (
        route("{kind: kafka, topic: x}"),
        ["bridge.yaml:4: routes[0].source: kind must be sqs, jetstream ('kafka')"],
    ),
    "a kind that is missing": (route("{queue: x}"), ["bridge.yaml:4: routes[0].source: its kind is missing; add kind"]),
    "a pair there is no way between": (
        route(destination="{kind: sqs, queue: other}"),
        [
            (
                "bridge.yaml:5: routes[0].destination.kind: sqs to sqs is not supported; "
                "supported: sqs to jetstream, jetstream to sqs and jetstream to sns"
            )
        ],
    ),
    "a route name that is no label": (
        route().replace("name: in", "name: In Route"),
        [
            (
                "bridge.yaml:3: routes[0].name: not a route name; write up to 63 lower-case letters, digits, - and _, "
                "like payments-in ('In Route')"
            )
        ],
    ),
    "a route name used twice": (
        route() + route().replace("\nroutes:\n", "").replace("orders", "other"),
        ["bridge.yaml:7: routes[1].name: another route is called in; names are unique"],
    ),
    "a queue read twice": (
        route() + route().replace("\nroutes:\n", "").replace("name: in", "name: too"),
        ["bridge.yaml:8: routes[1].source.queue: route in reads this queue too; each would get half of it"],
    ),
    "a consumer read twice": (
        route("{kind: jetstream, stream: S, consumer: c}", "{kind: sns, topic: t}")
        + route("{kind: jetstream, stream: S, consumer: c}", "{kind: sqs, queue: q}")
        .replace("\nroutes:\n", "")
        .replace("name: in", "name: too"),
        ["bridge.yaml:8: routes[1].source.consumer: route in reads this consumer too; each would get half of it"],
    ),
    "a queue name that is none": (
        route("{kind: sqs, queue: my queue}"),
        [
            (
                "bridge.yaml:4: routes[0].source.queue: not a queue name; write its name (letters, digits, - and _; "
                "FIFO ends in .fifo), URL or ARN ('my queue')"
            )
        ],
    ),
    "a queue ARN that is none": (
        route("{kind: sqs, queue: 'arn:aws:sns:eu-west-1:1:orders'}"),
        [
            (
                "bridge.yaml:4: routes[0].source.queue: not a queue ARN; for example "
                "arn:aws:sqs:eu-west-1:123456789012:orders ('arn:aws:sns:eu-west-1:1:orders')"
            )
        ],
    ),
    "a stream name that is none": (
        route("{kind: jetstream, stream: orders.fifo, consumer: c}", "{kind: sns, topic: t}"),
        [
            (
                "bridge.yaml:4: routes[0].source.stream: not a stream or consumer name; write 1 to 255 characters "
                "without whitespace . * > / \\ ('orders.fifo')"
            )
        ],
    ),
    "a topic name that is none": (
        route("{kind: jetstream, stream: S, consumer: c}", "{kind: sns, topic: a b}"),
        [
            (
                "bridge.yaml:5: routes[0].destination.topic: not a topic name; write its name (letters, digits, - and "
                "_; FIFO ends in .fifo) or ARN ('a b')"
            )
        ],
    ),
    "a subject that is none": (
        route(destination="{kind: jetstream, subject: 'a..b'}"),
        [
            (
                "bridge.yaml:5: routes[0].destination.subject: 'a..b' gives no legal subject: it has an empty token: a dot "
                "at an end, or two in a row; write one like orders.{attributes.NAME}"
            )
        ],
    ),
    "an unknown placeholder": (
        route(destination="{kind: jetstream, subject: 'a.{attribute.x}'}"),
        [
            (
                "bridge.yaml:5: routes[0].destination.subject: 'a.{attribute.x}' has an unknown placeholder {attribute.x}; "
                "known are {attributes.…}, {group}, {queue}, {topic}, {body.…}"
            )
        ],
    ),
    "a subject filter that is none": (
        route("{kind: jetstream, stream: S, consumer: c, filter_subjects: ['a.>.b']}", "{kind: sns, topic: t}"),
        [
            (
                "bridge.yaml:4: routes[0].source.filter_subjects[0]: not a subject filter; for example orders.> or "
                "orders.*.created ('a.>.b')"
            )
        ],
    ),
    "an attribute to keep that SQS has no name for": (
        route("{kind: jetstream, stream: S, consumer: c}", "{kind: sqs, queue: q, keep: ['AWS.x']}"),
        ["bridge.yaml:5: routes[0].destination.keep[0]: not an attribute name; for example eventType ('AWS.x')"],
    ),
    "a parking subject with a placeholder": (
        route(more="parking: {kind: jetstream, subject: 'parked.{group}'}"),
        [
            (
                "bridge.yaml:6: routes[0].parking.subject: it takes no placeholders; write a plain subject like "
                "parked.orders ('parked.{group}')"
            )
        ],
    ),
    "parking in the queue it came from": (
        route(more="parking: {kind: sqs, queue: 'arn:aws:sqs:eu-west-1:123456789012:orders'}"),
        ["bridge.yaml:6: routes[0].parking.queue: it is the queue the route reads; a parked message would come back"],
    ),
    "a connection that is not there": (
        f"connections: {{hub: {{kind: nats}}}}{route(more='nats: hob')}",
        ['bridge.yaml:6: routes[0].nats: there is no connection hob; did you mean "hub"?'],
    ),
    "a connection of the other kind": (
        f"connections: {{hub: {{kind: nats}}}}{route(more='aws: hub')}",
        ["bridge.yaml:6: routes[0].aws: connection hub is of kind nats; name one of kind aws"],
    ),
    "two ways to authenticate": (
        f"nats: {{token: a, user: b, password: c}}{ROUTE}",
        ["bridge.yaml:1: nats.token: user is set too; keep one way to authenticate"],
    ),
    "a user without a password": (
        f"nats: {{user: b}}{ROUTE}",
        ["bridge.yaml:1: nats.user: it needs a password; add password_file"],
    ),
    "a password file that is not there": (
        f"nats: {{user: b, password_file: /nowhere}}{ROUTE}",
        ["bridge.yaml:1: nats.password_file: cannot read /nowhere: No such file or directory"],
    ),
    "a credentials file that is not there": (
        f"nats: {{credentials_file: /nowhere}}{ROUTE}",
        ["bridge.yaml:1: nats.credentials_file: cannot read /nowhere: No such file or directory"],
    ),
    "a seed file that is a folder": (
        f"nats: {{nkey_seed_file: /}}{ROUTE}",
        ["bridge.yaml:1: nats.nkey_seed_file: cannot read /: Is a directory"],
    ),
    "a section with nothing in it": (
        f"aws:\n  # region: eu-west-1{ROUTE}",
        ["bridge.yaml:1: aws: there is nothing below it; add something, indented, or remove it"],
    ),
    "routes with nothing in it": (
        "routes:",
        ["bridge.yaml:1: routes: there is nothing below it; add something, indented, or remove it"],
    ),
    "an attribute no message can have": (
        route(destination="{kind: jetstream, subject: 'a.{attributes.event type}'}"),
        [
            (
                "bridge.yaml:5: routes[0].destination.subject: {attributes.event type} in 'a.{attributes.event type}' "
                "names no attribute SQS could hold; its names are letters, digits, - _ and ."
            )
        ],
    ),
    "a certificate without its key": (
        f"nats: {{tls: {{cert_file: bridge.yaml}}}}{ROUTE}",
        ["bridge.yaml:1: nats.tls.cert_file: it needs key_file; add it"],
    ),
    "a server that is no URL": (
        f"nats: {{servers: ['http://x']}}{ROUTE}",
        [
            (
                "bridge.yaml:1: nats.servers[0]: not a NATS URL; for example nats://host:4222 or tls://host:4222 "
                "('http://x')"
            )
        ],
    ),
    "an endpoint that is no URL": (
        f"aws: {{endpoint_url: localhost}}{ROUTE}",
        ["bridge.yaml:1: aws.endpoint_url: not a URL; for example http://127.0.0.1:4566 ('localhost')"],
    ),
    "a role that is no ARN": (
        f"aws: {{role_arn: bridge}}{ROUTE}",
        [("bridge.yaml:1: aws.role_arn: not a role ARN; for example arn:aws:iam::123456789012:role/bridge ('bridge')")],
    ),
    "an external id without a role": (
        f"aws: {{external_id: abc}}{ROUTE}",
        ["bridge.yaml:1: aws.external_id: it goes with a role; add role_arn"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, sentences = CASES[name]
    assert complaint(tmp_path, monkeypatch, text) == sentences


def test_all_mistakes_are_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
        aws: {regoin: x}
        http: {port: -1}
        routes:
          - name: in
            source: {kind: sqs, queue: a b}
            destination: {kind: jetstream, subject: "a.{x}"}
          - name: in
            nats: nowhere
            source: {kind: jetstream, stream: S, consumer: c}
            destination: {kind: sns, topic: t}
        """
    said = complaint(tmp_path, monkeypatch, text, BRIDGE_LOG__LEVEL="loud")
    assert [line.split(": ")[0] for line in said] == [
        "BRIDGE_LOG__LEVEL",
        *(f"bridge.yaml:{line}" for line in (1, 2, 5, 6, 7, 8)),
    ]


def test_a_secret_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"nats: {{servers: ['nats://me:hunter2@x:y:z'], password: [hunter2], token: {{hunter2: 1}}}}{ROUTE}"
    assert "hunter2" not in "\n".join(complaint(tmp_path, monkeypatch, text))


@pytest.mark.parametrize("password", ["hunter2", "h@hunter2", "hun/hunter2", "hun ter hunter2", "?hunter2", "#hunter2"])
def test_a_password_in_a_url_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    text = f"nats: {{servers: ['http://me:{password}@x:4222', 'natz://me:{password}@x']}}{ROUTE}"
    said = "\n".join(complaint(tmp_path, monkeypatch, text))
    assert "hunter2" not in said
    assert said.count("not a NATS URL") == 2


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "BRIDGE_HTTP__PROT",
            "1",
            "BRIDGE_HTTP__PROT: nothing in the configuration is called PROT; did you mean PORT?",
        ),
        ("BRIDGE_HTTP__PORT", "x", "BRIDGE_HTTP__PORT: http.port: not a whole number ('x')"),
        (
            "BRIDGE_ROUTES__OUT__NATS",
            "x",
            "BRIDGE_ROUTES__OUT__NATS: nothing in the configuration is called OUT; known here: 0, IN",
        ),
        (
            "BRIDGE_NATS__TOKEN_FILE",
            "/nowhere",
            "BRIDGE_NATS__TOKEN_FILE: nats.token_file: cannot read /nowhere: No such file or directory",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    said = complaint(tmp_path, monkeypatch, ROUTE, **{variable: value})
    assert said == [sentence]


def test_tracing_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    said = complaint(tmp_path, monkeypatch, f"tracing: {{}}{ROUTE}")
    assert said == ["bridge.yaml:1: tracing: it needs an extra; pip install 'nats-sqs-bridge[otel]'"]
