"""Metrics: what `/metrics` of a gateway tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class MetricsCollector(Collector):
    """Collects the metrics of one gateway.

    Args:
        connection_count: open connections of clients.
        key_count: API keys that have a connection to the store.
    """

    def __init__(self, *, connection_count: Callable[[], int], key_count: Callable[[], int]) -> None:
        self._connection_count = connection_count
        self._key_count = key_count
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "warehouse_gateway_connections", "Open connections of clients", value=self._connection_count()
        )
        yield GaugeMetricFamily(
            "warehouse_gateway_keys", "API keys that have a connection to the store", value=self._key_count()
        )
