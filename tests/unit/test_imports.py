"""The rooms of docs/architecture.md: imports point downwards only, and pure rooms stay pure."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOWED = {
    "errors": set(),
    "s3": {"errors"},
    "conf": {"errors"},
    "storage": {"errors"},
    "auth": {"errors"},
    "transport": {"errors"},
    "catalog": {"errors", "auth", "transport"},
    "rescue": {"errors", "conf", "storage", "transport", "catalog"},
    "actors": {"errors", "conf", "storage", "auth", "transport", "catalog", "s3"},
    "client": {"errors", "conf", "transport"},
    "cli": {"errors", "conf", "transport", "client"},
    # Its process is one of those that `warehouse up` starts; what its pages do, they do as a client.  Of
    # auth it takes what says in words what a key may do.
    # Of actors, its process takes what every process of ours needs.
    "gateway": {"errors", "conf", "auth", "s3", "transport", "client", "actors"},
    "webui": {"errors", "conf", "transport", "client", "auth", "actors"},
}

# Modules that must be usable, and testable, without an event loop or a socket.
PURE = [
    "warehouse.errors",
    "warehouse.storage.format.needle",
    "warehouse.storage.format.stamp",
    "warehouse.storage.volume",
    "warehouse.storage.compaction.copying",
    "warehouse.storage.compaction.generation_switch",
    "warehouse.storage.compaction.scrub",
    "warehouse.auth.access_tokens",
    "warehouse.auth.authority",
    "warehouse.auth.data_tokens",
    "warehouse.auth.rights",
    "warehouse.auth.keys",
    "warehouse.auth.sealing",
    "warehouse.catalog.interface",
    "warehouse.catalog.sqlite.catalog",
    "warehouse.catalog.placement",
    "warehouse.catalog.names",
    "warehouse.transport.endpoints",
    "warehouse.transport.messages",
    "warehouse.transport.http.chunked",
    "warehouse.transport.http.rules",
    "warehouse.transport.http.conditions",
    "warehouse.transport.http.header_text",
    "warehouse.transport.http.integrity",
    "warehouse.conf.hosts",
    "warehouse.conf.settings",
    "warehouse.rescue.survey",
    "warehouse.s3.attributes",
    "warehouse.s3.checksums",
    "warehouse.s3.chunked",
    "warehouse.s3.conditions",
    "warehouse.s3.copying",
    "warehouse.s3.credentials",
    "warehouse.s3.dates",
    "warehouse.s3.etags",
    "warehouse.s3.failures",
    "warehouse.s3.features",
    "warehouse.s3.form",
    "warehouse.s3.headers",
    "warehouse.s3.integrity",
    "warehouse.s3.listing",
    "warehouse.s3.names",
    "warehouse.s3.operations",
    "warehouse.s3.paging",
    "warehouse.s3.payload",
    "warehouse.s3.percent",
    "warehouse.s3.post_policy",
    "warehouse.s3.query",
    "warehouse.s3.ranges",
    "warehouse.s3.request",
    "warehouse.s3.route",
    "warehouse.s3.signing_keys",
    "warehouse.s3.sigv2",
    "warehouse.s3.sigv4",
    "warehouse.s3.tags",
    "warehouse.s3.target",
    "warehouse.s3.tokens",
    "warehouse.s3.xml_in",
    "warehouse.s3.xml_out",
    "warehouse.actors.control.job_state",
    "warehouse.actors.control.job_table",
    "warehouse.actors.control.reservations",
    "warehouse.actors.background.throttle",
    "warehouse.actors.token_bucket",
    "warehouse.actors.control.rate_policy",
    "warehouse.actors.control.job_policy",
]


def imported_modules(path: Path) -> set[str]:
    """Full names, such as {"trio", "warehouse.errors"}; `from a import b` gives "a" and "a.b"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_rooms(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported_modules(path)]
    return {second for first, second, *_ in (part for part in parts if len(part) > 1) if first == "warehouse"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room}/ holds no code: has the room moved?"
    for path in files:
        upward = (imported_rooms(path) & set(ALLOWED)) - ALLOWED[room] - {room}
        assert not upward, f"{path.relative_to(ROOT)} imports {', '.join(sorted(upward))}"


def test_the_three_parts_of_the_actors_do_not_import_each_other() -> None:
    """What the master decides, what a volume actor does and what a compactor does meet in messages only."""
    parts = {"control", "data", "background"}
    for part in parts:
        files = sorted((ROOT / "actors" / part).rglob("*.py"))
        assert files, f"actors/{part} holds no code: has it moved?"
        for path in files:
            others = {
                name
                for name in imported_modules(path)
                for other in parts - {part}
                if f"actors.{other}" in name
            }
            assert not others, f"{path.relative_to(ROOT)} imports {', '.join(sorted(others))}"


@pytest.mark.parametrize("room", ["webui", "gateway"])
def test_only_the_process_of_what_people_use_knows_of_actors(room: str) -> None:
    """The rest has the rights of the key that somebody came with, and asks through the library."""
    for path in sorted((ROOT / room).rglob("*.py")):
        known = {name for name in imported_modules(path) if name.startswith("warehouse.actors.")}
        assert path.name == "main.py" or not known, (
            f"{path.relative_to(ROOT)} imports {', '.join(sorted(known))}"
        )


def test_every_room_is_a_folder_at_the_top_and_a_link_in_the_package() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench", "warehouse"}
    links = {path.name: path.resolve() for path in (ROOT / "warehouse").iterdir() if path.is_symlink()}
    assert folders == set(ALLOWED)
    assert links == {room: ROOT / room for room in ALLOWED}


def test_every_package_is_in_the_distribution() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    packages = [path.parent for room in ALLOWED for path in (ROOT / room).rglob("__init__.py")]
    named = {"warehouse." + ".".join(path.relative_to(ROOT).parts) for path in packages}
    assert set(config["options"]["packages"].split()) == {"actors", "warehouse", *named}


def test_no_module_imports_a_room_by_its_bare_name() -> None:
    """It would be loaded a second time under another name: two classes that look like one."""
    folders = [*ALLOWED, "warehouse", "launchers", "tests", "bench"]
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        bare = {name.split(".")[0] for name in imported_modules(path)} & set(ALLOWED)
        assert not bare, f"{path.relative_to(ROOT)} imports {', '.join(sorted(bare))}"


def test_only_the_place_that_opens_the_catalog_names_its_engine() -> None:
    """`rescue/` works on the file; everybody else knows `catalog/interface.py`."""
    files = [*sorted((ROOT / "actors").rglob("*.py")), *sorted((ROOT / "catalog").glob("*.py"))]
    naming = {
        str(path.relative_to(ROOT))
        for path in files
        if any(name.startswith("warehouse.catalog.sqlite") for name in imported_modules(path))
    }
    assert naming == {"actors/master.py", "actors/control/first_start.py", "actors/reset_root.py"}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_brings_no_event_loop_and_no_sockets_along(module: str) -> None:
    program = f"import sys, {module}; sys.exit(' '.join(n for n in ('trio', 'zmq') if n in sys.modules) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{module} imports {done.stderr.strip()}"
