"""Metrics of jobs, of damage, and of what the cross-check finds."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.job_records import JobRecords
from warehouse.actors.control.job_state import COMPACT, VERIFY


def job_metrics(
    context: MasterContext, records: JobRecords, cross_check: CrossCheck, *, stalled_count: int
) -> list[Metric]:
    table = records.table
    gauges = (
        ("damages", "Damage records that nobody has mended", context.catalog.damage_count()),
        (
            "unchecked_seconds",
            "Age of the oldest byte that was not read again",
            context.fleet.unchecked_s(now_ms()),
        ),
        ("orphans", "Needles that no object names, watched or kept", cross_check.orphan_count),
        ("jobs_stalled", "Jobs that have made no progress for minutes", stalled_count),
        ("jobs_paused", "Whether compaction and verification are paused", int(records.is_paused)),
        ("switch_pause_seconds", "How long the latest switch kept writes waiting", table.pause_ms / 1000),
    )
    counters = (
        ("freed_bytes", "Bytes that compactions gave back", table.freed_bytes),
        ("orphans_voided", "Needles that no object named, given up", cross_check.voided_count),
    )
    return [
        *_job_counts(records),
        *(GaugeMetricFamily(f"warehouse_master_{name}", text, value=value) for name, text, value in gauges),
        *(
            CounterMetricFamily(f"warehouse_master_{name}", text, value=value)
            for name, text, value in counters
        ),
    ]


def _job_counts(records: JobRecords) -> list[Metric]:
    table = records.table
    jobs = GaugeMetricFamily("warehouse_master_jobs", "Unfinished jobs", labels=["work", "state"])
    for (work, state), count in table.counts().items():
        jobs.add_metric([work, state], count)
    done = CounterMetricFamily("warehouse_master_jobs_done", "Jobs that were done", labels=["work"])
    failed = CounterMetricFamily("warehouse_master_jobs_failed", "Jobs that failed", labels=["work"])
    for work in (COMPACT, VERIFY):
        done.add_metric([work], table.done_counts[work])
        failed.add_metric([work], table.failed_counts[work])
    return [jobs, done, failed]
