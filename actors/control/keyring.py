"""Keyring: the secrets of a master, what they sign and seal, and their rotation.

The files are in `<data>/keys/` (`key_files.py`).  They survive restarts, so a restart voids no token.

A rotation makes a new secret, which signs from then on.  What the one before has signed stays valid for an
overlap (`until_ms`), or becomes void at once (an overlap of 0: the secret leaked).  Every step writes its
file first, then counts in memory.  A crash in between leaves the state before or the state after; of a
rotation at once it may leave earlier keys, whose private halves are gone, until their overlaps end.
Rotations are carried out by `rotation.py`, which also tells those who have to know.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace as replace_fields

from warehouse.actors.control import key_files
from warehouse.actors.control.key_files import (
    DataSecret,
    EarlierAccessKey,
    EarlierAuthority,
    NextCurve,
    Rotation,
    Secrets,
)
from warehouse.auth.access_tokens import AccessSigner
from warehouse.auth.authority import EARLIER_MAX as AUTHORITIES_MAX
from warehouse.auth.authority import Authority, join_bundles
from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.auth.sealing import Sealer, generate_seal_key
from warehouse.conf.files import write_whole
from warehouse.conf.server_keys import join_server_keys
from warehouse.errors import BadRequest
from warehouse.transport.zeromq.curve import CurveKeys

MASTER_AUDIENCE = "master"  # of tokens for nobody but this master; disks are named by UUIDs
EARLIER_MAX = 16  # secrets of one kind whose overlap has not ended: each is tried or told to every disk


class Keyring:
    """The secrets of one master.

    Attributes:
        access: signs and checks access tokens.
        authority: signs the certificates of the nodes; its bundle is what clients trust.
        sealer: seals and opens the secrets of API keys.
    """

    access: AccessSigner
    authority: Authority
    sealer: Sealer

    def __init__(self, directory: Path, secrets: Secrets) -> None:
        self._directory = directory
        self._use(secrets)

    @classmethod
    def load_or_create(cls, directory: Path) -> Keyring:
        """Read the keys of `directory`, or make all of them when the directory has none.

        Raises:
            SecretMissing, SetupError: see `key_files.load_or_create`.
        """
        return cls(directory, key_files.load_or_create(directory))

    def _use(self, secrets: Secrets) -> None:
        self._secrets = secrets
        earlier = {key.public: key.until_ms / 1000 for key in secrets.rotation.access}
        self.access = AccessSigner(secrets.access_pem, earlier_keys=earlier)
        self.authority = secrets.authority
        self.sealer = Sealer(secrets.seal)
        self._proof_keys = tuple(
            hmac.digest(entry.secret, b"warehouse promise", hashlib.sha256) for entry in secrets.data
        )

    @property
    def curve(self) -> CurveKeys:
        return self._secrets.curve

    @property
    def next_server_key(self) -> str:
        """The public key that the control socket will have; "": the present one stays."""
        following = self._secrets.rotation.curve
        # After a crash between two writes of a switch both are the same.
        return "" if following is None or following.public == self.curve.public.decode() else following.public

    @property
    def server_keys(self) -> str:
        """What profiles and join files say now; see `conf/server_keys.py`."""
        return join_server_keys(self.curve.public.decode(), self.next_server_key)

    @property
    def join_secret(self) -> str | None:
        """That of a store of 0.1.0; None: there is none, or no longer."""
        return self._secrets.join_secret

    # --- data tokens ------------------------------------------------------------------------------

    def token_keys_of(
        self, disk_id: str, node_key: str = "", *, has_older_urls: bool = False
    ) -> dict[str, bytes]:
        """HS256 keys for the tokens of one disk, oldest first: no disk's key opens another disk.

        Args:
            node_key: of the node that the disk belongs to; "": of none.  When the disk goes over to another
                node, what the first one knows opens nothing more.
            has_older_urls: there are tokens from the time before the disk belonged to its node.
        """
        keys: dict[str, bytes] = {}
        if not node_key or has_older_urls:
            keys |= self._derived("", disk_id.encode())
        if node_key:
            keys |= self._derived(".n", disk_id.encode() + b"\0" + node_key.encode())
        return keys

    def _derived(self, suffix: str, whose: bytes) -> dict[str, bytes]:
        return {
            entry.id + suffix: hmac.digest(entry.secret, b"warehouse data token\0" + whose, hashlib.sha256)
            for entry in self._secrets.data
        }

    def sign(self, claims: DataClaims, token_keys: Mapping[str, bytes]) -> str:
        """A data token for whoever has these keys (see `token_keys_of`), signed with the latest of them.

        A disk that was not told of the latest secret yet gets tokens of the one before, which it knows.
        """
        *_, key_id = token_keys
        proof_key = self.proof_keys()[-1] if claims.operation == "put" else None
        return sign_data_token(claims, key_id=key_id, key=token_keys[key_id], proof_key=proof_key)

    def proof_keys(self) -> tuple[bytes, ...]:
        """Keys for the proofs in tokens, oldest first; no disk has one."""
        return self._proof_keys

    @property
    def signing_key_id(self) -> str:
        return self._secrets.data[-1].id

    # --- rotation ---------------------------------------------------------------------------------

    def rotate_access(self, *, now_ms: int, overlap_ms: int) -> None:
        """Sign access tokens with a new key.

        Args:
            overlap_ms: how long tokens of the present key stay valid; 0: they, and those of all earlier
                keys, are void now.
        Raises:
            BadRequest: too many rotations have not ended.
            OSError: the files cannot be written; the keys stay as they are, or no token was signed yet with
                the new one.
        """
        present = EarlierAccessKey(self.access.public, now_ms + overlap_ms)
        earlier = (*_lasting(self._secrets.rotation.access, now_ms), present) if overlap_ms else ()
        _require_few(earlier)
        rotation = replace_fields(self._secrets.rotation, access=earlier)
        after = replace(self._secrets, access_pem=key_files.generate_access_pem(), rotation=rotation)
        self._write_two(rotation, "access.pem", after.access_pem, is_rotation_first=overlap_ms > 0)
        self._use(after)

    def rotate_data(self, *, now_ms: int, overlap_ms: int) -> None:
        """Have new data tokens signed with a new secret; the disks have to be told.

        Args:
            overlap_ms: how long tokens of the present secret stay valid; 0: `drop_ended` ends them as soon as
                every disk knows the new one.
        Raises:
            BadRequest, OSError: as `rotate_access`.
        """
        if overlap_ms:
            *before, present = _lasting(self._secrets.data, now_ms)
            earlier = (*before, replace(present, until_ms=now_ms + overlap_ms))
            _require_few(earlier)
        else:
            earlier = tuple(replace(entry, until_ms=now_ms) for entry in self._secrets.data)
        data = (*earlier, key_files.generate_data_secret())
        self._write("data.json", key_files.data_file(data))
        self._use(replace(self._secrets, data=data))

    def rotate_authority(self, *, now_ms: int, overlap_ms: int) -> None:
        """Sign certificates with a new authority; the nodes have to get new ones.

        Args:
            overlap_ms: how long certificates of the present authority stay trusted; 0: they, and those of all
                earlier authorities, count for nothing now.
        Raises:
            BadRequest, OSError: as `rotate_access`.
        """
        present = EarlierAuthority(self.authority.certificate, now_ms + overlap_ms)
        earlier = (*_lasting(self._secrets.rotation.authority, now_ms), present) if overlap_ms else ()
        _require_few(earlier, count_max=AUTHORITIES_MAX)
        rotation = replace_fields(self._secrets.rotation, authority=earlier)
        new = Authority.generate(now=datetime.fromtimestamp(now_ms / 1000, UTC))
        authority = Authority(
            new.key_pem, join_bundles(new.bundle, *(entry.certificate for entry in earlier))
        )
        content = key_files.authority_file(authority)
        self._write_two(rotation, "authority.key", content, is_rotation_first=overlap_ms > 0)
        self._use(replace(self._secrets, authority=authority, rotation=rotation))

    def rotate_curve(self, *, now_ms: int, overlap_ms: int) -> None:
        """Give the control socket a new key pair.

        Args:
            overlap_ms: how long the present one is used on, so that everybody hears of the next one; 0: the
                new one counts now, and one that was announced never will.
        Raises:
            BadRequest: another one was announced already.
            OSError: as `rotate_access`.
        """
        if overlap_ms and self.next_server_key:
            raise BadRequest(
                "the next server key is announced already: wait for the switch, or rotate at once"
            )
        made = CurveKeys.generate()
        following = NextCurve(made.public.decode(), made.secret.decode(), now_ms + overlap_ms)
        self._use_rotation(curve=following)
        if not overlap_ms:
            self.switch_curve()

    def switch_curve(self) -> None:
        """Use the next key pair from now on."""
        following = self._secrets.rotation.curve
        if following is None:
            return
        keys = CurveKeys(following.public.encode(), following.secret.encode())
        keys.save(self._directory / "curve.key")
        self._use(replace(self._secrets, curve=keys))
        self._use_rotation(curve=None)

    def _use_rotation(self, **changes: Any) -> None:
        rotation = replace_fields(self._secrets.rotation, **changes)
        self._write(key_files.ROTATION_NAME, key_files.rotation_file(rotation))
        self._use(replace(self._secrets, rotation=rotation))

    def rotate_seal(self) -> str:
        """Seal with a new key from now on; all earlier ones still open.  Returns the id of the new one.

        Raises:
            BadRequest, OSError: as `rotate_access`.
        """
        _require_few(self._secrets.seal)
        key_id, key = generate_seal_key()
        self._write_seal({**self._secrets.seal, key_id: key})
        return key_id

    def drop_seal_keys(self, used: Collection[str]) -> list[str]:
        """Forget the earlier seal keys that nothing is sealed with any more; return their ids."""
        keep = {*used, self.sealer.key_id}
        dropped = [key_id for key_id in self._secrets.seal if key_id not in keep]
        if dropped:
            self._write_seal({key_id: key for key_id, key in self._secrets.seal.items() if key_id in keep})
        return dropped

    def has_ended(self, now_ms: int) -> bool:
        """Is there something for `drop_ended` to do?"""
        rotation = self._secrets.rotation
        ends = [] if rotation.curve is None else [rotation.curve.at_ms]
        ends += [key.until_ms for key in rotation.access]
        ends += [authority.until_ms for authority in rotation.authority]
        ends += [entry.until_ms for entry in self._secrets.data if entry.until_ms is not None]
        return bool(ends) and min(ends) <= now_ms

    def drop_ended(self, now_ms: int) -> bool:
        """Forget the secrets whose overlap has ended; were there any?"""
        before = self._secrets
        self._drop_ended_data(now_ms)
        if before.rotation.curve is not None and before.rotation.curve.at_ms <= now_ms:
            self.switch_curve()
        rotation = replace_fields(
            self._secrets.rotation,
            access=_lasting(before.rotation.access, now_ms),
            authority=_lasting(before.rotation.authority, now_ms),
        )
        if rotation == self._secrets.rotation:
            return self._secrets is not before
        trusted = [self.authority.certificate, *(entry.certificate for entry in rotation.authority)]
        authority = Authority(self.authority.key_pem, join_bundles(*trusted))
        self._write_two(
            rotation, "authority.key", key_files.authority_file(authority), is_rotation_first=False
        )
        self._use(replace(self._secrets, rotation=rotation, authority=authority))
        return True

    def _drop_ended_data(self, now_ms: int) -> None:
        data = _lasting(self._secrets.data, now_ms)
        if len(data) < len(self._secrets.data):
            self._write("data.json", key_files.data_file(data))
            self._use(replace(self._secrets, data=data))

    def _write_two(self, rotation: Rotation, name: str, content: bytes, *, is_rotation_first: bool) -> None:
        """Write a secret, and what is known of those before it.

        With an overlap the list of the earlier ones comes first: the present one must never be in neither
        file.  Without, it comes last: an earlier one that is dropped twice harms nobody.
        """
        if is_rotation_first:
            self._write(key_files.ROTATION_NAME, key_files.rotation_file(rotation))
        self._write(name, content)
        if not is_rotation_first:
            self._write(key_files.ROTATION_NAME, key_files.rotation_file(rotation))

    def _write_seal(self, keys: dict[str, bytes]) -> None:
        self._write("seal.json", key_files.seal_file(keys))
        self._use(replace(self._secrets, seal=keys))

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self._directory / name, content)


E = TypeVar("E", DataSecret, EarlierAccessKey, EarlierAuthority)


def _lasting(entries: Collection[E], now_ms: int) -> tuple[E, ...]:
    return tuple(entry for entry in entries if entry.until_ms is None or now_ms < entry.until_ms)


def _require_few(earlier: Collection[object], *, count_max: int = EARLIER_MAX) -> None:
    if len(earlier) >= count_max:
        raise BadRequest(
            f"{count_max} secrets of this kind are in use, because earlier rotations have not ended: wait,"
            " or rotate at once"
        )
