"""Commands that delete: rm, rb."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app, each_bucket, some
from warehouse.cli.copying.deletions import DELETE_BATCH, delete_batch, is_terminal, require_yes
from warehouse.cli.copying.patterns import Glob, Rules, glob_of
from warehouse.cli.copying.places import Remote, parse_bucket, parse_object, parse_remote
from warehouse.cli.copying.plan import explained
from warehouse.cli.options import (
    NOTHING_SPECIAL,
    Common,
    DryRun,
    Exclude,
    Include,
    NoGlob,
    Recursive,
    Yes,
    rules_of,
)
from warehouse.cli.output.formats import format_count, printable
from warehouse.cli.output.objects import say, say_failure, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.nurseries import is_cancellation
from warehouse.client.store import Store
from warehouse.errors import NoSuchObject
from warehouse.transport.messages import BucketInfo


@app.command(group=OBJECTS, usage="Usage: warehouse rb [OPTIONS] BUCKET...")
async def rb(
    *buckets: str,
    force: Annotated[bool, Parameter(help="Also delete the objects in the bucket.")] = False,
    yes: Yes = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Remove buckets.

    On a terminal, --force asks before it deletes objects.

    Parameters
    ----------
    buckets
        Names of buckets; the prefix wh:// is optional.
    """
    if yes and not force:
        raise UsageError("--yes goes with --force: an empty bucket is removed without a question")
    names = [parse_bucket(word) for word in some(buckets, "a bucket")]
    async with common.connect() as store:
        if force and not yes and not common.json:
            await _ask_about_buckets(names, store)

        async def remove(name: str) -> None:
            await store.delete_bucket(name, force=force)
            tell(common.json, f"removed wh://{name}", event="deleted", bucket=name)

        await each_bucket(names, remove)
    return 0


async def _ask_about_buckets(names: Sequence[str], store: Store) -> None:
    """Ask at a terminal, where a person can see how much would be deleted; a script needs only --force."""
    infos = {info.name: info for info in await store.buckets()}
    for name in names:
        what = _contents(infos[name]) if name in infos else ""
        if what and is_terminal():
            await require_yes(f"Delete wh://{name} and {what} in it?", can_ask=True)


def _contents(info: BucketInfo) -> str:
    """What would be deleted with a bucket, for a question; "": nothing."""
    if not info.is_counted:
        return "all objects"
    return format_count(info.object_count, "object") if info.object_count else ""


@app.command(group=OBJECTS, usage="Usage: warehouse rm [OPTIONS] PLACE...")
async def rm(
    *places: str,
    recursive: Annotated[Recursive, Parameter(help="Delete all objects in a folder or a bucket.")] = False,
    exclude: Exclude = None,
    include: Include = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_glob: NoGlob = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Delete objects.

    It asks before it empties a whole bucket; --yes answers the question.

    Parameters
    ----------
    places
        wh://bucket/key; wildcards are allowed; with -r also wh://bucket/folder and wh://bucket.
    """
    words = some(places, "an object")
    rules = rules_of(exclude, include)
    targets = [_Target.of(word, recursive, rules, has_globs=not no_glob) for word in words]
    if rules and not recursive and not any(target.glob for target in targets):
        raise UsageError("--exclude and --include need a folder, deleted with -r")
    counter = _Counter(common.json, dry_run)
    async with common.connect() as store:
        if not yes and not dry_run:
            for target in targets:
                await require_yes(await target.question(store), can_ask=not common.json)
        try:
            for target in targets:
                await _remove(target, store, counter)
        except BaseException as error:
            if is_cancellation(error):
                counter.say_interrupted()
            raise
    counter.sum_up()
    return 0


class _Target:
    """The objects that one word of `rm` names."""

    def __init__(self, remote: Remote, glob: Glob | None, is_recursive: bool, rules: Rules) -> None:
        self.remote = remote
        self.glob = glob
        self._is_recursive = is_recursive
        self._rules = rules

    @classmethod
    def of(cls, word: str, is_recursive: bool, rules: Rules, *, has_globs: bool) -> _Target:
        remote = parse_remote(word) if is_recursive else parse_object(word)
        return cls(remote, glob_of(remote.key) if has_globs else None, is_recursive, rules)

    async def question(self, store: Store) -> str | None:
        """The question to ask first; None: no question."""
        is_all = not self.remote.key or (self.glob is not None and self.glob.means_all)
        if not is_all:
            return None
        for info in await store.buckets():
            if info.name == self.remote.bucket and (contents := _contents(info)):
                contents = contents.removeprefix("all ")
                what = f"what matches of the {contents}" if self._rules else f"all {contents}"
                return f"Delete {what} of wh://{info.name}?"
        return None

    async def _is_there(self, store: Store) -> bool:
        try:
            await store.bucket(self.remote.bucket).stat(self.remote.key)
        except NoSuchObject:
            return False
        return True

    async def keys(self, store: Store, *, is_dry: bool) -> AsyncIterator[str]:
        bucket, key, glob = store.bucket(self.remote.bucket), self.remote.key, self.glob
        if glob is not None and not await self._is_there(store):
            async for info in bucket.list(glob.fixed):
                is_in_folder = self._is_recursive and glob.folder_of(info.key) is not None
                is_meant = glob.matches(info.key) or is_in_folder
                if is_meant and not self._rules.leaves_out(info.key[len(glob.folder) :]):
                    yield info.key
            return
        is_object_too = bool(key) and not (self._is_recursive and key.endswith("/"))
        is_left = is_object_too and not self._rules.leaves_out(self.remote.name or key)
        if is_left and (not is_dry or await self._is_there(store)):
            yield key
        if self._is_recursive:
            async for info in bucket.list(self.remote.folder):
                if not self._rules.leaves_out(info.key[len(self.remote.folder) :]):
                    yield info.key


class _Counter:
    """Deletes, or only prints what would be deleted, and counts."""

    def __init__(self, is_json: bool, is_dry: bool) -> None:
        self.count = 0
        self._is_json = is_json
        self.is_dry = is_dry

    async def delete(self, bucket: str, keys: Sequence[str], store: Store) -> None:
        present = keys
        if not self.is_dry:
            existed = await delete_batch(store.bucket(bucket), keys)
            present = [key for key, was_there in zip(keys, existed, strict=True) if was_there]
        self.count += len(present)
        for key in present:
            if self._is_json:
                say_json(event="would_delete" if self.is_dry else "deleted", bucket=bucket, key=key)
            elif self.is_dry:
                say(f"would delete {printable(f'wh://{bucket}/{key}')}")

    def say_interrupted(self) -> None:
        if self._is_json:
            say_json(event="interrupted", deleted_count=self.count)
        elif self.count:
            say_failure(f"warehouse: interrupted after {format_count(self.count, 'object')} were deleted")

    def sum_up(self) -> None:
        if not self._is_json:
            say(f"{'would delete' if self.is_dry else 'deleted'} {format_count(self.count, 'object')}")


async def _remove(target: _Target, store: Store, counter: _Counter) -> None:
    remote, before_count, batch = target.remote, counter.count, list[str]()
    async for key in target.keys(store, is_dry=counter.is_dry):
        batch.append(key)
        if len(batch) == DELETE_BATCH:
            await counter.delete(remote.bucket, batch, store)
            batch = []
    if batch:
        await counter.delete(remote.bucket, batch, store)
    if counter.count == before_count and remote.key:
        nothing = NoSuchObject(f"there is nothing at {remote}")
        if target.glob is None and remote.key:
            nothing = await explained(nothing, remote, store, "delete it with -r")
        raise nothing
