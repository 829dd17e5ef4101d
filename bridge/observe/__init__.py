"""What happened, as log line, metric and snapshot at once. Only this room imports prometheus_client or structlog."""

from __future__ import annotations

from bridge.observe.logs import configure_logs
from bridge.observe.reference import metrics_reference
from bridge.observe.route import OUTCOMES, RouteObservation
from bridge.observe.whole import Observation

__all__ = ["OUTCOMES", "Observation", "RouteObservation", "configure_logs", "metrics_reference"]
