"""Rotation: the master's secrets are replaced while the store runs, with an overlap or at once.

    access   a new key signs access tokens; with an overlap nobody is logged out, at once everybody is
    data     a new secret signs data tokens and URLs.  Every disk is told first, and gets tokens of the new
             secret when it has answered; so no disk ever sees a token that it cannot check
    curve    the control socket gets a new key pair.  Everybody is told of it while the present one is used
             on, and keeps it in profiles and join files; after the switch all connect again.  At once, nobody
             is told: then only files that are brought to them help
    authority  another authority signs the certificates of servers.  Clients log in again at once, and are
             told; disks are told with their next report, and then get new certificates
    seal     the secrets of API keys are sealed anew, `SEALED_AT_ONCE` in a transaction; then the old key goes

The keyring (`keyring.py`) has the files and the order of their writes.  Whatever a crash interrupts goes on
after the start: secrets that are still sealed with an older key are sealed anew, disks get all keys when they
register.

A disk that cannot be told (its actor is frozen, or of a release that does not know the command) is
disconnected: it gets the keys in the answer to its next registration.  Until then it does not know that
a secret is void; `http.unheard_s` bounds for how long it then serves at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from warehouse.actors.certificates import BUNDLE_NAME, save_bundle
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.first_start import JOIN_NAME, PROFILE_NAME
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.live_keys import LiveKeys
from warehouse.actors.control.presign_terms import PRESIGN_S_MAX
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.rpc import call
from warehouse.actors.control.sessions import ACCESS_TOKEN_S, ClientSession, Sessions
from warehouse.auth.rights import Permission
from warehouse.auth.sealing import API_KEY_SECRET, Sealer, seal_key_id_of
from warehouse.catalog.identities import ApiKeyRow
from warehouse.conf.server_keys import read_server_keys, write_server_keys
from warehouse.errors import BadRequest, SealBroken, StoreError, WriteFailed
from warehouse.transport.messages import Done, ReplaceTokenKeys, RotateSecret, SecretRotated
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

OVERLAP_S_MAX: Final = 30 * 24 * 3600
DAY_S: Final = 24 * 3600
# The longest life of what each signs; or time for everybody to be told.
OVERLAPS_S: Final = {
    "access": int(ACCESS_TOKEN_S),
    "data": int(PRESIGN_S_MAX),
    "curve": DAY_S,
    "authority": DAY_S,
}
TELL_S = 5.0  # a disk answers by then, or has to register again
LOOK_S = 1.0  # between looks for overlaps that have ended
SEALED_AT_ONCE = 200  # API keys in one transaction
NAMED_MAX = 1000  # disks in one answer


class Rotations:
    """
    Args:
        disconnect: ends the connection of a peer; it may come back.
        listen_with: has the control socket known by other keys.
        bundle: the certificates that clients trust.
        peers: who is connected now.
        register_again: has every disk register again, which tells it of the authority at once.
    """

    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        keyring: Keyring,
        keys: LiveKeys,
        disconnect: Callable[[Peer, str], None],
        listen_with: Callable[[CurveKeys], None],
        bundle: Callable[[], str],
        peers: Callable[[], Mapping[bytes, Peer]],
        register_again: Callable[[], None],
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._keyring = keyring
        self._keys = keys
        self._disconnect = disconnect
        self._listen_with = listen_with
        self._bundle = bundle
        self._peers = peers
        self._register_again = register_again
        self._turn = trio.Lock()  # one change of the keyring at a time

    def routes(self) -> Routes:
        return Routes().later(RotateSecret, self.rotate)

    # --- requests ---------------------------------------------------------------------------------

    async def rotate(self, peer: Peer, request: RotateSecret) -> SecretRotated:
        self._sessions.require(peer, Permission.MANAGE_KEYS)
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        async with self._turn:
            return await self._rotated(peer, request)

    async def _rotated(self, peer: Peer, request: RotateSecret) -> SecretRotated:
        if request.what == "seal":
            return await self._rotate_seal(request)
        overlap_s = self._overlap_of(request)
        at_ms = now_ms()
        keyring = self._keyring
        rotate = {
            "access": keyring.rotate_access,
            "data": keyring.rotate_data,
            "curve": keyring.rotate_curve,
            "authority": keyring.rotate_authority,
        }
        await self._write(partial(rotate[request.what], now_ms=at_ms, overlap_ms=overlap_s * 1000))
        log.warning("secret rotated", extra={"what": request.what, "overlap_s": overlap_s})
        unreached: list[str] = []
        if request.what == "access":
            self._end_sessions(peer, overlap_s)
        elif request.what == "data":
            unreached = await self._tell_disks()
            if not overlap_s:  # only now: a disk that knew the new one alone would refuse what is under way
                await self._write(partial(keyring.drop_ended, at_ms))
                unreached = await self._tell_disks()
        elif request.what == "authority":
            await self._spread_authority()
            if not overlap_s:  # nobody trusts the certificates that they show
                self._register_again()
        elif overlap_s:
            self._have_clients_attach()  # which tells them of the next server key; disks ask all the time
        return SecretRotated(
            until_ms=at_ms + overlap_s * 1000 if overlap_s else 0, unreached=unreached[:NAMED_MAX]
        )

    def _overlap_of(self, request: RotateSecret) -> int:
        if request.what not in OVERLAPS_S:
            raise BadRequest(f"a store rotates {', '.join(OVERLAPS_S)} and seal, not {request.what!r}")
        if request.overlap_s is None:
            return OVERLAPS_S[request.what]
        if request.overlap_s > OVERLAP_S_MAX:
            raise BadRequest(
                f"an overlap has at most {OVERLAP_S_MAX // 86_400} days, not {request.overlap_s / 86_400:g}"
            )
        return request.overlap_s

    async def _write(self, change: Callable[[], object]) -> None:
        """
        Raises:
            BadRequest: the keyring refuses.
            WriteFailed: the file cannot be written.
        """
        try:
            await trio.to_thread.run_sync(change)
        except OSError as error:
            raise WriteFailed(f"the keyring cannot be written: {error.strerror}") from error

    # --- access -----------------------------------------------------------------------------------

    def _end_sessions(self, asking: Peer, overlap_s: int) -> None:
        """No session outlives its token; at once, the connections of all others end, with their waiting."""
        ends_at = time.monotonic() + overlap_s
        for peer in list(self._peers().values()):
            session = peer.session
            if isinstance(session, ClientSession):
                session.expires_at = min(session.expires_at, ends_at)
                if not overlap_s and peer is not asking:
                    self._disconnect(peer, "all access tokens were voided")

    def _have_clients_attach(self) -> None:
        """Their next requests are refused for want of a session; the library attaches, and asks again."""
        for peer in self._peers().values():
            if isinstance(peer.session, ClientSession):
                peer.session.expires_at = 0.0

    # --- authority --------------------------------------------------------------------------------

    async def _spread_authority(self) -> None:
        """Have clients attach again, which tells them; disks hear of it with their next report."""
        self._have_clients_attach()
        await trio.to_thread.run_sync(save_bundles, self._context.catalog.folder, self._bundle())

    # --- data -------------------------------------------------------------------------------------

    async def _tell_disks(self) -> list[str]:
        """Give every disk its keys; return the names of those that have to register again for it."""
        unreached: list[str] = []
        # Shielded for TELL_S at most: nobody's haste may leave a void secret with half of the disks.
        with trio.CancelScope(shield=True):
            await self._tell_all(unreached)
        return sorted(unreached)

    async def _tell_all(self, unreached: list[str]) -> None:
        async with trio.open_nursery() as nursery:
            for disk in list(self._context.fleet.disks.values()):
                nursery.start_soon(self._tell, disk, unreached)

    async def _tell(self, disk: DiskState, unreached: list[str]) -> None:
        keys = self._keyring.token_keys_of(disk.disk_id, disk.node_key, has_older_urls=disk.has_older_urls)
        peer = disk.peer
        if peer is not None:
            command = ReplaceTokenKeys(incarnation=self._context.incarnation, token_keys=keys)
            try:
                await call(peer, command, Done, timeout_s=TELL_S)
            except StoreError as error:
                log.warning("disk not told of its keys", extra={"disk": disk.name, "cause": error.message})
                if not peer.is_gone:
                    self._disconnect(peer, "it did not take its new token keys")
        if peer is None or peer.is_gone:
            unreached.append(disk.name)
        # It may have registered again meanwhile, with the same keys.
        disk.token_keys = keys

    # --- seal -------------------------------------------------------------------------------------

    async def _rotate_seal(self, request: RotateSecret) -> SecretRotated:
        if request.overlap_s is not None:
            raise BadRequest("a seal needs no overlap: its old key goes when nothing is sealed with it")
        await self._write(self._keyring.rotate_seal)
        return SecretRotated(resealed_count=await self._seal_again())

    async def _seal_again(self) -> int:
        """Seal everything with the newest key, then forget the others; return for how many API keys."""
        sealer, count = self._keyring.sealer, 0
        # What was sealed with an earlier key a moment ago may still wait for its transaction.  Transactions
        # keep their order: after one of ours, the catalog shows all of it.
        await self._context.writer.write(lambda transaction: None)
        stale = [row.id for row in self._context.catalog.api_keys() if _seals_of(row) - {sealer.key_id}]
        for start in range(0, len(stale), SEALED_AT_ONCE):
            ids = stale[start : start + SEALED_AT_ONCE]
            count += await self._keys.reseal(ids, partial(_seal_again, sealer))
        used = set().union(*map(_seals_of, self._context.catalog.api_keys()))
        await self._write(partial(self._keyring.drop_seal_keys, used))
        return count

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Finish what a crash interrupted; then end each overlap in its time, until cancelled."""
        await self._finish()
        listening = self._keyring.curve
        while True:
            await trio.sleep(LOOK_S)
            if self._keyring.has_ended(now_ms()):
                await self._end_overlaps()
            if listening != self._keyring.curve:
                await trio.to_thread.run_sync(
                    correct_files, self._context.catalog.folder, listening, self._keyring
                )
                listening = self._keyring.curve
                self._listen_with(listening)

    async def _finish(self) -> None:
        async with self._turn:
            try:
                await self._seal_again()
            except StoreError as error:  # the next start tries again, and so does the next rotation
                log.error("secrets not sealed anew", extra={"cause": error.message})

    async def _end_overlaps(self) -> None:
        async with self._turn:
            try:
                await self._write(partial(self._keyring.drop_ended, now_ms()))
            except StoreError as error:
                log.error("an old secret not dropped", extra={"cause": error.message})
                await trio.sleep(TELL_S)
                return
            log.info("an overlap has ended")
            await trio.to_thread.run_sync(save_bundles, self._context.catalog.folder, self._bundle())
            await self._tell_disks()


