"""The configuration: one YAML file under the environment, checked as a whole before anything starts."""

from __future__ import annotations

from bridge.config.changes import Changes, changes, longest_poll
from bridge.config.connections import AwsConfig, NatsConfig
from bridge.config.load import load
from bridge.config.models import (
    Config,
    JetStreamDestinationConfig,
    JetStreamParkingConfig,
    JetStreamSourceConfig,
    ObjectStoreClaimCheckConfig,
    RouteConfig,
    S3ClaimCheckConfig,
    SamplingConfig,
    SnsDestinationConfig,
    SqsDestinationConfig,
    SqsParkingConfig,
    SqsSourceConfig,
    WatchedConsumersConfig,
    WatchedQueueConfig,
)
from bridge.config.reference import json_schema, reference
from bridge.config.tokens import read_token

__all__ = [
    "AwsConfig",
    "Changes",
    "Config",
    "JetStreamDestinationConfig",
    "JetStreamParkingConfig",
    "JetStreamSourceConfig",
    "NatsConfig",
    "ObjectStoreClaimCheckConfig",
    "RouteConfig",
    "S3ClaimCheckConfig",
    "SamplingConfig",
    "SnsDestinationConfig",
    "SqsDestinationConfig",
    "SqsParkingConfig",
    "SqsSourceConfig",
    "WatchedConsumersConfig",
    "WatchedQueueConfig",
    "changes",
    "json_schema",
    "load",
    "longest_poll",
    "read_token",
    "reference",
]
