"""Small pictures of growth."""

from __future__ import annotations

from warehouse.webui.sparkline import sparkline


def test_nothing_to_see_is_no_picture() -> None:
    assert sparkline([]) is None
    assert sparkline([(0, 1)]) is None
    assert sparkline([(0, 1), (5, 1)]) is None
    assert sparkline([(5, 1), (5, 2)]) is None


def test_a_value_holds_until_the_next_point() -> None:
    found = sparkline([(0, 0), (5, 10), (10, 10)])
    assert found is not None
    assert found.line == "M0.0 22.0H50.0V2.0H100.0V2.0"
    assert found.area == found.line + "V24H0Z"
