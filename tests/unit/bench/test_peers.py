"""The parts of the comparison with other stores: what it reads, sums up and writes; no server runs."""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import http_load, peers
from bench import peer_results as results
from bench.http_load import Answer, heads_of
from bench.machine import Machine
from bench.peer_machine import Environments, NotHere, read_through
from bench.peer_results import KIB, LIBRARY, MIB, NGINX, RAW, SWIFT, WEED_BENCHMARK, About, Case, Line, Sample
from bench.peer_systems import Nginx, Swift, WarehouseStore, Weed
from bench.peer_ways import added_up, sample_of

WEED_OUTPUT = """\
------------ Writing Benchmark ----------

Concurrency Level:      16
Time taken for tests:   2.000 seconds
Failed requests:        1
Total transferred:      12384207 bytes
Requests per second:    1427.50 [#/sec]

Connection Times (ms)
              min      avg        max      std
Total:        0.2      11.1       1038.9      72.7

Percentage of the requests served within a certain time (ms)
   50%      2.6 ms
   66%      5.0 ms
   98%     54.7 ms
  100%    1038.9 ms
"""


def sample(rate: float, **fields: object) -> Sample:
    return Sample(rate, 1.0, 2.0, 0.1, 0.2, 50_000_000, 100, **fields)  # type: ignore[arg-type]


def line(system: str, rate: float, case: Case, *, is_synced: bool = True) -> Line:
    return Line(system, is_synced, case, sample(rate), [rate])


# --- what others print ----------------------------------------------------------------------------


def test_seaweedfs_own_benchmark_is_read() -> None:
    figures = results.parse_weed_benchmark(WEED_OUTPUT)
    assert figures["rate"] == 1427.5
    assert figures["count"] == 2855
    assert figures["failed_count"] == 1
    assert figures["p50_ms"] == 2.6


def test_a_percentile_that_it_leaves_out_is_the_one_before() -> None:
    assert results.parse_weed_benchmark(WEED_OUTPUT)["p99_ms"] == 54.7


@pytest.mark.parametrize("text", ["", "This is SeaweedFS version 8000GB", WEED_OUTPUT.split("Percentage")[0]])
def test_output_without_figures_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="weed benchmark printed no"):
        results.parse_weed_benchmark(text)


# --- the generator --------------------------------------------------------------------------------


def answer_of(*pieces: bytes) -> Answer:
    answer = Answer()
    for piece in pieces:
        assert not answer.is_complete
        answer.feed(memoryview(piece))
    return answer


