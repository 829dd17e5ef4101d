"""A small payments company: what exists in AWS and in NATS before the bridge starts, and the bridge's configuration.

    SNS payments ----> SQS payments-validation ----> (legacy consumer)
                 `---> SQS payments-bridge ========> stream PAYMENTS ----> pull, push and core consumers
    SQS settlements-legacy <======================== stream SETTLEMENTS
    SNS settlements <=============================== (the same) ; SQS settlements-audit is subscribed

The way back uses streams and queues of its own, so that it is obvious what each consumer has to see.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

REGION = "eu-west-1"

CONFIG = """\
nats: {{servers: ["{nats}"]}}
aws: {{region: {region}, endpoint_url: "{aws}"}}
http: {{host: 127.0.0.1, port: {port}, token_file: "{token}"}}
shutdown_timeout: 10
routes:
  - name: payments-in
    source: {{kind: sqs, queue: payments-bridge}}
    destination: {{kind: jetstream, subject: "payments.{{attributes.eventType}}", stream: PAYMENTS}}
    parking: {{kind: jetstream, subject: parked.payments-in}}
    watch: [{{kind: sqs, queue: payments-validation}}, {{kind: jetstream, stream: PAYMENTS}}]
  - name: settlements-back
    source: {{kind: jetstream, stream: SETTLEMENTS, consumer: bridge-back, filter_subjects: ["settlements.>"]}}
    destination: {{kind: sqs, queue: settlements-legacy}}
    parking: {{kind: jetstream, subject: parked.settlements-back}}
  - name: settlements-topic
    source: {{kind: jetstream, stream: SETTLEMENTS, consumer: bridge-topic}}
    destination: {{kind: sns, topic: settlements}}
    parking: {{kind: jetstream, subject: parked.settlements-topic}}
"""


def write_config(path: Path, *, nats: str, aws: str, port: int) -> None:
    """The daemon's configuration for this world; `nats` and `aws` are URLs. Writes a token file next to it."""
    token = path.with_name("token")
    token.write_text(secrets.token_hex(32))
    path.write_text(CONFIG.format(nats=nats, aws=aws, port=port, region=REGION, token=token))


async def create_aws(sqs: Any, sns: Any) -> dict[str, str]:
    """Topics, queues and subscriptions. Returns queue URLs and topic ARNs by name."""
    found: dict[str, str] = {}
    for topic in ("payments", "settlements"):
        found[f"topic {topic}"] = (await sns.create_topic(Name=topic))["TopicArn"]
    for queue in ("payments-validation", "payments-bridge", "settlements-audit", "settlements-legacy"):
        found[queue] = (await sqs.create_queue(QueueName=queue))["QueueUrl"]
    for queue, topic in (
        ("payments-validation", "payments"),
        ("payments-bridge", "payments"),
        ("settlements-audit", "settlements"),
    ):
        url = found[queue]
        facts = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queue_arn, topic_arn = facts["Attributes"]["QueueArn"], found[f"topic {topic}"]
        policy = {
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue_arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
                }
            ]
        }
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
        await sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn)
    return found


async def create_nats(client: Client) -> None:
    """Streams with a duplicate window longer than any visibility timeout used here, and the consumers."""
    js = client.jetstream()
    for stream, subjects in (("PAYMENTS", "payments.>"), ("SETTLEMENTS", "settlements.>"), ("PARKED", "parked.>")):
        await js.add_stream(StreamConfig(name=stream, subjects=[subjects], duplicate_window=600))
    for stream, consumer in (
        ("PAYMENTS", "validation"),
        ("SETTLEMENTS", "bridge-back"),
        ("SETTLEMENTS", "bridge-topic"),
    ):
        filters = "settlements.>" if consumer == "bridge-back" else None
        await js.add_consumer(
            stream,
            ConsumerConfig(
                durable_name=consumer,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=60,
                max_ack_pending=5_000,
                filter_subject=filters,
            ),
        )
