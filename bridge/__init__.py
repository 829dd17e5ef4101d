"""nats-sqs-bridge: carries messages between AWS SNS/SQS and NATS JetStream, both ways."""

from __future__ import annotations

__version__ = "0.1.0"
