"""Metrics: what `/metrics` of a volume actor tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from warehouse.actors.data.authorization import Counters
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.disk_space import DiskSpace
from warehouse.actors.data.switching import Switching
from warehouse.actors.data.volumes import DiskVolumes

# Fields of a `VolumeReport`, and what each is.
_VOLUME_GAUGES: Final = (
    ("capacity", "Bytes the file may grow to"),
    ("file_size", "Bytes appended"),
    ("live_count", "Live needles"),
    ("live_bytes", "Stored bytes of live needles"),
    ("dead_count", "Needles among them"),
    ("dead_bytes", "Bytes that compaction would give back"),
    ("kept_bytes", "Bytes of records that compaction carries over"),
    ("damaged_count", "Damaged needles seen"),
)


class MetricsCollector(Collector):
    """Collects the metrics of one disk."""

    def __init__(
        self,
        *,
        counters: Counters,
        volumes: DiskVolumes,
        switching: Switching,
        space: DiskSpace,
        cold_reads: ColdReads,
        connection_count: Callable[[], int],
        unheard_s: Callable[[], float],
    ) -> None:
        self._counters = counters
        self._volumes = volumes
        self._switching = switching
        self._space = space
        self._cold_reads = cold_reads
        self._connection_count = connection_count
        self._unheard_s = unheard_s
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._syncs()
        yield from self._volume_gauges()
        yield self._switch_pauses()
        yield GaugeMetricFamily(
            "warehouse_volume_disk_free", "Bytes free on the disk", value=self._space.free_bytes()
        )
        yield GaugeMetricFamily(
            "warehouse_volume_cold_reads_waiting",
            "Small needles that requests wait for the disk to bring",
            value=self._cold_reads.waiting_count,
        )
        yield GaugeMetricFamily(
            "warehouse_volume_connections", "Open data connections", value=self._connection_count()
        )
        yield GaugeMetricFamily(
            "warehouse_volume_master_unheard_seconds",
            "For how long nothing was heard from the master",
            value=self._unheard_s(),
        )

    def _requests(self) -> Iterator[Metric]:
        counters = self._counters
        for name, text, value in (
            ("puts", "Needles stored and confirmed", counters.puts),
            ("gets", "Needles or ranges sent", counters.gets),
            ("received_bytes", "Body bytes of confirmed puts", counters.bytes_in),
            ("sent_bytes", "Body bytes sent", counters.bytes_out),
            ("cold_reads", "Reads that had to wait for the disk", counters.cold_reads),
        ):
            yield CounterMetricFamily(f"warehouse_volume_{name}", text, value=value)
        failures = CounterMetricFamily(
            "warehouse_volume_failures", "Requests refused, by code", labels=["code"]
        )
        for code, count in counters.failures.items():
            failures.add_metric([code], count)
        yield failures

    def _syncs(self) -> Iterator[Metric]:
        counts = CounterMetricFamily("warehouse_volume_syncs", "fdatasync calls", labels=["volume"])
        times = CounterMetricFamily("warehouse_volume_sync_seconds", "Time in fdatasync", labels=["volume"])
        for volume_id, pipeline in self._volumes.pipelines.items():
            counts.add_metric([str(volume_id)], pipeline.sync_count)
            times.add_metric([str(volume_id)], pipeline.sync_s)
        yield from (counts, times)

    def _volume_gauges(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"warehouse_volume_{name}", text, labels=["volume"])
            for name, text in _VOLUME_GAUGES
        }
        for report in self._volumes.reports():
            for name, gauge in gauges.items():
                gauge.add_metric([str(report.volume_id)], getattr(report, name))
        yield from gauges.values()

    def _switch_pauses(self) -> Metric:
        pauses = GaugeMetricFamily(
            "warehouse_volume_switch_pause_seconds",
            "For how long the last switch to a compacted generation kept writes waiting",
            labels=["volume"],
        )
        for volume_id, pause_ms in self._switching.pauses_ms.items():
            pauses.add_metric([str(volume_id)], pause_ms / 1000)
        return pauses
