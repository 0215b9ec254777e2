"""Scaling plot: run by the Python of an environment that has matplotlib; draws what the model says.

python bench/scaling_plot.py FILE.svg < LINES.json
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for line in json.load(sys.stdin):
        style = "--" if line["name"].startswith("puts") else "-"
        axes.plot(line["nodes"], line["rates"], style, label=line["name"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("nodes, each with one volume actor")
    axes.set_ylabel("objects of 4 KiB a second")
    axes.set_title("What nodes and one master can do, on paper")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
