"""Generate: writes the methods of both faces that are one call and one answer.

    python -m warehouse.client.faces.generate sync > client/faces/sync_methods.py
    python -m warehouse.client.faces.generate aio > client/faces/aio_methods.py

Then format them with ruff.  A test holds them to the library's classes.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "StoreMethods": [
        ("store.py", "Store"),
        ("maintenance.py", "Maintenance"),
        ("membership.py", "Membership"),
        ("identities.py", "Identities"),
    ],
    "BucketMethods": [("bucket.py", "Bucket")],
    "UploadMethods": [("writing/direct_uploads.py", "DirectUpload")],
}
INNER = {"StoreMethods": "Store", "BucketMethods": "Bucket", "UploadMethods": "DirectUpload"}
# These give or take iterators, streams or objects with methods: sync.py and aio.py have them.
BY_HAND = {"create_bucket", "lost_objects", "put", "begin_upload", "send"}


def methods(face: str) -> list[ast.AsyncFunctionDef]:
    """The methods of the library's class that a face's class has by this program."""
    return [
        node
        for file, name in SOURCES[face]
        for owner in ast.parse((ROOT / file).read_text()).body
        if isinstance(owner, ast.ClassDef) and owner.name == name
        for node in owner.body
        if isinstance(node, ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and node.name not in BY_HAND
    ]


def known_names(file: str) -> dict[str, str]:
    """Names of a module, and the module that each comes from."""
    module = "warehouse.client." + file.removesuffix(".py").replace("/", ".")
    names: dict[str, str] = {}
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name: "" for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            names[node.name] = module
        elif isinstance(node, ast.Assign):
            names |= {target.id: module for target in node.targets if isinstance(target, ast.Name)}
    return names


def method_text(node: ast.AsyncFunctionDef, owner: str, is_async: bool) -> str:
    positional, keyword = [one.arg for one in node.args.args[1:]], [one.arg for one in node.args.kwonlyargs]
    given = ", ".join(positional + [f"{name}={name}" for name in keyword])
    head, wait = ("async def", "await ") if is_async else ("def", "")
    call = f"{wait}self._link.call(lambda: self._inner.{node.name}({given}))"
    if "progress" in positional:
        call = f"{wait}self._link.call_telling(lambda progress: self._inner.{node.name}({given}), progress)"
    assert node.returns is not None
    returns = ast.unparse(node.returns)
    keeps = "" if returns == "None" else "return "
    return (
        f"    {head} {node.name}({ast.unparse(node.args)}) -> {returns}:\n"
        f'        """As `warehouse.{owner}.{node.name}`."""\n        {keeps}{call}\n'
    )


def module_text(kind: str) -> str:
    wanted: dict[str, set[str]] = {}
    bodies = []
    for face, sources in SOURCES.items():
        names = {name: module for file, _ in sources for name, module in known_names(file).items()}
        texts = []
        for node in methods(face):
            texts.append(method_text(node, INNER[face], kind == "aio"))
            for part in ast.walk(ast.Module([node.args, node.returns], [])):  # type: ignore[list-item]
                if isinstance(part, ast.Name) and part.id in names:
                    wanted.setdefault(names[part.id], set()).add(part.id)
        module = "warehouse.client." + sources[0][0].removesuffix(".py").replace("/", ".")
        wanted.setdefault(module, set()).add(INNER[face])
        bodies.append(f"class {face}:\n    _inner: {INNER[face]}\n    _link: Link\n\n" + "\n".join(texts))
    wanted[f"warehouse.client.faces.{kind}_link"] = {"Link"}
    wanted.setdefault("__future__", set()).add("annotations")
    plain = "".join(f"import {name}\n" for name in sorted(wanted.pop("", set())))
    imports = "".join(
        f"from {module} import {', '.join(sorted(names))}\n"
        for module, names in sorted(wanted.items(), key=lambda one: (one[0] != "__future__", one[0]))
    )
    title = (
        f'"""Methods of the {kind} face: one call, one answer.  Written by generate.py; do not edit."""\n\n'
    )
    return (
        title + imports.replace("annotations\n", "annotations\n\n" + plain, 1) + "\n\n" + "\n\n".join(bodies)
    )


if __name__ == "__main__":
    sys.stdout.write(module_text(sys.argv[1]))
