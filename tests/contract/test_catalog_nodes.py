"""Nodes and join tokens: what a catalog of any engine promises about them."""

import pytest

from catalog_kit import CREATED_MS
from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.errors import JoinTokenUsed, NodeRemoved, NoSuchNode

NODE = NodeRow("k" * 40, "disk-1", "volume", "192.0.2.7", CREATED_MS, disk_id="d")


def join(kit, node: NodeRow, token_id: str) -> None:
    def write(t):
        t.use_join_token(token_id)
        t.put_node(node)

    kit.do(write)


def add_token(kit, token_id: str, *, is_reusable: bool) -> None:
    row = JoinTokenRow(token_id, bytes(32), "both", is_reusable, CREATED_MS, "KEY")
    kit.do(lambda t: t.add_join_token(row))


def test_a_node_that_is_removed_while_it_joins_again_stays_removed(kit):
    """The request to join was admitted before the removal, and comes to its commit after it."""
    add_token(kit, "many", is_reusable=True)
    join(kit, NODE, "many")
    kit.do(lambda t: t.remove_node(NODE.key, CREATED_MS + 1))
    with pytest.raises(NodeRemoved):
        join(kit, NODE, "many")
    (row,) = kit.catalog.nodes()
    assert row.removed_ms == CREATED_MS + 1
    assert kit.catalog.join_token("many").use_count == 1
    with pytest.raises(NoSuchNode):
        kit.do(lambda t: t.remove_node(NODE.key, CREATED_MS + 2))


def test_a_token_for_one_node_lets_one_in(kit):
    add_token(kit, "once", is_reusable=False)
    join(kit, NODE, "once")
    with pytest.raises(JoinTokenUsed):
        join(kit, NodeRow("l" * 40, "disk-2", "volume", "192.0.2.8", CREATED_MS), "once")
    assert [row.key for row in kit.catalog.nodes()] == [NODE.key]
