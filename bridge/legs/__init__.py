"""The edges: the only place that imports aiobotocore, botocore or nats. A leg never logs and does not know the pump."""

from __future__ import annotations
