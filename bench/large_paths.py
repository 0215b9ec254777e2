"""Large paths: ways to bring 80 MiB from a file to a socket, and from a socket into a file, on their own.

    python bench/large_paths.py WAY --file PATH [--piece BYTES]

`large_objects.py` runs one of these for each way and stands at the other end of its socket.  No HTTP, no
event loop: what a way costs here is what the kernel, the memory and the CRC take.  Prints its port, then
after each transfer the CPU seconds that it took.

The ways out send whatever is asked for by one byte; the ways in answer with one byte what has come.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from crc32c import crc32c

from warehouse.storage.disk import OsDisk
from warehouse.storage.format.needle import BLOCK_SIZE

MIB = 1 << 20
SIZE = 80 * MIB


def check(view: memoryview) -> None:
    """The CRC of each block, as a reader takes it."""
    for start in range(0, len(view), BLOCK_SIZE):
        crc32c(view[start : start + BLOCK_SIZE])


def pieces_of(size: int) -> Iterator[tuple[int, int]]:
    """Where each piece starts, and its size."""
    for start in range(0, SIZE, size):
        yield start, min(size, SIZE - start)


# --- out: from file number `fd` to `peer` in pieces of `size` -------------------------------------


def sendfile_all(peer: socket.socket, fd: int, start: int, length: int) -> None:
    end = start + length
    while start < end:
        start += os.sendfile(peer.fileno(), fd, start, end - start)


def out_sendfile(peer: socket.socket, fd: int, size: int) -> None:
    sendfile_all(peer, fd, 0, SIZE)


def out_memory(peer: socket.socket, fd: int, size: int) -> None:
    piece = bytes(size)
    for _, length in pieces_of(size):
        peer.sendall(memoryview(piece)[:length])


def out_fresh(peer: socket.socket, fd: int, size: int) -> None:
    for start, length in pieces_of(size):
        piece = memoryview(bytearray(length))
        os.preadv(fd, [piece], start)
        check(piece)
        peer.sendall(piece)


def out_one_buffer(peer: socket.socket, fd: int, size: int) -> None:
    buffer = memoryview(bytearray(size))
    for start, length in pieces_of(size):
        piece = buffer[:length]
        os.preadv(fd, [piece], start)
        check(piece)
        peer.sendall(piece)


def out_check_sendfile(peer: socket.socket, fd: int, size: int) -> None:
    buffer = memoryview(bytearray(size))
    for start, length in pieces_of(size):
        piece = buffer[:length]
        os.preadv(fd, [piece], start)
        check(piece)
        sendfile_all(peer, fd, start, length)


def out_ahead(peer: socket.socket, fd: int, size: int) -> None:
    """The next piece is read and checked in a thread while this one is sent."""
    buffers = [memoryview(bytearray(size)) for _ in range(2)]

    def read(buffer: memoryview, start: int) -> memoryview:
        piece = buffer[: min(size, SIZE - start)]
        os.preadv(fd, [piece], start)
        check(piece)
        return piece

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(read, buffers[0], 0)
        for number, (start, length) in enumerate(pieces_of(size), 1):
            piece = coming.result()
            if start + length < SIZE:
                coming = thread.submit(read, buffers[number % 2], start + length)
            peer.sendall(piece)


# --- in: from `peer` into a new file at `path` in pieces of `size` --------------------------------


def receive(
    peer: socket.socket,
    path: Path,
    size: int,
    *,
    crc_count: int = 2,
    is_written: bool = True,
    is_synced: bool = True,
    is_begun: bool = False,
    is_threaded: bool = False,
) -> None:
    """Take what comes.

    Args:
        crc_count: how often each byte is digested: once for its block, once for the whole.
        is_written, is_synced: it goes into the file; that is on the disk before the answer.
        is_begun: the disk begins with each piece at once.
        is_threaded: a thread does all that while the next piece comes.
    """
    file = OsDisk(path.parent).open(path.name, create=True)
    file.allocate(0, SIZE)
    buffers = [memoryview(bytearray(size)) for _ in range(2)]

    def store(piece: memoryview, start: int) -> None:
        if is_written:
            file.pwritev([piece], start)
        if is_begun:
            file.start_writeback(start, len(piece))
        if crc_count:
            check(piece)
        if crc_count > 1:
            crc32c(piece)

    with ThreadPoolExecutor(1) as thread:
        last: Future[None] | None = None
        for number, (start, length) in enumerate(pieces_of(size)):
            piece = buffers[number % 2][:length]
            peer.recv_into(piece, length, socket.MSG_WAITALL)
            if last is not None:
                last.result()
            if is_threaded:
                last = thread.submit(store, piece, start)
            else:
                store(piece, start)
    if is_synced:
        file.fdatasync()
    file.close()
    path.unlink()


OUT: dict[str, Callable[[socket.socket, int, int], None]] = {
    "sendfile": out_sendfile,
    "memory": out_memory,
    "fresh": out_fresh,
    "one-buffer": out_one_buffer,
    "check-sendfile": out_check_sendfile,
    "ahead": out_ahead,
}
IN: dict[str, dict[str, bool | int]] = {
    "socket": {"crc_count": 0, "is_written": False, "is_synced": False},
    "crc": {"is_written": False, "is_synced": False},
    "write": {"is_synced": False},
    "sync": {},
    "begun": {"is_begun": True},
    "threaded": {"is_begun": True, "is_threaded": True},
    "one-crc": {"is_begun": True, "is_threaded": True, "crc_count": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("way", choices=[*OUT, *IN])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--piece", type=int, default=MIB)
    arguments = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peer, _ = listener.accept()
    fd = os.open(arguments.file, os.O_RDONLY) if arguments.way in OUT else -1
    while peer.recv(1, socket.MSG_PEEK):
        cpu_before = time.process_time()
        if arguments.way in OUT:
            peer.recv(1)
            OUT[arguments.way](peer, fd, arguments.piece)
        else:
            receive(peer, arguments.file, arguments.piece, **IN[arguments.way])  # type: ignore[arg-type]
            peer.sendall(b".")
        print(time.process_time() - cpu_before, flush=True)


if __name__ == "__main__":
    main()
