"""The sync and asyncio faces have all that the Trio library has, with the same arguments."""

from __future__ import annotations

import ast
import inspect

import pytest

import warehouse
from warehouse.client.faces import generate

FOR_GATEWAYS = {
    "Bucket": {"wait"},  # arguments
    "ObjectStream": {"views", "wait_first", "next_view", "forget"},  # methods
}
STREAMED = {"source", "items", "keys", "pieces"}  # arguments whose types differ


def public_methods(owner: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
    }


def shape(signature: inspect.Signature, left_out: set[str]) -> list[tuple[object, ...]]:
    return [
        (one.name, one.kind, one.default, None if one.name in STREAMED else one.annotation)
        for one in signature.parameters.values()
        if one.name not in left_out
    ]


@pytest.mark.parametrize("face", ["sync", "aio"])
@pytest.mark.parametrize("name", ["Store", "Bucket", "DirectUpload", "ObjectStream"])
def test_a_face_has_every_method_with_the_same_arguments(face: str, name: str) -> None:
    left_out = FOR_GATEWAYS.get(name, set())
    wanted = public_methods(getattr(warehouse, name))
    found = public_methods(getattr(getattr(warehouse, face), name))
    assert found.keys() == wanted.keys() - left_out
    for method, signature in found.items():
        assert shape(signature, set()) == shape(wanted[method], left_out), method


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_connect_has_the_same_arguments(face: str) -> None:
    found = inspect.signature(getattr(warehouse, face).connect)
    assert shape(found, set()) == shape(inspect.signature(warehouse.connect), set())


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_the_written_methods_are_those_that_would_be_written_now(face: str) -> None:
    path = generate.ROOT / "faces" / f"{face}_methods.py"
    written, now = (ast.parse(text) for text in (path.read_text(), generate.module_text(face)))

    def classes(tree: ast.Module) -> list[str]:
        return [ast.dump(node) for node in tree.body if isinstance(node, ast.ClassDef)]

    assert len(classes(now)) == 3
    assert classes(written) == classes(now)
