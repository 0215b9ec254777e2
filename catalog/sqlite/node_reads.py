"""Node reads: the machines of the store, and their join tokens."""

from __future__ import annotations

from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.catalog.sqlite.columns import JOIN_COLUMNS, NODE_COLUMNS, join_token_row
from warehouse.catalog.sqlite.reader import Reader


class NodeReads(Reader):
    """Part of `SqliteCatalog`."""

    def nodes(self) -> list[NodeRow]:
        return [
            NodeRow(*row) for row in self._all(f"SELECT {NODE_COLUMNS} FROM nodes ORDER BY added_ms, key")
        ]

    def join_tokens(self) -> list[JoinTokenRow]:
        rows = self._all(f"SELECT {JOIN_COLUMNS} FROM join_tokens ORDER BY created_ms, id")
        return [join_token_row(columns) for columns in rows]

    def join_token(self, token_id: str) -> JoinTokenRow | None:
        found = self._one(f"SELECT {JOIN_COLUMNS} FROM join_tokens WHERE id = ?", (token_id,))
        return None if found is None else join_token_row(found)

    def unproven_ids(self) -> dict[int, int]:
        return dict(self._all("SELECT id, unproven_to FROM volumes WHERE unproven_to > 0"))
