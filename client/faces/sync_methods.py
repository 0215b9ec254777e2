"""Methods of the sync face: one call, one answer.  Written by generate.py; do not edit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Literal

from msgspec import UNSET, UnsetType

from warehouse.client.bucket import Bucket
from warehouse.client.faces.sync_link import Link
from warehouse.client.finding import FoundPage, Order
from warehouse.client.identities import Expiry, Grants, NewKey
from warehouse.client.listing import ListedPage
from warehouse.client.maintenance import JobProgress
from warehouse.client.membership import TOKEN_S
from warehouse.client.store import Store
from warehouse.client.writing.direct_uploads import DirectUpload, UploadSlot
from warehouse.client.writing.uploads import Progress
from warehouse.transport.messages import (
    OVERLAP_S,
    AccountInfo,
    BucketInfo,
    BucketPoint,
    DiskInfo,
    DiskRemoved,
    Figures,
    HistoryPoint,
    Job,
    JoinTokenInfo,
    JoinTokenMade,
    KeyInfo,
    KeyLimits,
    NodeInfo,
    ObjectInfo,
    ObjectWritten,
    SecretRotated,
    Status,
    VolumesListed,
)
from warehouse.transport.messages.attributes import ObjectAttributes


class StoreMethods:
    _inner: Store
    _link: Link

    def delete_bucket(self, name: str, *, force: bool = False) -> None:
        """As `warehouse.Store.delete_bucket`."""
        self._link.call(lambda: self._inner.delete_bucket(name, force=force))

    def buckets(self) -> list[BucketInfo]:
        """As `warehouse.Store.buckets`."""
        return self._link.call(lambda: self._inner.buckets())

    def data_urls(self) -> list[str]:
        """As `warehouse.Store.data_urls`."""
        return self._link.call(lambda: self._inner.data_urls())

    def s3_urls(self) -> list[str]:
        """As `warehouse.Store.s3_urls`."""
        return self._link.call(lambda: self._inner.s3_urls())

    def status(self, *, volumes: bool = True) -> Status:
        """As `warehouse.Store.status`."""
        return self._link.call(lambda: self._inner.status(volumes=volumes))

    def volumes(self, disk_id: str, start: int = 0, limit: int = 100) -> VolumesListed:
        """As `warehouse.Store.volumes`."""
        return self._link.call(lambda: self._inner.volumes(disk_id, start, limit))

    def disks_of(self, volume_ids: Iterable[int]) -> dict[int, str]:
        """As `warehouse.Store.disks_of`."""
        return self._link.call(lambda: self._inner.disks_of(volume_ids))

    def figures(self) -> Figures:
        """As `warehouse.Store.figures`."""
        return self._link.call(lambda: self._inner.figures())

    def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[HistoryPoint]:
        """As `warehouse.Store.history`."""
        return self._link.call(lambda: self._inner.history(since=since, points_max=points_max))

    def compact(self, volume_ids: Iterable[int] | None = None, *, force: bool = False) -> list[Job]:
        """As `warehouse.Store.compact`."""
        return self._link.call(lambda: self._inner.compact(volume_ids, force=force))

    def verify(self, volume_ids: Iterable[int] | None = None) -> list[Job]:
        """As `warehouse.Store.verify`."""
        return self._link.call(lambda: self._inner.verify(volume_ids))

    def jobs(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """As `warehouse.Store.jobs`."""
        return self._link.call(lambda: self._inner.jobs(job_ids))

    def jobs_and_pause(self, job_ids: Iterable[int] = ()) -> tuple[list[Job], bool]:
        """As `warehouse.Store.jobs_and_pause`."""
        return self._link.call(lambda: self._inner.jobs_and_pause(job_ids))

    def wait_jobs(self, jobs: Iterable[Job], progress: JobProgress | None = None) -> list[Job]:
        """As `warehouse.Store.wait_jobs`."""
        return self._link.call_telling(lambda progress: self._inner.wait_jobs(jobs, progress), progress)

    def cancel_jobs(self, job_ids: Iterable[int]) -> list[Job]:
        """As `warehouse.Store.cancel_jobs`."""
        return self._link.call(lambda: self._inner.cancel_jobs(job_ids))

    def keep_orphans(self) -> None:
        """As `warehouse.Store.keep_orphans`."""
        self._link.call(lambda: self._inner.keep_orphans())

    def drop_orphans(self) -> None:
        """As `warehouse.Store.drop_orphans`."""
        self._link.call(lambda: self._inner.drop_orphans())

    def rotate_secret(self, what: str, *, overlap_s: int | None = None) -> SecretRotated:
        """As `warehouse.Store.rotate_secret`."""
        return self._link.call(lambda: self._inner.rotate_secret(what, overlap_s=overlap_s))

    def pause_jobs(self) -> list[Job]:
        """As `warehouse.Store.pause_jobs`."""
        return self._link.call(lambda: self._inner.pause_jobs())

    def resume_jobs(self) -> list[Job]:
        """As `warehouse.Store.resume_jobs`."""
        return self._link.call(lambda: self._inner.resume_jobs())

    def are_jobs_paused(self) -> bool:
        """As `warehouse.Store.are_jobs_paused`."""
        return self._link.call(lambda: self._inner.are_jobs_paused())

    def create_join_token(
        self, *, role: str = "both", is_reusable: bool = False, expires_in_s: float | None = TOKEN_S
    ) -> JoinTokenMade:
        """As `warehouse.Store.create_join_token`."""
        return self._link.call(
            lambda: self._inner.create_join_token(
                role=role, is_reusable=is_reusable, expires_in_s=expires_in_s
            )
        )

    def join_tokens(self) -> list[JoinTokenInfo]:
        """As `warehouse.Store.join_tokens`."""
        return self._link.call(lambda: self._inner.join_tokens())

    def remove_join_token(self, token_id: str) -> None:
        """As `warehouse.Store.remove_join_token`."""
        self._link.call(lambda: self._inner.remove_join_token(token_id))

    def nodes(self) -> list[NodeInfo]:
        """As `warehouse.Store.nodes`."""
        return self._link.call(lambda: self._inner.nodes())

    def remove_node(self, node: str) -> None:
        """As `warehouse.Store.remove_node`."""
        self._link.call(lambda: self._inner.remove_node(node))

    def disks(self) -> list[DiskInfo]:
        """As `warehouse.Store.disks`."""
        return self._link.call(lambda: self._inner.disks())

    def confirm_disk(self, disk: str, url: str) -> None:
        """As `warehouse.Store.confirm_disk`."""
        self._link.call(lambda: self._inner.confirm_disk(disk, url))

    def remove_disk(self, disk: str) -> DiskRemoved:
        """As `warehouse.Store.remove_disk`."""
        return self._link.call(lambda: self._inner.remove_disk(disk))

    def create_key(
        self,
        name: str,
        *,
        preset: str | None = None,
        permissions: Iterable[str] | None = None,
        grants: Grants | None = None,
        expires: Expiry | None = None,
        description: str = "",
        account: str = "",
        sign_s_max: int | None = None,
        limits: KeyLimits | None = None,
    ) -> NewKey:
        """As `warehouse.Store.create_key`."""
        return self._link.call(
            lambda: self._inner.create_key(
                name,
                preset=preset,
                permissions=permissions,
                grants=grants,
                expires=expires,
                description=description,
                account=account,
                sign_s_max=sign_s_max,
                limits=limits,
            )
        )

    def import_key(
        self,
        key_id: str,
        secret: str,
        name: str,
        *,
        preset: str | None = None,
        permissions: Iterable[str] | None = None,
        grants: Grants | None = None,
        expires: Expiry | None = None,
        description: str = "",
        account: str = "",
        sign_s_max: int | None = None,
        limits: KeyLimits | None = None,
    ) -> KeyInfo:
        """As `warehouse.Store.import_key`."""
        return self._link.call(
            lambda: self._inner.import_key(
                key_id,
                secret,
                name,
                preset=preset,
                permissions=permissions,
                grants=grants,
                expires=expires,
                description=description,
                account=account,
                sign_s_max=sign_s_max,
                limits=limits,
            )
        )

    def keys(self) -> list[KeyInfo]:
        """As `warehouse.Store.keys`."""
        return self._link.call(lambda: self._inner.keys())

    def key(self, key_id: str | None = None) -> KeyInfo:
        """As `warehouse.Store.key`."""
        return self._link.call(lambda: self._inner.key(key_id))

    def edit_key(
        self,
        key_id: str,
        *,
        name: str | UnsetType = UNSET,
        preset: str | UnsetType = UNSET,
        permissions: Iterable[str] | UnsetType = UNSET,
        grants: Grants | UnsetType | None = UNSET,
        expires: Expiry | UnsetType | None = UNSET,
        description: str | UnsetType = UNSET,
        account: str | UnsetType = UNSET,
        sign_s_max: int | UnsetType | None = UNSET,
        limits: KeyLimits | UnsetType = UNSET,
    ) -> KeyInfo:
        """As `warehouse.Store.edit_key`."""
        return self._link.call(
            lambda: self._inner.edit_key(
                key_id,
                name=name,
                preset=preset,
                permissions=permissions,
                grants=grants,
                expires=expires,
                description=description,
                account=account,
                sign_s_max=sign_s_max,
                limits=limits,
            )
        )

    def disable_key(self, key_id: str) -> KeyInfo:
        """As `warehouse.Store.disable_key`."""
        return self._link.call(lambda: self._inner.disable_key(key_id))

    def enable_key(self, key_id: str) -> KeyInfo:
        """As `warehouse.Store.enable_key`."""
        return self._link.call(lambda: self._inner.enable_key(key_id))

    def rotate_key(self, key_id: str, *, overlap_s: float = OVERLAP_S) -> NewKey:
        """As `warehouse.Store.rotate_key`."""
        return self._link.call(lambda: self._inner.rotate_key(key_id, overlap_s=overlap_s))

    def delete_key(self, key_id: str) -> None:
        """As `warehouse.Store.delete_key`."""
        self._link.call(lambda: self._inner.delete_key(key_id))

    def create_account(self, name: str, *, email: str | None = None) -> AccountInfo:
        """As `warehouse.Store.create_account`."""
        return self._link.call(lambda: self._inner.create_account(name, email=email))

    def accounts(self) -> list[AccountInfo]:
        """As `warehouse.Store.accounts`."""
        return self._link.call(lambda: self._inner.accounts())

    def edit_account(
        self, account: str, *, name: str | UnsetType = UNSET, email: str | UnsetType | None = UNSET
    ) -> AccountInfo:
        """As `warehouse.Store.edit_account`."""
        return self._link.call(lambda: self._inner.edit_account(account, name=name, email=email))

    def give_bucket(self, bucket: str, account: str) -> None:
        """As `warehouse.Store.give_bucket`."""
        self._link.call(lambda: self._inner.give_bucket(bucket, account))

    def delete_account(self, account: str) -> None:
        """As `warehouse.Store.delete_account`."""
        self._link.call(lambda: self._inner.delete_account(account))


class BucketMethods:
    _inner: Bucket
    _link: Link

    def info(self) -> BucketInfo:
        """As `warehouse.Bucket.info`."""
        return self._link.call(lambda: self._inner.info())

    def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[BucketPoint]:
        """As `warehouse.Bucket.history`."""
        return self._link.call(lambda: self._inner.history(since=since, points_max=points_max))

    def set_quota(
        self, *, byte_count: int | EllipsisType | None = ..., object_count: int | EllipsisType | None = ...
    ) -> BucketInfo:
        """As `warehouse.Bucket.set_quota`."""
        return self._link.call(
            lambda: self._inner.set_quota(byte_count=byte_count, object_count=object_count)
        )

    def config(self, kind: Literal["cors", "tagging"]) -> bytes:
        """As `warehouse.Bucket.config`."""
        return self._link.call(lambda: self._inner.config(kind))

    def set_config(self, kind: Literal["cors", "tagging"], document: bytes) -> None:
        """As `warehouse.Bucket.set_config`."""
        self._link.call(lambda: self._inner.set_config(kind, document))

    def upload(
        self,
        key: str,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectWritten:
        """As `warehouse.Bucket.upload`."""
        return self._link.call_telling(
            lambda progress: self._inner.upload(
                key, path, progress, content_type, metadata, if_match, if_none_match
            ),
            progress,
        )

    def copy(
        self,
        key: str,
        to_key: str,
        to_bucket: str | None = None,
        progress: Progress | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
    ) -> ObjectWritten:
        """As `warehouse.Bucket.copy`."""
        return self._link.call_telling(
            lambda progress: self._inner.copy(
                key,
                to_key,
                to_bucket,
                progress,
                content_type,
                if_none_match,
                metadata=metadata,
                if_match=if_match,
            ),
            progress,
        )

    def amend(self, info: ObjectInfo, attributes: ObjectAttributes) -> None:
        """As `warehouse.Bucket.amend`."""
        self._link.call(lambda: self._inner.amend(info, attributes))

    def delete(self, key: str, if_match: str | None = None) -> bool:
        """As `warehouse.Bucket.delete`."""
        return self._link.call(lambda: self._inner.delete(key, if_match))

    def delete_many(self, keys: Iterable[str]) -> Sequence[bool]:
        """As `warehouse.Bucket.delete_many`."""
        return self._link.call(lambda: self._inner.delete_many(keys))

    def get(self, key: str) -> bytes:
        """As `warehouse.Bucket.get`."""
        return self._link.call(lambda: self._inner.get(key))

    def download(
        self, key: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ObjectInfo:
        """As `warehouse.Bucket.download`."""
        return self._link.call_telling(lambda progress: self._inner.download(key, path, progress), progress)

    def stat(self, key: str) -> ObjectInfo:
        """As `warehouse.Bucket.stat`."""
        return self._link.call(lambda: self._inner.stat(key))

    def chunks(self, key: str) -> ObjectInfo:
        """As `warehouse.Bucket.chunks`."""
        return self._link.call(lambda: self._inner.chunks(key))

    def presign_get(
        self,
        key: str,
        expires_s: float = 3600.0,
        *,
        disposition: Literal["inline", "attachment"] | None = None,
        file_name: str | None = None,
        cache_control: str | None = None,
        content_type: str | None = None,
        once: bool = False,
    ) -> str:
        """As `warehouse.Bucket.presign_get`."""
        return self._link.call(
            lambda: self._inner.presign_get(
                key,
                expires_s,
                disposition=disposition,
                file_name=file_name,
                cache_control=cache_control,
                content_type=content_type,
                once=once,
            )
        )

    def presign_put(
        self,
        key: str,
        expires_s: float = 3600.0,
        size_max: int | None = None,
        content_type: str | None = None,
        *,
        size_min: int = 0,
        if_none_match: Literal["*"] | None = None,
    ) -> str:
        """As `warehouse.Bucket.presign_put`."""
        return self._link.call(
            lambda: self._inner.presign_put(
                key, expires_s, size_max, content_type, size_min=size_min, if_none_match=if_none_match
            )
        )

    def list_page(
        self, prefix: str = "", delimiter: str | None = None, *, after: str = "", limit: int = 1000
    ) -> ListedPage:
        """As `warehouse.Bucket.list_page`."""
        return self._link.call(lambda: self._inner.list_page(prefix, delimiter, after=after, limit=limit))

    def find(
        self,
        prefix: str = "",
        *,
        contains: str = "",
        order: Order = "name",
        descending: bool = False,
        delimiter: str | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> FoundPage:
        """As `warehouse.Bucket.find`."""
        return self._link.call(
            lambda: self._inner.find(
                prefix,
                contains=contains,
                order=order,
                descending=descending,
                delimiter=delimiter,
                limit=limit,
                cursor=cursor,
            )
        )


class UploadMethods:
    _inner: DirectUpload
    _link: Link

    def slots(self, indexes: Iterable[int], *, exclude_volumes: Sequence[int] = ()) -> list[UploadSlot]:
        """As `warehouse.DirectUpload.slots`."""
        return self._link.call(lambda: self._inner.slots(indexes, exclude_volumes=exclude_volumes))

    def finish(self) -> ObjectWritten:
        """As `warehouse.DirectUpload.finish`."""
        return self._link.call(lambda: self._inner.finish())

    def abort(self) -> None:
        """As `warehouse.DirectUpload.abort`."""
        self._link.call(lambda: self._inner.abort())
