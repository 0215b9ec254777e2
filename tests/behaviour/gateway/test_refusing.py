"""Refusing: what is left of a request that was refused."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest

from warehouse.errors import LinkDown
from warehouse.gateway.journal import Journal
from warehouse.gateway.refusing import Refusing
from warehouse.s3.failures import Failure


class Piece:
    """Stands for what came of a body."""


def fail(held: list[weakref.ref[Piece]]) -> None:
    """Raise an error that hangs in a circle with this frame."""
    piece = Piece()
    held.append(weakref.ref(piece))
    failure = Failure("InvalidRequest", "It cannot be read.")
    raise failure


def fail_within(held: list[weakref.ref[Piece]]) -> None:
    piece = Piece()
    held.append(weakref.ref(piece))
    try:
        fail(held)
    except Failure as failure:
        outer = Failure("IncompleteBody", "It ended too early.")
        raise outer from failure


def fail_in_a_group(held: list[weakref.ref[Piece]]) -> None:
    try:
        fail_within(held)
    except Failure as failure:
        group = BaseExceptionGroup("of a nursery", [failure])
        outer = Failure("IncompleteBody", "It ended too early.")
        raise outer from group


@pytest.mark.parametrize("raise_it", [fail, fail_within, fail_in_a_group])
def test_a_refused_body_needs_no_memory_until_the_collector_comes(raise_it: object) -> None:
    assert callable(raise_it)
    held: list[weakref.ref[Piece]] = []
    gc.disable()
    try:
        try:
            raise_it(held)
        except Failure as failure:
            Refusing("gateway", Journal()).render(failure, None)
        assert held
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()


def test_why_the_store_does_not_answer_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    cause = "no answer from a master at tcp://192.0.2.1:7400"
    with caplog.at_level(logging.INFO, "warehouse.gateway.refusing"):
        rendered = Refusing("gateway", Journal()).render(LinkDown(cause), None)
    assert rendered.status == 503
    assert b"192.0.2.1" not in rendered.body
    [record] = caplog.records
    assert record.__dict__["cause"] == cause
    assert record.__dict__["request_id"].encode() in rendered.body
