"""Metrics: what `/metrics` of a gateway tells Prometheus.

Labels are bounded: operations and codes of S3 that exist, and statuses that we send.  The operation of a
request that nobody can read is "none".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from warehouse.gateway.journal import BOUNDS_S, Journal

_UNKNOWN: Final = "none"
_BOUNDS: Final = (*(str(bound) for bound in BOUNDS_S), "+Inf")


class MetricsCollector(Collector):
    """Collects the metrics of one gateway.

    Args:
        connection_count: open connections of clients.
        key_count: API keys that have a connection to the store.
        lost_lines: lines of the access log that were never written.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        connection_count: Callable[[], int],
        key_count: Callable[[], int],
        lost_lines: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._connection_count = connection_count
        self._key_count = key_count
        self._lost_lines = lost_lines
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        for name, text, value in (
            ("connections", "Open connections of clients", self._connection_count()),
            ("open_requests", "Requests that are being answered", self._journal.open_count),
            ("keys", "API keys that have a connection to the store", self._key_count()),
        ):
            yield GaugeMetricFamily(f"warehouse_gateway_{name}", text, value=value)
        for name, text, value in (
            ("cut_answers", "Answers that broke off", self._journal.cut_count),
            ("access_log_lost", "Lines of the access log that were never written", self._lost_lines()),
        ):
            yield CounterMetricFamily(f"warehouse_gateway_{name}", text, value=value)

    def _requests(self) -> Iterator[Metric]:
        journal = self._journal
        requests = CounterMetricFamily(
            "warehouse_gateway_requests", "Requests that have ended", labels=["operation", "status"]
        )
        for (operation, status), count in journal.requests.items():
            requests.add_metric([operation or _UNKNOWN, str(status)], count)
        yield requests
        refused = CounterMetricFamily(
            "warehouse_gateway_refused", "Requests refused, by the code of S3", labels=["code"]
        )
        for code, count in journal.refusals.items():
            refused.add_metric([code], count)
        yield refused
        times = HistogramMetricFamily(
            "warehouse_gateway_request_seconds", "From the head to the end of an answer", labels=["operation"]
        )
        for operation, durations in journal.durations.items():
            buckets = list(zip(_BOUNDS, accumulate(durations.counts), strict=True))
            times.add_metric([operation or _UNKNOWN], buckets, durations.sum_s)
        yield times
        yield _by_operation("received_bytes", "Bytes of bodies that came", journal.received)
        yield _by_operation("sent_bytes", "Bytes of bodies that went", journal.sent)


def _by_operation(name: str, text: str, counts: Counter[str]) -> Metric:
    metric = CounterMetricFamily(f"warehouse_gateway_{name}", text, labels=["operation"])
    for operation, count in counts.items():
        metric.add_metric([operation or _UNKNOWN], count)
    return metric
