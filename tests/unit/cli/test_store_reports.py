"""How the store looks in a narrow window: figures are whole, whatever else has to go."""

from __future__ import annotations

import pytest

from warehouse.cli.output.store import print_status, print_volumes
from warehouse.transport.messages import DiskStatus, Job, Status, VolumeReport, VolumeStatus

MIB = 1024**2
JOB = Job(
    job_id=1,
    work="compact",
    volume_id=12,
    disk_name="disk-1",
    origin="policy",
    state="copying",
    done_bytes=900 * MIB,
    total_bytes=1000 * MIB,
    bytes_per_s=100.5 * MIB,
)


def status(*, damaged_count: int = 0, live_count: int = 5096) -> Status:
    report = VolumeReport(
        volume_id=12,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed266883891",
        generation=3,
        capacity=32_768 * MIB,
        file_size=int(1000.4 * MIB),
        live_count=live_count,
        live_bytes=int(600.3 * MIB),
        dead_bytes=int(400.1 * MIB),
        dead_count=1234,
        needle_id_max=9999,
        stamp_max=1,
        damaged_count=damaged_count,
    )
    volume = VolumeStatus(report=report, reserved_bytes=0, state="open", verified_ms=1000, job=JOB)
    disk = DiskStatus(
        disk_id="d",
        name="disk-1",
        url="http://127.0.0.1:7410",
        is_online=True,
        since_ms=0,
        capacity=1,
        free=1,
        is_read_only=False,
        volumes=[volume],
    )
    return Status(
        version="1",
        incarnation=1,
        uptime_s=1.0,
        health="ok",
        disks=[disk],
        bucket_count=1,
        object_count=1,
        byte_count=1,
        garbage_count=0,
        upload_count=0,
        client_count=1,
        compactors=["disk-1"],
        gateways=["gateway-1", "gateway-2"],
    )


@pytest.fixture(params=[80, 100, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return int(request.param)


@pytest.mark.parametrize("damaged_count", [0, 123])
@pytest.mark.parametrize("live_count", [5096, 1_234_567])
def test_no_figure_is_cut_short(
    columns: int, damaged_count: int, live_count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = status(damaged_count=damaged_count, live_count=live_count)
    print_volumes(shown, is_json=False, now_s=10.0)
    print_status(shown, is_json=False)
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    assert out.count(f" {live_count:,} ") == 2
    assert out.count("400.1 MiB") == 3
    assert out.count("100.5 MiB/s  0 s left") == 2
    assert "S3 is served by gateway-1, gateway-2" in out


def test_a_wide_window_has_every_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_volumes(status(damaged_count=1), is_json=False, now_s=10.0)
    names = "volume disk gen state filled needles live dead wasted damaged verified"
    assert capsys.readouterr().out.splitlines()[0].split() == names.split()
