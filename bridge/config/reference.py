"""The configuration for people (Markdown) and for editors (JSON Schema), both made from the models.

May not: say anything the models do not.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bridge.config import models

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Top level", models.Config),
    ("nats", models.NatsConfig),
    ("nats.tls", models.TlsConfig),
    ("aws", models.AwsConfig),
    ("http", models.HttpConfig),
    ("tracing", models.TracingConfig),
    ("log", models.LogConfig),
    ("sampling", models.SamplingConfig),
    ("routes[]", models.RouteConfig),
    ("source, kind: sqs", models.SqsSourceConfig),
    ("source, kind: jetstream", models.JetStreamSourceConfig),
    ("destination, kind: jetstream", models.JetStreamDestinationConfig),
    ("destination, kind: sqs", models.SqsDestinationConfig),
    ("destination, kind: sns", models.SnsDestinationConfig),
    ("parking, kind: jetstream", models.JetStreamParkingConfig),
    ("parking, kind: sqs", models.SqsParkingConfig),
    ("watch[], kind: sqs", models.WatchedQueueConfig),
    ("watch[], kind: jetstream", models.WatchedConsumersConfig),
    ("claim_check, kind: s3", models.S3ClaimCheckConfig),
    ("claim_check, kind: object_store", models.ObjectStoreClaimCheckConfig),
    ("ledger", models.LedgerConfig),
    ("heartbeat", models.HeartbeatConfig),
)

HEAD = """\
# Configuration

One YAML file: `--config`, else `BRIDGE_CONFIG`, else `bridge.yaml`. `nats-sqs-bridge schema` prints its JSON Schema.

Every value can also come from the environment, which wins over the file: `BRIDGE_` and the keys in capitals, joined
by two underscores. A route is named by its number or its name: `BRIDGE_HTTP__PORT=9200`,
`BRIDGE_NATS__SERVERS=nats://a:4222,nats://b:4222`, `BRIDGE_ROUTES__0__SOURCE__QUEUE=orders`,
`BRIDGE_ROUTES__PAYMENTS_IN__MAX_IN_FLIGHT=1000`. A variable that names nothing is refused, as an unknown key is; only
what Kubernetes sets for a service called bridge (`BRIDGE_SERVICE_HOST`, `BRIDGE_PORT`, …) is passed over.

Further connections stand under `connections`, each with the keys of `nats` or `aws` and its `kind`; a route picks one
by name with `nats:` or `aws:`. This page is made by `nats-sqs-bridge schema --markdown`; a test compares them.
"""


def reference() -> str:
    """docs/configuration.md."""
    parts = [HEAD]
    for title, model in SECTIONS:
        parts.append(f"\n## {title}\n\n{(model.__doc__ or '').strip()}\n\n| key | default | meaning |\n|---|---|---|\n")
        for name, field in model.model_fields.items():
            parts.append(
                f"| `{name}` | {_default(field)} | {(field.description or '').replace('|', chr(92) + '|')} |\n"
            )
    return "".join(parts)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default is None:
        return ""
    value = field.default
    if isinstance(value, list):
        return f"`{', '.join(map(str, value))}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the file."""
    schema = models.Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "nats-sqs-bridge configuration",
    }
