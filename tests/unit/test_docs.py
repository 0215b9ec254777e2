"""The documentation leads somewhere: its links, and the files and tests that it names, exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
ANCHOR = re.compile(r"\]\(([^)\s]*\.md)?#([^)\s]+)\)")
NAMED = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md|sh|toml|txt))`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [target for target, _ in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", target)]
    assert [target for target in links if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_anchor_is_a_heading(page: Path) -> None:
    missing = []
    for target, anchor in ANCHOR.findall(page.read_text()):
        text = (page.parent / target).read_text() if target else page.read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        if anchor not in slugs:
            missing.append(f"{target}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert [path for path in named if not (ROOT / path).exists() and not (page.parent / path).exists()] == []


def test_the_tests_that_contributing_runs_exist() -> None:
    commands = re.findall(
        r"^    pytest -n 0 (\S+\.py)(?: -k (\w+))?$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    assert len(commands) == 2
    for path, word in commands:
        names = re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
        assert [name for name in names if word in name], f"{path} -k {word}"