def correct_files(folder: Path, before: CurveKeys, keyring: Keyring) -> None:
    """Write the new server key into the files of the master's own machine.  Blocks.

    Args:
        folder: the master's; profiles are there, or next to it where `warehouse up` has put one.
    """
    for path in (folder / JOIN_NAME, folder / PROFILE_NAME, folder.parent / PROFILE_NAME):
        with suppress(OSError):
            if not path.is_file():
                continue
        try:
            if read_server_keys(path).partition(" ")[0] == before.public.decode():
                write_server_keys(path, keyring.server_keys)
        except StoreError as error:  # a start corrects it
            log.warning("server key not written", extra={"path": str(path), "cause": error.message})


def save_bundles(folder: Path, bundle: str) -> None:
    """Write the certificates that clients trust where a start has written them.  Blocks."""
    for place in (folder, folder.parent):
        if (place / BUNDLE_NAME).exists():
            try:
                save_bundle(place, bundle)
            except (OSError, StoreError) as error:  # a start corrects it
                log.warning("certificates not written", extra={"folder": str(place), "cause": str(error)})


def _seals_of(row: ApiKeyRow) -> set[str]:
    """Ids of the seal keys that a row needs."""
    found = set()
    for sealed in (row.sealed, row.previous_sealed):
        if sealed is not None:
            try:
                found.add(seal_key_id_of(sealed))
            except SealBroken as error:
                log.error("sealed secret damaged", extra={"key_id": row.id, "cause": error.message})
    return found


def _seal_again(sealer: Sealer, row: ApiKeyRow) -> tuple[bytes | None, bytes | None]:
    """The two sealed secrets of a key, under the newest seal key; one that does not open stays as it is."""

    def again(sealed: bytes | None) -> bytes | None:
        if sealed is None:
            return None
        try:
            secret = sealer.open(sealed, purpose=API_KEY_SECRET, subject=row.id)
        except SealBroken as error:
            log.error("sealed secret not opened", extra={"key_id": row.id, "cause": error.message})
            return sealed
        return sealer.seal(secret, purpose=API_KEY_SECRET, subject=row.id)

    return again(row.sealed), again(row.previous_sealed)
