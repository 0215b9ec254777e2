"""Peer plots: run by the Python of an environment that has matplotlib; draws what `peers.py` measured.

    python bench/peer_plots.py RESULTS.json FOLDER

Writes `puts.svg`, `gets.svg`, `latency.svg` and `disk.svg`, and prints the names of those it wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COLOURS = {
    "nginx": "#8d99ae",
    "SeaweedFS": "#7fb069",
    "SeaweedFS, its own benchmark": "#3a7d44",
    "Swift": "#c8553d",
    "Warehouse HTTP": "#2f6db5",
    "Warehouse library": "#0b3c78",
    "dd conv=fdatasync": "#444444",
    "Warehouse library, batches": "#00a6d6",
}
OTHER_COLOUR = "#9b5de5"
BOUND = 4096  # of the size that stands for small objects


def size_name(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def series(lines: list[dict[str, Any]], test: str) -> dict[str, list[dict[str, Any]]]:
    """The warm lines of a test, by what a legend calls them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["test"] == test and not line["is_cold"]:
            name = line["system"] + (", synced" if test == "put" and line["is_synced"] else "")
            found.setdefault(name, []).append(line)
    return found


def colour_of(name: str) -> str:
    return COLOURS.get(name.removesuffix(", synced"), OTHER_COLOUR)


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False})
    from matplotlib import pyplot

    results, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    lines = results["lines"]

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(folder / name, metadata={"Date": None})
        print(name)

    def bars(axes: Any, groups: list[str], values: dict[str, list[float | None]], unit: str) -> None:
        width = 0.84 / max(len(values), 1)
        for index, (name, heights) in enumerate(values.items()):
            places = [group + (index - (len(values) - 1) / 2) * width for group in range(len(groups))]
            drawn = [(x, y) for x, y in zip(places, heights, strict=True) if y]
            axes.bar(
                [x for x, _ in drawn],
                [y for _, y in drawn],
                width,
                label=name,
                color=colour_of(name),
                hatch="///" if name.endswith(", synced") else None,
                edgecolor="white",
                linewidth=0.4,
            )
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(unit)

    for test, title in (("put", "Puts"), ("get", "Gets, warm")):
        named = series(lines, test)
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5.0))
        counts = sorted(
            {line["connections"] for lines in named.values() for line in lines if line["size"] == BOUND}
        )
        rates = {
            name: [
                next(
                    (one["rate"] for one in mine if (one["size"], one["connections"]) == (BOUND, count)), None
                )
                for count in counts
            ]
            for name, mine in named.items()
        }
        bars(left, [f"{count} at once" for count in counts], rates, "objects a second")
        left.set_title(f"{title} of {size_name(BOUND)}")
        sizes = sorted({line["size"] for lines in named.values() for line in lines})
        bytes_per_s = {
            name: [
                max((one["rate"] * size / 1e6 for one in mine if one["size"] == size), default=None)
                for size in sizes
            ]
            for name, mine in named.items()
        }
        bars(right, [size_name(size) for size in sizes], bytes_per_s, "MB a second, at its best concurrency")
        right.set_yscale("log")
        right.set_title(f"{title} by size")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=8)
        figure.tight_layout(rect=(0, 0.15, 1, 1))
        figure.savefig(folder / f"{test}s.svg", metadata={"Date": None})
        print(f"{test}s.svg")

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.2))
    for one, test in zip(axes, ("put", "get"), strict=True):
        chosen = [
            (name, line)
            for name, mine in series(lines, test).items()
            for line in mine
            if (line["size"], line["connections"]) == (BOUND, 16)
        ]
        for row, (name, line) in enumerate(chosen):
            one.plot([line["p50_ms"], line["p99_ms"]], [row, row], color=colour_of(name), linewidth=3)
            one.plot([line["p50_ms"]], [row], "o", color=colour_of(name))
            one.plot([line["p99_ms"]], [row], "|", color=colour_of(name), markersize=12)
        one.set_yticks(range(len(chosen)), [name for name, _ in chosen])
        one.set_xscale("log")
        one.set_xlabel("ms: dot p50, bar p99")
        one.set_title(f"{test} of {size_name(BOUND)}, 16 at once")
    save(figure, "latency.svg")

    disk = {
        name: one["bytes_per_object"] for name, one in results["systems"].items() if one["bytes_per_object"]
    }
    if disk:
        figure, one = pyplot.subplots(figsize=(7, 0.6 + 0.5 * len(disk)))
        one.barh(
            list(disk), [float(value) for value in disk.values()], color=[colour_of(name) for name in disk]
        )
        one.axvline(BOUND, color="black", linewidth=0.8)
        one.set_xlabel("bytes on disk for an object of 4 KiB (line: the object itself)")
        save(figure, "disk.svg")


if __name__ == "__main__":
    main()