@pytest.mark.parametrize("cut", [1, 20, 40, 43, 45])
def test_an_answer_is_complete_wherever_it_is_cut(cut: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    answer = answer_of(whole[:cut], whole[cut:]) if cut < len(whole) else answer_of(whole)
    assert (answer.status, answer.body_count, answer.is_complete) == (b"200", 5, True)


def test_an_answer_without_its_whole_body_is_not_complete() -> None:
    assert not answer_of(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell").is_complete
    assert not answer_of(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n").is_complete


def test_a_chunked_answer_ends_with_its_last_chunk() -> None:
    head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert not answer_of(head, b"5\r\nhello\r\n").is_complete
    assert answer_of(head, b"5\r\nhello\r\n", b"0\r\n", b"\r\n").is_complete


def test_an_answer_without_a_body_is_complete_and_may_close() -> None:
    answer = answer_of(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert (answer.is_complete, answer.closes) == (True, True)


def test_a_target_is_a_path_and_its_headers() -> None:
    (head,) = heads_of("PUT", "127.0.0.1:80", 9, ["/a\tAuthorization: Bearer x\tX-Key: k"])
    assert head == (
        b"PUT /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 9\r\n"
        b"Authorization: Bearer x\r\nX-Key: k\r\n\r\n"
    )
    assert b"Content-Length" not in heads_of("GET", "h", 9, ["/a"])[0]


def serve(listener: socket.socket, answers: list[bytes]) -> None:
    """Answer each request with the next of `answers`, over connections that are kept."""
    while answers:
        connection, _ = listener.accept()
        with connection:
            buffer = b""
            while answers:
                piece = connection.recv(1 << 16)
                if not piece:
                    break
                buffer += piece
                if b"\r\n\r\n" in buffer and (not buffer.startswith(b"PUT") or buffer.endswith(b"body")):
                    buffer = b""
                    connection.sendall(answers.pop(0))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_the_generator_counts_what_succeeded_and_what_did_not(
    listener: socket.socket, tmp_path: Path
) -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ]
    server = threading.Thread(target=serve, args=(listener, answers))
    server.start()
    targets = tmp_path / "targets"
    targets.write_text("/a\n/b\n/c\n/d")
    arguments = argparse.Namespace(
        url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        method="GET",
        targets=targets,
        size=0,
        connections=1,
        seconds=30.0,
        once=True,
    )
    load = http_load.run(arguments)
    server.join()
    assert (load["count"], load["used_count"], load["byte_count"]) == (3, 4, 12)
    assert load["failures"] == {"404": 1}
    assert sample_of({**load, "server_cpu_s": 0.3, "server_peak_bytes": 7}).server_cpu_s == pytest.approx(100)


def test_client_processes_are_added_up() -> None:
    part = {
        "count": 2,
        "elapsed_s": 1.0,
        "cpu_s": 0.5,
        "latencies": {"counts": {"300": 2}, "sum_s": 0.1, "max_s": 0.05},
    }
    whole = added_up([part, {**part, "elapsed_s": 2.0}])
    assert (whole["count"], whole["elapsed_s"], whole["cpu_s"]) == (4, 2.0, 1.0)
    assert whole["latencies"]["counts"] == {300: 4}


# --- results --------------------------------------------------------------------------------------


def test_the_median_of_rounds_is_taken_figure_by_figure() -> None:
    middle = results.median_of(
        [sample(1.0), sample(5.0, failures={"503": 1}), sample(3.0, failures={"503": 2})]
    )
    assert (middle.rate, middle.count, middle.failures) == (3.0, 300, {"503": 3})


def test_sections_keep_synced_and_unsynced_apart_and_name_the_ratio_to_nginx() -> None:
    case = Case("put", 4 * KIB, 16)
    lines = [
        line(NGINX, 1000, case, is_synced=False),
        line(RAW, 500, case),
        line(RAW, 800, case, is_synced=False),
    ]
    size, synced = results.section_rows(lines, "put", True, False)
    assert size[0] == "**4 KiB**"
    assert synced[:4] == [RAW, "16", "500", "0.50"]
    names = [row[:4] for row in results.section_rows(lines, "put", False, False)[1:]]
    assert names == [[NGINX, "16", "1,000", "1.00"], [RAW, "16", "800", "0.80"]]


def test_goals_compare_each_system_at_its_best_concurrency() -> None:
    lines = [
        line(RAW, 700, Case("get", 4 * KIB, 1)),
        line(RAW, 900, Case("get", 4 * KIB, 16)),
        line(NGINX, 1000, Case("get", 4 * KIB, 64), is_synced=False),
        line(LIBRARY, 3000, Case("put", 4 * KIB, 64)),
        line(SWIFT, 150, Case("put", 4 * KIB, 16)),
        line(WEED_BENCHMARK, 2000, Case("put", 4 * KIB, 16)),
    ]
    rows = {row[0]: row[1:] for row in results.goal_rows(lines, {RAW: About("1", 10, 4900.0, "", 4200.0)})}
    assert rows["GET 4 KiB at the volume actor, of one nginx worker"][1:] == ["0.90", "reached"]
    assert rows["library put 4 KiB synced, times Swift"][1:] == ["20.00", "**missed**"]
    assert rows["library put 4 KiB synced, times SeaweedFS's own benchmark synced"][1] == "1.50"
    assert rows["bytes in volumes and their indexes for an object of 4 KiB"] == [
        "at most 4,256",
        "4,200",
        "reached",
    ]
    assert not [row for row in rows if "put_many" in row], "what was not measured has no row"


def test_the_page_names_machine_date_and_plots() -> None:
    lines = [
        line(RAW, 900, Case("get", 80 * MIB, 1)),
        line(NGINX, 1000, Case("get", 80 * MIB, 1), is_synced=False),
    ]
    facts = {
        "options": "--short",
        "date": "2026-11-26",
        "machine": Machine("a processor", 2, "6.1", "3.11.7"),
        "shape": "Short.",
        "others": 0.3,
        "rounds": 3,
        "seconds": 0.8,
        "processes": 2,
        "objects": "20,000",
        "prepare_s": 20.0,
        "cold": "not measured",
    }
    page = results.page(lines, {RAW: About("1", 20_000, 4190.4, "a note")}, ["benchmarks/puts.svg"], facts)
    for text in (
        "2026-11-26, on 2 cores (a processor), Linux 6.1",
        "![puts](benchmarks/puts.svg)",
        "| **80 MiB** |",
        "| Warehouse HTTP | 1 | 900 | 0.90 |",
        "| Warehouse HTTP | 1 | 20,000 | 4,190 | a note |",
    ):
        assert text in page, text
    assert "Puts, every one synced" not in page, "nothing was measured for it"


def test_json_has_every_line_with_the_rates_of_its_rounds() -> None:
    found = peers.Found([line(RAW, 9.0, Case("get", MIB, 1, True))], {RAW: About("1")}, 1, 2, "")
    machine = Machine("a processor", 2, "6.1", "3.11.7")
    written = json.loads(peers.as_json(found, machine, peers.short_shape()))
    (one,) = written["lines"]
    assert (one["system"], one["rates"], one["is_cold"], one["size"]) == (RAW, [9.0], True, MIB)
    assert written["machine"]["kernel"] == "6.1"


# --- what is measured -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [peers.short_shape(), peers.full_shape()])
def test_every_size_is_put_and_read_and_there_is_something_to_read(shape: peers.Shape) -> None:
    for test in ("put", "get"):
        assert {case.size for case in shape.cases if case.test == test} == set(peers.SIZES)
        assert {case.connections for case in shape.cases if (case.test, case.size) == (test, 4 * KIB)} == {
            1,
            16,
            64,
        }
    assert set(shape.counts) == set(peers.SIZES)
    assert not any(case.is_cold for case in shape.cases if case.test == "put")


def test_small_objects_come_first_and_reads_of_them_after_the_puts() -> None:
    cases = [(case.size >= peers.LARGE, case.test, case.is_cold) for case in peers.full_shape().cases]
    assert list(dict.fromkeys(cases)) == [
        (is_large, *kind)
        for is_large in (False, True)
        for kind in (("put", False), ("get", False), ("get", True))
    ]


def test_files_of_a_size_are_read_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    readv = os.readv

    def count(fd: int, buffers: list[bytearray]) -> int:
        counts.append(readv(fd, buffers))
        return counts[-1]

    monkeypatch.setattr(os, "readv", count)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "large").write_bytes(bytes(3 << 20))
    (tmp_path / "a" / "small").write_bytes(b"x")
    (tmp_path / "link").symlink_to("nowhere")
    read_through(tmp_path)
    assert sum(counts) == (3 << 20) + 1
    read_through(tmp_path, 1 << 20)
    assert sum(counts) == 2 * (3 << 20) + 1


def test_the_full_form_has_a_million_small_objects() -> None:
    assert peers.full_shape().counts[4 * KIB] == 1_000_000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "--short"),
        ({"full": True, "rounds": 1, "seconds": 1.0}, "--full --rounds 1 --seconds 1"),
        ({"peer": "nginx", "prepare_s": 0.5}, "--short --peer nginx --prepare-s 0.5"),
    ],
)
def test_the_page_names_the_options_it_was_made_with(changes: dict[str, object], expected: str) -> None:
    usual = {"full": False, "peer": "nginx,seaweedfs,swift", "rounds": None, "seconds": None}
    given = argparse.Namespace(**{**usual, "prepare_s": None, "minutes": 0.0, **changes})
    assert peers.options_of(given) == expected


