"""What a scrape costs with fifty routes: CPU of rendering alone, and of a whole GET /metrics over loopback.

Each route has its own place and three that are watched, and histograms that changed since the last scrape; before every
scrape all places are judged anew, as the daemon does each second. Beside it, what the library's own renderer takes for
the same metrics. `python -m benchmarks.scrape --scrapes 500`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from statistics import median, quantiles

import aiohttp
from prometheus_client import generate_latest

from bridge.core.control import Action, Answer
from bridge.core.lag import Track
from bridge.core.route import Backlog
from bridge.observe import OUTCOMES, Observation, configure_logs
from bridge.observe.metrics import OPENMETRICS
from bridge.verbs import loop_factory
from bridge.web import serve

WATCHED = ("legacy", "new", "dead_letter")


def filled(routes: int) -> Observation:
    """An observation of so many routes, as it is after a while."""
    observation = Observation()
    for number in range(routes):
        name = f"payments-{number}"
        route = observation.route(name)
        route.opened(f"sqs payments-{number}", f"jetstream payments.{number}.>", retention=345_600)
        route.heartbeats.expected(30)
        for side in WATCHED:
            route.waiting.watches(side, "jetstream", (), {f"PAYMENTS/consumer-{number}": Track(retention=86_400)})
    return observation


def busy(observation: Observation) -> None:
    """A second passes: every route carries something, every place is looked at and judged."""
    metrics = observation.metrics
    now = time.time()
    for name, route in observation.routes.items():
        amounts = [random.lognormvariate(-3, 2) for _ in range(20)]
        metrics.transit.labels(name).observe(amounts)
        metrics.publish.labels(name).observe(amounts)
        for outcome in OUTCOMES[:3]:
            metrics.messages.labels(name, outcome).inc(20)
        for place in route.waiting.places():
            place.looked(Backlog(random.randrange(10**6), 20, oldest=now - random.random() * 100))
    observation.judge()


def spread(costs: list[float]) -> str:
    return f"median {median(costs) * 1e3:.2f} ms, p99 {quantiles(costs, n=100)[98] * 1e3:.2f} ms"


def cpu(work: Callable[[], object], observation: Observation, scrapes: int) -> list[float]:
    costs = []
    for _ in range(scrapes):
        busy(observation)
        began = time.process_time()
        work()
        costs.append(time.process_time() - began)
    return costs


class Closed:
    """No actions here."""

    def admits(self, authorization: str, by: str) -> Answer | None:
        raise AssertionError(authorization, by)

    def act(self, route: str, action: Action, by: str) -> Answer:
        raise AssertionError(route, action, by)

    async def reload(self, by: str) -> Answer:
        raise AssertionError(by)


async def over_loopback(observation: Observation, scrapes: int) -> None:
    """CPU of this process, which is client and server at once, and the time until the answer is there."""
    costs: list[float] = []
    took: list[float] = []
    fixed: list[float] = []
    async with serve(observation, Closed(), "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
        for _ in range(scrapes):
            busy(observation)
            for path, cost in (("/healthz", fixed), ("/metrics", costs)):
                began, began_at = time.process_time(), time.perf_counter()
                async with session.get(url + path) as answer:
                    assert answer.status == 200
                    await answer.read()
                cost.append(time.process_time() - began)
                if path == "/metrics":
                    took.append(time.perf_counter() - began_at)
    print(f"GET /metrics, CPU of server and client: {spread(costs)}")
    print(f"GET /metrics, until the answer is there: {spread(took)}")
    print(f"GET /healthz, CPU of server and client: {spread(fixed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=50)
    parser.add_argument("--scrapes", type=int, default=500)
    given = parser.parse_args()
    configure_logs("json", "critical")
    observation = filled(given.routes)
    busy(observation)
    text, _ = observation.exposition()
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    print(f"{given.routes} routes: {series:,} series, {len(text) / 1e3:,.0f} kB")
    print(f"rendered, CPU: {spread(cpu(observation.exposition, observation, given.scrapes))}")
    openmetrics = cpu(lambda: observation.exposition(OPENMETRICS), observation, given.scrapes)
    print(f"rendered as OpenMetrics, CPU: {spread(openmetrics)}")
    library = cpu(lambda: generate_latest(observation.metrics.registry), observation, max(given.scrapes // 10, 10))
    print(f"rendered by the library, CPU: {spread(library)}")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(over_loopback(observation, given.scrapes))


if __name__ == "__main__":
    main()
