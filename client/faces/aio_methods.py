"""Methods of the aio face: one call, one answer.  Written by generate.py; do not edit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import EllipsisType
from typing import Literal

from msgspec import UNSET, UnsetType

from warehouse.client.bucket import Bucket
from warehouse.client.faces.aio_link import Link
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

    async def delete_bucket(self, name: str, *, force: bool = False) -> None:
        """As `warehouse.Store.delete_bucket`."""
        await self._link.call(lambda: self._inner.delete_bucket(name, force=force))

    async def buckets(self) -> list[BucketInfo]:
        """As `warehouse.Store.buckets`."""
        return await self._link.call(lambda: self._inner.buckets())

    async def data_urls(self) -> list[str]:
        """As `warehouse.Store.data_urls`."""
        return await self._link.call(lambda: self._inner.data_urls())

    async def s3_urls(self) -> list[str]:
        """As `warehouse.Store.s3_urls`."""
        return await self._link.call(lambda: self._inner.s3_urls())

    async def status(self, *, volumes: bool = True) -> Status:
        """As `warehouse.Store.status`."""
        return await self._link.call(lambda: self._inner.status(volumes=volumes))

    async def volumes(self, disk_id: str, start: int = 0, limit: int = 100) -> VolumesListed:
        """As `warehouse.Store.volumes`."""
        return await self._link.call(lambda: self._inner.volumes(disk_id, start, limit))

    async def disks_of(self, volume_ids: Iterable[int]) -> dict[int, str]:
        """As `warehouse.Store.disks_of`."""
        return await self._link.call(lambda: self._inner.disks_of(volume_ids))

    async def figures(self) -> Figures:
        """As `warehouse.Store.figures`."""
        return await self._link.call(lambda: self._inner.figures())

    async def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[HistoryPoint]:
        """As `warehouse.Store.history`."""
        return await self._link.call(lambda: self._inner.history(since=since, points_max=points_max))

    async def compact(self, volume_ids: Iterable[int] | None = None, *, force: bool = False) -> list[Job]:
        """As `warehouse.Store.compact`."""
        return await self._link.call(lambda: self._inner.compact(volume_ids, force=force))

    async def verify(self, volume_ids: Iterable[int] | None = None) -> list[Job]:
        """As `warehouse.Store.verify`."""
        return await self._link.call(lambda: self._inner.verify(volume_ids))

    async def jobs(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """As `warehouse.Store.jobs`."""
        return await self._link.call(lambda: self._inner.jobs(job_ids))

    async def jobs_and_pause(self, job_ids: Iterable[int] = ()) -> tuple[list[Job], bool]:
        """As `warehouse.Store.jobs_and_pause`."""
        return await self._link.call(lambda: self._inner.jobs_and_pause(job_ids))

    async def wait_jobs(self, jobs: Iterable[Job], progress: JobProgress | None = None) -> list[Job]:
        """As `warehouse.Store.wait_jobs`."""
        return await self._link.call_telling(lambda progress: self._inner.wait_jobs(jobs, progress), progress)

    async def cancel_jobs(self, job_ids: Iterable[int]) -> list[Job]:
        """As `warehouse.Store.cancel_jobs`."""
        return await self._link.call(lambda: self._inner.cancel_jobs(job_ids))

    async def keep_orphans(self) -> None:
        """As `warehouse.Store.keep_orphans`."""
        await self._link.call(lambda: self._inner.keep_orphans())

    async def drop_orphans(self) -> None:
        """As `warehouse.Store.drop_orphans`."""
        await self._link.call(lambda: self._inner.drop_orphans())

    async def rotate_secret(self, what: str, *, overlap_s: int | None = None) -> SecretRotated:
        """As `warehouse.Store.rotate_secret`."""
        return await self._link.call(lambda: self._inner.rotate_secret(what, overlap_s=overlap_s))

    async def pause_jobs(self) -> list[Job]:
        """As `warehouse.Store.pause_jobs`."""
        return await self._link.call(lambda: self._inner.pause_jobs())

    async def resume_jobs(self) -> list[Job]:
        """As `warehouse.Store.resume_jobs`."""
        return await self._link.call(lambda: self._inner.resume_jobs())

    async def are_jobs_paused(self) -> bool:
        """As `warehouse.Store.are_jobs_paused`."""
        return await self._link.call(lambda: self._inner.are_jobs_paused())

    async def create_join_token(
        self, *, role: str = "both", is_reusable: bool = False, expires_in_s: float | None = TOKEN_S
    ) -> JoinTokenMade:
        """As `warehouse.Store.create_join_token`."""
        return await self._link.call(
            lambda: self._inner.create_join_token(
                role=role, is_reusable=is_reusable, expires_in_s=expires_in_s
            )
        )

    async def join_tokens(self) -> list[JoinTokenInfo]:
        """As `warehouse.Store.join_tokens`."""
        return await self._link.call(lambda: self._inner.join_tokens())

    async def remove_join_token(self, token_id: str) -> None:
        """As `warehouse.Store.remove_join_token`."""
        await self._link.call(lambda: self._inner.remove_join_token(token_id))

    async def nodes(self) -> list[NodeInfo]:
        """As `warehouse.Store.nodes`."""
        return await self._link.call(lambda: self._inner.nodes())

    async def remove_node(self, node: str) -> None:
        """As `warehouse.Store.remove_node`."""
        await self._link.call(lambda: self._inner.remove_node(node))

    async def disks(self) -> list[DiskInfo]:
        """As `warehouse.Store.disks`."""
        return await self._link.call(lambda: self._inner.disks())

    async def confirm_disk(self, disk: str, url: str) -> None:
        """As `warehouse.Store.confirm_disk`."""
        await self._link.call(lambda: self._inner.confirm_disk(disk, url))

    async def remove_disk(self, disk: str) -> DiskRemoved:
        """As `warehouse.Store.remove_disk`."""
        return await self._link.call(lambda: self._inner.remove_disk(disk))

    async def create_key(
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
        return await self._link.call(
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

    async def import_key(
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
        return await self._link.call(
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

    async def keys(self) -> list[KeyInfo]:
        """As `warehouse.Store.keys`."""
        return await self._link.call(lambda: self._inner.keys())

    async def key(self, key_id: str | None = None) -> KeyInfo:
        """As `warehouse.Store.key`."""
        return await self._link.call(lambda: self._inner.key(key_id))

    async def edit_key(
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
        return await self._link.call(
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

    async def disable_key(self, key_id: str) -> KeyInfo:
        """As `warehouse.Store.disable_key`."""
        return await self._link.call(lambda: self._inner.disable_key(key_id))

    async def enable_key(self, key_id: str) -> KeyInfo:
        """As `warehouse.Store.enable_key`."""
        return await self._link.call(lambda: self._inner.enable_key(key_id))

    async def rotate_key(self, key_id: str, *, overlap_s: float = OVERLAP_S) -> NewKey:
        """As `warehouse.Store.rotate_key`."""
        return await self._link.call(lambda: self._inner.rotate_key(key_id, overlap_s=overlap_s))

    async def delete_key(self, key_id: str) -> None:
        """As `warehouse.Store.delete_key`."""
        await self._link.call(lambda: self._inner.delete_key(key_id))

    async def create_account(self, name: str, *, email: str | None = None) -> AccountInfo:
        """As `warehouse.Store.create_account`."""
        return await self._link.call(lambda: self._inner.create_account(name, email=email))

    async def accounts(self) -> list[AccountInfo]:
        """As `warehouse.Store.accounts`."""
        return await self._link.call(lambda: self._inner.accounts())

    async def edit_account(
        self, account: str, *, name: str | UnsetType = UNSET, email: str | UnsetType | None = UNSET
    ) -> AccountInfo:
        """As `warehouse.Store.edit_account`."""
        return await self._link.call(lambda: self._inner.edit_account(account, name=name, email=email))

    async def give_bucket(self, bucket: str, account: str) -> None:
        """As `warehouse.Store.give_bucket`."""
        await self._link.call(lambda: self._inner.give_bucket(bucket, account))

    async def delete_account(self, account: str) -> None:
        """As `warehouse.Store.delete_account`."""
        await self._link.call(lambda: self._inner.delete_account(account))


class BucketMethods:
    _inner: Bucket
    _link: Link

    async def info(self) -> BucketInfo:
        """As `warehouse.Bucket.info`."""
        return await self._link.call(lambda: self._inner.info())

    async def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[BucketPoint]:
        """As `warehouse.Bucket.history`."""
        return await self._link.call(lambda: self._inner.history(since=since, points_max=points_max))

    async def set_quota(
        self, *, byte_count: int | EllipsisType | None = ..., object_count: int | EllipsisType | None = ...
    ) -> BucketInfo:
        """As `warehouse.Bucket.set_quota`."""
        return await self._link.call(
            lambda: self._inner.set_quota(byte_count=byte_count, object_count=object_count)
        )

    async def config(self, kind: Literal["cors", "tagging"]) -> bytes:
        """As `warehouse.Bucket.config`."""
        return await self._link.call(lambda: self._inner.config(kind))

    async def set_config(self, kind: Literal["cors", "tagging"], document: bytes) -> None:
        """As `warehouse.Bucket.set_config`."""
        await self._link.call(lambda: self._inner.set_config(kind, document))

    async def upload(
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
        return await self._link.call_telling(
            lambda progress: self._inner.upload(
                key, path, progress, content_type, metadata, if_match, if_none_match
            ),
            progress,
        )

    async def copy(
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
        return await self._link.call_telling(
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

    async def amend(self, info: ObjectInfo, attributes: ObjectAttributes) -> None:
        """As `warehouse.Bucket.amend`."""
        await self._link.call(lambda: self._inner.amend(info, attributes))

    async def delete(self, key: str, if_match: str | None = None) -> bool:
        """As `warehouse.Bucket.delete`."""
        return await self._link.call(lambda: self._inner.delete(key, if_match))

    async def delete_many(self, keys: Iterable[str]) -> Sequence[bool]:
        """As `warehouse.Bucket.delete_many`."""
        return await self._link.call(lambda: self._inner.delete_many(keys))

    async def get(self, key: str) -> bytes:
        """As `warehouse.Bucket.get`."""
        return await self._link.call(lambda: self._inner.get(key))

    async def download(
        self, key: str, path: str | os.PathLike[str], progress: Progress | None = None
    ) -> ObjectInfo:
        """As `warehouse.Bucket.download`."""
        return await self._link.call_telling(
            lambda progress: self._inner.download(key, path, progress), progress
        )

    async def stat(self, key: str) -> ObjectInfo:
        """As `warehouse.Bucket.stat`."""
        return await self._link.call(lambda: self._inner.stat(key))

    async def chunks(self, key: str) -> ObjectInfo:
        """As `warehouse.Bucket.chunks`."""
        return await self._link.call(lambda: self._inner.chunks(key))

    async def presign_get(
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
        return await self._link.call(
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

    async def presign_put(
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
        return await self._link.call(
            lambda: self._inner.presign_put(
                key, expires_s, size_max, content_type, size_min=size_min, if_none_match=if_none_match
            )
        )

    async def list_page(
        self, prefix: str = "", delimiter: str | None = None, *, after: str = "", limit: int = 1000
    ) -> ListedPage:
        """As `warehouse.Bucket.list_page`."""
        return await self._link.call(
            lambda: self._inner.list_page(prefix, delimiter, after=after, limit=limit)
        )

    async def find(
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
        return await self._link.call(
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

    async def slots(self, indexes: Iterable[int], *, exclude_volumes: Sequence[int] = ()) -> list[UploadSlot]:
        """As `warehouse.DirectUpload.slots`."""
        return await self._link.call(lambda: self._inner.slots(indexes, exclude_volumes=exclude_volumes))

    async def finish(self) -> ObjectWritten:
        """As `warehouse.DirectUpload.finish`."""
        return await self._link.call(lambda: self._inner.finish())

    async def abort(self) -> None:
        """As `warehouse.DirectUpload.abort`."""
        await self._link.call(lambda: self._inner.abort())
