"""Welcome: as many keys as a store may have fit into it, or no disk could register any more."""

from __future__ import annotations

import msgspec

from warehouse.auth.data_tokens import REVOKED_MAX
from warehouse.catalog.identities import KEYS_MAX, ROOTS_MAX
from warehouse.transport.messages import DataLimits, KeysRevoked, LimitKeys, Welcome
from warehouse.transport.messages.base import FRAME_SIZE_MAX


def test_a_welcome_takes_all_keys_of_a_store_with_the_longest_ids() -> None:
    ids = [f"{number:0128d}" for number in range(KEYS_MAX + ROOTS_MAX)]
    limits = dict.fromkeys(ids, DataLimits(requests_per_s=1e9, bytes_per_s=1e9, requests_at_once=1 << 53))
    revoked = dict.fromkeys(ids, 1 << 62)
    sent = [
        Welcome(incarnation=1, stamp=1, token_keys={"k": b"k" * 32}, revoked=revoked, limits=limits),
        KeysRevoked(incarnation=1, epochs=revoked),
        LimitKeys(incarnation=1, limits=limits),
    ]
    for message in sent:
        packed = msgspec.msgpack.encode(message)
        assert msgspec.msgpack.decode(packed, type=type(message)) == message
        assert len(packed) < FRAME_SIZE_MAX - 64 * 1024, "certificates and names of hosts take the rest"
    assert KEYS_MAX + ROOTS_MAX <= REVOKED_MAX, "a volume actor forgets none of them"
