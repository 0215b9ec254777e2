"""The command that has URLs signed: presign."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import trio
from cyclopts import Parameter

from warehouse.cli.app import OBJECTS, app
from warehouse.cli.copying.places import Remote, parse_object
from warehouse.cli.copying.plan import explained
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import parse_size, parse_span
from warehouse.cli.output.objects import failure_line, say_failure, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store
from warehouse.errors import NoSuchObject, RequestRefused

TOGETHER = 1000  # URLs that are asked for at the same time

Disposition = Literal["inline", "attachment"]
Sign = Callable[[Store, Remote], Awaitable[str]]


@dataclass(frozen=True)
class _Terms:
    """What the URLs of one command fix."""

    expires_s: float
    content_type: str | None
    size_min: int
    size_max: int | None
    overwrites: bool
    disposition: Disposition | None
    file_name: str | None
    cache_control: str | None
    once: bool

    async def get(self, store: Store, place: Remote) -> str:
        return await store.bucket(place.bucket).presign_get(
            place.key,
            self.expires_s,
            disposition=self.disposition,
            file_name=self.file_name,
            cache_control=self.cache_control,
            content_type=self.content_type,
            once=self.once,
        )

    async def put(self, store: Store, place: Remote) -> str:
        return await store.bucket(place.bucket).presign_put(
            place.key,
            self.expires_s,
            self.size_max,
            self.content_type,
            size_min=self.size_min,
            if_none_match=None if self.overwrites else "*",
        )


@app.command(group=OBJECTS, usage="Usage: warehouse presign [OPTIONS] PLACE...")
async def presign(
    *places: str,
    put: Annotated[bool, Parameter(help="Make URLs for one upload each (PUT), not for reading.")] = False,
    expires: Annotated[
        str, Parameter(metavar="TIME", help="How long a URL works: 90s, 30m, 7d (default: 1h).")
    ] = "1h",
    once: Annotated[bool, Parameter(help="A URL works for one GET; a PUT always works once.")] = False,
    inline: Annotated[bool, Parameter(help="A browser shows the object, and does not save it.")] = False,
    file_name: Annotated[
        str | None, Parameter(metavar="NAME", help="Under which a browser saves the object.")
    ] = None,
    cache_control: Annotated[
        str | None, Parameter(metavar="RULE", help="Who may keep a copy: 'public, max-age=3600'.")
    ] = None,
    size_min: Annotated[
        str | None, Parameter(metavar="SIZE", help="With --put: the least size of the upload.")
    ] = None,
    size_max: Annotated[
        str | None, Parameter(metavar="SIZE", help="With --put: size limit of the upload, such as 5MiB.")
    ] = None,
    content_type: Annotated[
        str | None, Parameter(metavar="TYPE", help="What a URL says; with --put: content type of the object.")
    ] = None,
    no_overwrite: Annotated[
        bool, Parameter(help="With --put: refuse the upload if the object exists by then.")
    ] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Create URLs that work without an API key until they expire, or their key loses its rights.

    For example:

        curl "$(warehouse presign wh://photos/cat.jpg)" -o cat.jpg
        curl -T cat.jpg "$(warehouse presign --put wh://photos/cat.jpg)"
        warehouse presign < places.txt > urls.txt

    Parameters
    ----------
    places
        wh://bucket/key, any number of them; without any, they come from standard input, one a line.
    """
    terms = _Terms(
        expires_s=parse_span(expires),
        content_type=content_type,
        size_min=0 if size_min is None else parse_size(size_min),
        size_max=None if size_max is None else parse_size(size_max),
        overwrites=not no_overwrite,
        disposition="inline" if inline else None,
        file_name=file_name,
        cache_control=cache_control,
        once=once,
    )
    if not put and (size_min or size_max or no_overwrite):
        raise UsageError("--size-min, --size-max and --no-overwrite go with --put")
    if put and (once or inline or file_name or cache_control):
        raise UsageError("--once, --inline, --file-name and --cache-control are for reading, not for --put")
    if not places and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("name an object, or write names of objects to standard input")
    method, sign = ("PUT", terms.put) if put else ("GET", terms.get)
    refused: RequestRefused | None = None
    async with common.connect() as store:
        async for place, url in _signed(store, _places(places), sign):
            about: dict[str, Any] = {"method": method, "expires_in_s": terms.expires_s, "place": str(place)}
            if not isinstance(url, RequestRefused):
                tell(common.json, url, url=url, **about)
                continue
            if common.json:  # a program finds each place on its line
                say_json(url=None, **about, code=url.code, message=url.message)
            if refused is not None:
                say_failure(failure_line(refused))
            refused = url
    if refused is not None:
        raise refused
    return 0


def _places(words: Sequence[str]) -> Iterable[Remote]:
    if words:
        yield from map(parse_object, words)
        return
    for line in sys.stdin:
        if text := line.rstrip("\r\n"):
            yield parse_object(text)


def _some(places: Iterator[Remote]) -> list[Remote]:
    return [*islice(places, TOGETHER)]


async def _signed(
    store: Store, places: Iterable[Remote], sign: Sign
) -> AsyncIterator[tuple[Remote, str | RequestRefused]]:
    """The places in their order, each with its URL or why there is none."""
    left = iter(places)
    # A thread waits for standard input, which may be a program that takes its time.
    while some_places := await trio.to_thread.run_sync(
        lambda: [*islice(left, TOGETHER)], abandon_on_cancel=True
    ):
        found: dict[int, str | RequestRefused] = {}

        async def ask(number: int, place: Remote) -> None:
            try:
                found[number] = await sign(store, place)  # noqa: B023 - the nursery ends within the turn
            except NoSuchObject as error:
                found[number] = await explained(error, place, store, "a URL is for one object")  # noqa: B023
            except RequestRefused as error:
                found[number] = error  # noqa: B023

        async with trio.open_nursery() as nursery:
            for number, place in enumerate(some_places):
                nursery.start_soon(ask, number, place)
        for number, place in enumerate(some_places):
            yield place, found[number]
