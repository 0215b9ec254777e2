"""The parts of the scaling benchmark that are arithmetic and text; no store runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench import master_rate, scaling_page
from bench import scaling_figures as figures
from bench.scaling_figures import (
    KINDS,
    LARGE_PUT,
    LARGE_SIZE,
    PUT,
    Found,
    IdleCosts,
    Sample,
    ratios_of,
    summed_up,
)
from bench.scaling_model import NODE_COUNTS, Surroundings, Workload, full_resource, knee, node_rate, project
from bench.scaling_page import BEGIN, END, with_section

AROUND = Surroundings(upkeep_us=0.0, sync_s=0.001, node_bytes_per_s=1e9)
PUTS = Workload("puts", volume_us=100.0, master_us=20.0, size=4096, commits_at_once=1000)
FACTS = {"options": "", "date": "2026-11-27", "machine": "2 cores", "cores": 2, "others": 0.0}
FACTS |= {"rounds": 3, "seconds": 1.0}


def sample(rate: float = 1000.0, **fields: float) -> Sample:
    known = {"clients": 1, "client_us": 30.0, "volume_us": 100.0, "master_us": 50.0, "machine_busy": 2.0}
    return Sample(rate=rate, **(known | fields))  # type: ignore[arg-type]


def found() -> Found:
    samples = {
        (kind.name, actors, share): [sample(1000.0 * actors)]
        for kind in KINDS
        for actors in (1, 2)
        for share in (None, 0.15)
        if not (share and kind.way == figures.LARGE)
    }
    names = [work.name for work in master_rate.WORKS] + [figures.COMMIT_MANY]
    return Found(
        samples=summed_up(samples),
        ratios=ratios_of(samples),
        process_counts={kind.name: 2 for kind in KINDS},
        master_us=dict.fromkeys(names, 10.0),
        idle=IdleCosts(disks=100, idle_us=500.0, report_us=100.0, memory=1e5, bytes_per_s=650.0),
        sync_s=0.0005,
        share=0.15,
    )


# --- the model ------------------------------------------------------------------------------------


def test_below_the_knee_every_node_counts():
    assert knee(PUTS, AROUND) == pytest.approx(5.0)  # 10,000 a second a node, 50,000 the master
    at = project(PUTS, 4, AROUND)
    assert (at.rate, at.limit) == (40_000.0, "nodes")


def test_above_the_knee_the_master_is_the_limit():
    at = project(PUTS, 50, AROUND)
    assert (at.rate, at.limit) == (50_000.0, "master")
    assert at.volumes_rate == 500_000.0


def test_every_node_takes_its_upkeep_from_the_master():
    around = replace(AROUND, upkeep_us=1000.0)
    assert project(PUTS, 100, around).rate == pytest.approx(45_000.0)  # a tenth of its core is gone
    at_knee = knee(PUTS, around)
    assert at_knee * node_rate(PUTS, around) == pytest.approx((1e6 - at_knee * 1000.0) / PUTS.master_us), (
        "there nodes and master can do the same"
    )


def test_a_master_that_only_keeps_up_links_answers_nobody():
    assert project(PUTS, 100, replace(AROUND, upkeep_us=20_000.0)).rate == 0.0


def test_a_slow_sync_limits_what_cannot_share_a_transaction():
    slow = replace(AROUND, sync_s=0.1)
    at = project(PUTS, 10, slow)
    assert (at.rate, at.limit) == (10_000.0, "commits")
    assert knee(PUTS, slow) == pytest.approx(1.0)
    assert project(replace(PUTS, commits_at_once=16_000), 10, slow).limit == "master"


def test_what_the_master_is_not_asked_about_has_no_knee():
    urls = Workload("urls", volume_us=100.0, master_us=0.0, size=4096)
    assert knee(urls, AROUND) == float("inf")
    assert project(urls, 100, AROUND).rate == 1e6


def test_large_objects_are_bound_by_the_network_port():
    large = Workload("large", volume_us=20_000.0, master_us=1000.0, size=LARGE_SIZE)
    assert node_rate(large, AROUND) == pytest.approx(1e9 / LARGE_SIZE)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"machine_busy": 1.95}, "all cores"),
        ({"volume_busy": 0.95}, "actors"),
        ({"volume_busy": 0.95, "actors": 2}, "waiting"),
        ({"volume_busy": 0.14, "share": 0.15}, "shares"),
        ({"master_busy": 0.95}, "master"),
        ({"client_busy": 0.95}, "clients"),
        ({"client_busy": 0.95, "clients": 2}, "waiting"),
        ({}, "waiting"),
    ],
)
def test_what_is_full_is_named(fields, name):
    idle = {"machine_busy": 0.5, "volume_busy": 0.1, "master_busy": 0.1, "client_busy": 0.1}
    known = {"cores": 2, "actors": 1, "clients": 1}
    assert full_resource(**(idle | known | fields)) == name


# --- from figures to workloads --------------------------------------------------------------------


def test_the_ratio_is_the_median_of_pairs_not_of_rates():
    samples = {
        ("put", 1, None): [sample(10.0), sample(100.0), sample(100.0)],
        ("put", 2, None): [sample(20.0), sample(200.0), sample(90.0)],
    }
    assert ratios_of(samples) == {("put", None): 2.0}  # type: ignore[arg-type]


def test_rounds_are_summed_up_by_their_median_and_large_objects_by_their_best_round():
    ones = [sample(10.0, volume_us=300.0), sample(30.0, volume_us=100.0), sample(20.0, volume_us=200.0)]
    found = summed_up({(PUT, 1, None): ones, (LARGE_PUT, 1, None): ones})
    assert (found[PUT, 1, None].rate, found[PUT, 1, None].volume_us) == (20.0, 200.0)
    assert (found[LARGE_PUT, 1, None].rate, found[LARGE_PUT, 1, None].volume_us) == (30.0, 100.0)


def test_with_cores_enough_the_actors_or_the_master_are_full():
    assert sample(volume_us=100.0, master_us=20.0).with_cores(2) == (20_000.0, "actors")
    assert sample(volume_us=20.0, master_us=20.0).with_cores(2) == (50_000.0, "master")


def test_the_master_is_asked_by_names_that_its_benchmark_has():
    names = {work.name for work in master_rate.WORKS}
    wanted = {figures.COMMIT_ALONE, figures.COMMIT_16, figures.COMMIT_512, figures.LEASE}
    assert wanted | {figures.LOCATE_1, figures.LOCATE_500, figures.LISTED} <= names


def test_figures_survive_being_written_down():
    assert Found.from_json(json.loads(json.dumps(found().as_json()))) == found()


# --- the section ----------------------------------------------------------------------------------


def test_the_section_has_a_column_for_every_number_of_nodes_and_a_row_for_every_workload():
    text = scaling_page.section(found(), FACTS, plot="performance/nodes.svg")
    assert "| nodes | " + " | ".join(map(str, NODE_COUNTS)) + " |" in text
    for workload in figures.workloads_of(found()):
        assert text.count(f"| {workload.name} |") == 2
    assert "(performance/nodes.svg)" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= scaling_page.WIDTH


def test_a_machine_without_control_groups_leaves_the_held_actors_out():
    assert "held to 0.15" in scaling_page.section(found(), FACTS, plot=None)
    without = replace(found(), share=None)
    assert "held to" not in scaling_page.section(without, FACTS, plot=None)
    assert "held to" not in scaling_page.tables(without, FACTS)


def test_the_section_is_appended_once_and_replaced_from_then_on():
    page = with_section("# Performance\n\nFirst.\n", "## Ours\n\nold")
    assert page == f"# Performance\n\nFirst.\n\n{BEGIN}\n## Ours\n\nold\n{END}\n"
    page += "\n## Behind\n"
    again = with_section(page, "## Ours\n\nnew\n")
    assert again == page.replace("old", "new"), "what others wrote before and behind it stays"
    assert with_section(again, "## Ours\n\nnew") == again


def test_a_page_that_is_not_there_yet_gets_a_title():
    assert with_section("", "## Ours").startswith("# Performance\n")


@pytest.mark.parametrize("page", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_marks_that_do_not_match_are_left_alone(page):
    with pytest.raises(ValueError, match="once each"):
        with_section(page, "## Ours")
