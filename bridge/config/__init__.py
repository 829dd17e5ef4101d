"""The configuration: one YAML file under the environment, checked as a whole before anything starts."""

from __future__ import annotations

from bridge.config.load import load
from bridge.config.models import (
    AwsConfig,
    Config,
    JetStreamDestinationConfig,
    JetStreamParkingConfig,
    JetStreamSourceConfig,
    NatsConfig,
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

__all__ = [
    "AwsConfig",
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
    "json_schema",
    "load",
    "reference",
]
