"""Sparklines: how something grew, as the path of a small picture.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 100.0, 24.0  # of the picture; it is drawn as wide as its place
EDGE = 2.0  # above and below the line


class Sparkline(NamedTuple):
    """The paths of a line and of the area below it, in a picture of WIDTH x HEIGHT."""

    line: str
    area: str


def sparkline(points: Sequence[tuple[float, float]]) -> Sparkline | None:
    """The picture of a quantity over time; None: there is nothing to see.

    Args:
        points: (time, value), the earliest first; a value holds until the next point.
    """
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return None
    began, ended = points[0][0], points[-1][0]
    least, most = min(value for _, value in points), max(value for _, value in points)
    if least == most:
        return None
    rise = (HEIGHT - 2 * EDGE) / (most - least)
    steps = [
        (WIDTH * (at - began) / (ended - began), HEIGHT - EDGE - (value - least) * rise)
        for at, value in points
    ]
    x, y = steps[0]
    line = f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:])
    return Sparkline(line, f"{line}V{HEIGHT:.0f}H0Z")
