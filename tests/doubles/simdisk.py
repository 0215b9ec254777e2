"""SimDisk: a disk that forgets, at any moment, whatever was not synced.

It keeps the contract of `storage.disk` (one test runs over both) and for every file two contents: what
reads see, and what is on the platter.  A power cut (`crash`) makes a new disk from the second and any part
of the difference:

- of the pages written since the last sync each may be old, new, or torn between its 512-byte sectors;
- the size may be the old or the new one;
- of the names made, replaced or removed since the last sync of their directory any subset holds;
- pages may also have been written back long before the cut, in the state they had then (`write_back`).

Failures are injected with `before`, a function that is told of each call and may raise OSError, or return
how many bytes of a write shall get through.  A failed fdatasync behaves as Linux does: the pages count as
clean, reads go on seeing them until the cache is dropped, and the platter keeps the old bytes.

Single-threaded, deterministic: all choices come from the `random.Random` given.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable, Sequence

PAGE = 4096
SECTOR = 512

Buffer = bytes | bytearray | memoryview
# call, path, offset, size -> how many bytes of a write get through; None: all
Before = Callable[[str, str, int, int], int | None]

# The calls that change something: a cut after each of them is a different cut.
CHANGES = frozenset(
    ("create", "pwritev", "fdatasync", "allocate", "punch", "truncate", "replace", "remove", "make_directory")
) | {"sync_directory"}


class Node:
    """A file: its content as reads see it and as the platter has it."""

    def __init__(self, platter: bytes = b"") -> None:
        self.content = bytearray(platter)
        self.platter = bytearray(platter)
        self.dirty: set[int] = set()  # pages written since they were last on the platter
        self.sizes: set[int] = set()  # that the file has had since the last sync
        self.allocated: set[int] = set(range(-(-len(platter) // PAGE)))
        self.failed_count = 0  # syncs

    def touch(self, start: int, end: int) -> None:
        pages = range(start // PAGE, -(-end // PAGE))
        self.dirty.update(pages)
        self.allocated.update(pages)

    def resize(self, size: int) -> None:
        old = len(self.content)
        if size < old:
            del self.content[size:]
            if size % PAGE:
                self.touch(size, size + 1)  # the rest of the last page becomes zeros
            last = -(-size // PAGE)
            self.allocated = {page for page in self.allocated if page < last}
            self.dirty = {page for page in self.dirty if page < last}
            self.dropped_from = min(self.dropped_from, last) if self.dropped_from is not None else last
        else:
            self.content.extend(bytes(size - old))
        self.sizes.add(size)

    # A file cut short and grown again must not show the platter's old pages after a sync.
    dropped_from: int | None = None

    def sync(self) -> None:
        """Dirty pages and the size reach the platter; pages that count as clean are not written again."""
        self.write_back(sorted(self.dirty))
        del self.platter[len(self.content) :]
        self.platter.extend(bytes(len(self.content) - len(self.platter)))
        self.settle()

    def settle(self) -> None:
        self.dirty.clear()
        self.sizes.clear()
        self.dropped_from = None

    def write_back(self, pages: Iterable[int]) -> None:
        """Some pages reach the platter.  A truncation before them has reached it, too."""
        if self.dropped_from is not None:
            del self.platter[self.dropped_from * PAGE :]
            self.dropped_from = None
        for page in pages:
            start, end = page * PAGE, min((page + 1) * PAGE, len(self.content))
            if start >= end:
                continue
            if len(self.platter) < end:
                self.platter.extend(bytes(end - len(self.platter)))
            self.platter[start:end] = self.content[start:end]
            self.dirty.discard(page)

    def after_cut(self, chance: random.Random, keep: float, *, tear: bool) -> bytes:
        """What the platter may hold after a power cut; `keep` is how likely each page made it."""
        result = bytearray(self.platter)
        sizes = sorted({len(self.platter), len(self.content), *self.sizes})
        size = len(self.content) if chance.random() < keep else chance.choice(sizes)
        if self.dropped_from is not None and chance.random() < keep:
            del result[self.dropped_from * PAGE :]  # the truncation made it
        if len(result) < len(self.content):
            result.extend(bytes(len(self.content) - len(result)))
        for page in sorted(self.dirty):
            self._cut_page(result, page, chance, keep, tear=tear)
        del result[size:]
        result.extend(bytes(size - len(result)))
        return bytes(result)

    def _cut_page(
        self, result: bytearray, page: int, chance: random.Random, keep: float, *, tear: bool
    ) -> None:
        is_torn = tear and chance.random() < 0.5
        for start in range(
            page * PAGE, min((page + 1) * PAGE, len(self.content)), SECTOR if is_torn else PAGE
        ):
            end = min(start + (SECTOR if is_torn else PAGE), len(self.content))
            if chance.random() < (0.5 if is_torn else keep):
                result[start:end] = self.content[start:end]

    def drop_cache(self, offset: int, length: int | None = None) -> None:
        """Clean pages are read from the platter again."""
        end = len(self.content) if length is None else min(len(self.content), offset + length)
        for page in range(offset // PAGE, -(-end // PAGE)):
            if page not in self.dirty:
                start, end = page * PAGE, min((page + 1) * PAGE, len(self.content))
                self.content[start:end] = self.platter[start:end].ljust(end - start, b"\0")


class Directory:
    """Names, as lookups see them and as the platter has them."""

    def __init__(self) -> None:
        self.names: dict[str, Node | Directory] = {}
        self.platter: dict[str, Node | Directory] = {}

    def sync(self) -> None:
        self.platter = dict(self.names)


class SimFile:
    """An open file of a SimDisk."""

    def __init__(self, disk: SimDisk, node: Node, path: str, *, read_only: bool) -> None:
        self._disk = disk
        self._node = node
        self._path = path
        self._read_only = read_only
        self._told_count = node.failed_count  # of the failed syncs, those that this open file knows of

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int, *, nowait: bool = False) -> int:
        self._disk.tell("preadv", self._path, offset, sum(map(len, buffers)))
        if nowait and self._disk.is_cold:
            raise BlockingIOError(errno.EAGAIN, "cold")
        count = 0
        for buffer in buffers:
            piece = self._node.content[offset + count : offset + count + len(buffer)]
            memoryview(buffer)[: len(piece)] = piece
            count += len(piece)
        return count

    def start_reading(self, offset: int, length: int) -> None:
        self._disk.tell("start_reading", self._path, offset, length)

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(bytes(buffer) for buffer in buffers)
        data = data[: self._disk.tell("pwritev", self._path, offset, len(data))]
        self._refuse_read_only()
        node = self._node
        data = data[: self._disk.fit(node, offset, offset + len(data))]
        end = offset + len(data)
        if data:
            if end > len(node.content):
                node.resize(end)
            node.content[offset:end] = data
            node.touch(offset, end)
        self._disk.changed("pwritev", self._path)
        return len(data)

    def fdatasync(self) -> None:
        try:
            self._disk.tell("fdatasync", self._path)
        except OSError:
            self._node.settle()
            self._node.failed_count += 1
            self._told_count = self._node.failed_count
            raise
        if self._told_count < self._node.failed_count:
            # Each open file is told once (errseq_t), also when the failed sync was another's.
            self._told_count = self._node.failed_count
            raise OSError(errno.EIO, "a sync has failed meanwhile")
        self._node.sync()
        self._disk.changed("fdatasync", self._path)

    def kernel_handle(self) -> int:
        """No kernel knows it: whoever asks calls `fdatasync` in the kernel's stead."""
        return -1

    def start_writeback(self, offset: int, length: int) -> None:
        """A hint: a cut may keep or lose any page that is not synced, whatever was begun."""
        self._disk.tell("start_writeback", self._path, offset, length)

    def allocate(self, offset: int, length: int) -> None:
        self._disk.tell("allocate", self._path, offset, length)
        self._refuse_read_only()
        end = offset + length
        if self._disk.fit(self._node, offset, end) < length:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")
        if end > len(self._node.content):
            self._node.resize(end)
        self._node.allocated.update(range(offset // PAGE, -(-end // PAGE)))
        self._disk.changed("allocate", self._path)

    def punch(self, offset: int, length: int) -> None:
        self._disk.tell("punch", self._path, offset, length)
        self._refuse_read_only()
        end = min(offset + length, len(self._node.content))
        pages = range(-(-offset // PAGE), end // PAGE)
        if pages:
            start, end = pages[0] * PAGE, (pages[-1] + 1) * PAGE
            self._node.content[start:end] = bytes(end - start)
            self._node.touch(start, end)
            self._node.allocated.difference_update(pages)
        self._disk.changed("punch", self._path)

    def free_bytes(self) -> int:
        return self._disk.free_bytes()

    def truncate(self, size: int) -> None:
        self._disk.tell("truncate", self._path, size)
        self._refuse_read_only()
        self._node.resize(size)
        self._disk.changed("truncate", self._path)

    def size(self) -> int:
        return len(self._node.content)

    def next_data(self, offset: int) -> int:
        return offset

    def drop_cache(self, offset: int, length: int | None = None) -> None:
        self._node.drop_cache(offset, length)

    def close(self) -> None:
        pass

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise OSError(errno.EBADF, "opened read-only")


class SimDisk:
    """A directory tree in memory."""

    def __init__(self, *, space: int = 1 << 40) -> None:
        self.space = space  # bytes that fit
        self.is_cold = False  # reads that do not wait find nothing in memory
        self.before: Before | None = None
        self.after: Callable[[str, str], None] | None = None  # told of each change
        self._root = Directory()

    # --- the contract of storage.disk.Disk --------------------------------------------------------

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> SimFile:
        self.tell("create" if create else "open_read_only" if read_only else "open", path)
        parent, name = self._parent(path)
        node = parent.names.get(name)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, path)
            node = parent.names[name] = Node()
            self.changed("create", path)
        elif create and node.content:
            node.resize(0)
            self.changed("truncate", path)
        return SimFile(self, node, path, read_only=read_only)

    def exists(self, path: str) -> bool:
        try:
            parent, name = self._parent(path)
        except OSError:
            return False
        return not name or name in parent.names

    def list(self, path: str) -> list[str]:
        return sorted(self._directory(path).names)

    def make_directory(self, path: str) -> None:
        at = self._root
        for name in path.split("/"):
            child = at.names.get(name)
            if child is None:
                self.tell("make_directory", path)
                child = at.names[name] = Directory()
                self.changed("make_directory", path)
            if isinstance(child, Node):
                raise FileExistsError(errno.EEXIST, path)
            at = child

    def replace(self, source: str, target: str) -> None:
        self.tell("replace", target)
        source_parent, source_name = self._parent(source)
        target_parent, target_name = self._parent(target)
        if source_name not in source_parent.names:
            raise FileNotFoundError(errno.ENOENT, source)
        target_parent.names[target_name] = source_parent.names.pop(source_name)
        self.changed("replace", target)

    def sync_directory(self, path: str) -> None:
        self.tell("sync_directory", path)
        self._directory(path).sync()
        self.changed("sync_directory", path)

    def remove(self, path: str) -> None:
        self.tell("remove", path)
        parent, name = self._parent(path)
        if not isinstance(parent.names.get(name), Node):
            raise FileNotFoundError(errno.ENOENT, path)
        del parent.names[name]
        self.changed("remove", path)

    def free_bytes(self) -> int:
        return max(0, self.space - self._used())

    def capacity(self) -> int:
        return self.space

    # --- what goes wrong --------------------------------------------------------------------------

    def crash(self, chance: random.Random, keep: float, *, tear: bool = True) -> SimDisk:
        """The disk that a power cut at this moment may leave; this one stays as it is.

        Args:
            keep: how likely each unsynced page and name survives: 0 is none, 1 is all.
        """
        after = SimDisk(space=self.space)
        after._root = _cut_directory(self._root, chance, keep, tear=tear)
        return after

    def write_back(self, chance: random.Random) -> None:
        """Some dirty pages reach the platter, as they do at any time."""
        for node in self.nodes():
            node.write_back([page for page in sorted(node.dirty) if chance.random() < 0.5])

    def node(self, path: str) -> Node:
        parent, name = self._parent(path)
        node = parent.names[name]
        assert isinstance(node, Node)
        return node

    def nodes(self) -> Sequence[Node]:
        return _nodes(self._root)

    def tell(self, call: str, path: str, offset: int = 0, size: int = 0) -> int:
        """Ask `before`; returns how many bytes of a write get through."""
        allowed = self.before(call, path, offset, size) if self.before else None
        return size if allowed is None else allowed

    def changed(self, call: str, path: str) -> None:
        if self.after:
            self.after(call, path)

    def fit(self, node: Node, start: int, end: int) -> int:
        """How many of the bytes from `start` to `end` there is room for."""
        free = self.free_bytes() // PAGE
        for page in range(start // PAGE, -(-end // PAGE)):
            if page not in node.allocated:
                if not free:
                    if start >= page * PAGE:
                        raise OSError(errno.ENOSPC, "no space left on the simulated disk")
                    return page * PAGE - start
                free -= 1
        return end - start

    def _used(self) -> int:
        return PAGE * sum(len(node.allocated) for node in self.nodes())

    def _parent(self, path: str) -> tuple[Directory, str]:
        directory, _, name = path.rpartition("/")
        return self._directory(directory), name

    def _directory(self, path: str) -> Directory:
        at = self._root
        for name in filter(None, path.split("/")):
            child = at.names.get(name)
            if not isinstance(child, Directory):
                raise FileNotFoundError(errno.ENOENT, path)
            at = child
        return at


def _nodes(directory: Directory) -> list[Node]:
    found: list[Node] = []
    for child in directory.names.values():
        found += [child] if isinstance(child, Node) else _nodes(child)
    return found


def _cut_directory(directory: Directory, chance: random.Random, keep: float, *, tear: bool) -> Directory:
    after = Directory()
    for name in sorted(directory.names.keys() | directory.platter.keys()):
        new, old = directory.names.get(name), directory.platter.get(name)
        child = new if new is old or chance.random() < keep else old
        if isinstance(child, Directory):
            after.names[name] = _cut_directory(child, chance, keep, tear=tear)
        elif child is not None:
            after.names[name] = Node(child.after_cut(chance, keep, tear=tear))
    after.sync()
    return after