def test_puts_are_listed_synced_and_unsynced_where_a_system_can_do_both(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    systems = [
        WarehouseStore(tmp_path, "fsync"),
        WarehouseStore(tmp_path, "os"),
        Nginx(tmp_path),
        Weed(tmp_path, environments),
        Swift(tmp_path, environments),
    ]
    found = {(way.name, way.is_synced) for way in peers.ways_of(systems) if "put" in way.tests}
    for name in (RAW, LIBRARY, WEED_BENCHMARK, results.WEED):
        assert {(name, True), (name, False)} <= found
    assert (SWIFT, True) in found
    assert (SWIFT, False) not in found
    assert (NGINX, True) not in found
    assert (results.BATCHES, True) in found
    readers = [way.name for way in peers.ways_of(systems) if "get" in way.tests]
    assert len(readers) == len(set(readers)), "each is read in one way"


def test_targets_that_a_put_did_not_use_come_first_the_next_time(tmp_path: Path) -> None:
    system = Nginx(tmp_path)
    first = system.put_targets(4 * KIB, 10)
    system.used(4 * KIB, 4)
    assert system.put_targets(4 * KIB, 8)[:6] == first[4:]


def test_what_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(NotHere, match="no-such-package"):
        Environments(tmp_path).with_packages("one", ["no-such-package"])
