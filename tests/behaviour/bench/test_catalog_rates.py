"""The benchmark of the catalog runs, and prints what its documentation names."""

import json

from bench import catalog_rates


def test_the_catalog_benchmark_prints_its_figures(capsys, tmp_path):
    assert catalog_rates.main(["--objects", "3200", "--json", "--directory", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["objects"] == 3200
    for name in ("commit_us", "overwrite_us", "object_us", "page_ms", "fsync_batch_us", "recount_s"):
        assert figures[name] > 0, name
    assert list(tmp_path.iterdir()) == [], "the catalog is removed afterwards"
