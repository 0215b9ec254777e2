"""The benchmarks of the master run, and tell what their documentation names."""

import json

from bench import idle_links, master_rate


def test_the_master_benchmark_prints_its_figures(capsys, tmp_path):
    arguments = ["--objects", "3000", "--rounds", "1", "--seconds", "0.05", "--only", "64 in a message"]
    assert master_rate.main([*arguments, "--json", "--directory", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["objects"] == 3000
    assert figures["microseconds"].keys() == {"commit, 64 in a message", "overwrite, 64 in a message"}
    assert all(both["this"] > 0 for both in figures["microseconds"].values())
    assert list(tmp_path.iterdir()) == [], "the catalog is removed afterwards"


async def test_idle_links_tell_what_disks_cost_a_master(tmp_path):
    costs = await idle_links.measure(2, 2.5, tmp_path)
    assert costs.disks == 2
    assert costs.bytes_per_s > 0, "each link answers a probe every second"
    assert costs.memory > 0
