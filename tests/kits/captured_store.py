"""A store in a network namespace of its own, and what a sniffer sees of it: run by `test_tls_store.py` as root."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import trio

import warehouse
from harness import RunningStore
from secret_search import forms_of, secrets_of
from warehouse.conf.profile import Profile

ADDRESS = "192.0.2.7"
EVERY_PROTOCOL = 0x0003  # ETH_P_ALL
CANARY = b"a canary that travels in the clear"
KEY, BODY = "name-of-an-object-7361", b"contents of an object 9214 " * 200
BUCKET = "name-of-a-bucket-5527"


class Sniffer:
    """Keeps every packet of the loopback interface, which carries all that a machine sends to itself."""

    def __init__(self) -> None:
        self.captured = bytearray()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.captured += self._socket.recv(1 << 17)
            except TimeoutError:
                if self._is_ended.is_set():
                    return

    def end(self) -> bytes:
        self._is_ended.set()
        self._thread.join()
        self._socket.close()
        return bytes(self.captured)


async def use(profile: Path) -> str:
    async with warehouse.connect(profile) as client:
        bucket = await client.create_bucket(BUCKET)
        await bucket.put(KEY, BODY, metadata={"colour": "mauve-8812"})
        assert await bucket.get(KEY) == BODY
        many = [(f"{KEY}/{number}", BODY) for number in range(50)]
        assert not [one.error async for one in bucket.put_many(many) if one.error]
        await bucket.put(f"{KEY}/large", BODY * 300)
        assert await bucket.get(f"{KEY}/large") == BODY * 300
        assert [entry.key async for entry in bucket.list()]
        return await bucket.presign_get(KEY)


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    sniffer = Sniffer()
    with RunningStore(folder / "store", arguments=["--host", ADDRESS]) as store:
        url = trio.run(use, store.profile)
        profile = Profile.load(store.profile)
        secrets = secrets_of(store.data)
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.sendto(CANARY, (ADDRESS, 9))
    plain.close()
    captured = sniffer.end()
    token = url.partition("token=")[2]
    looked_for = [CANARY, KEY.encode(), BUCKET.encode(), BODY[:27], b"mauve-8812", profile.key_id.encode()]
    looked_for += [token[:40].encode(), token[-40:].encode()]
    seen = [text.decode() for text in looked_for if text in captured]
    seen += [name for name, kept in secrets.items() if any(form in captured for form in forms_of(kept))]
    print(json.dumps({"url": url, "bytes": len(captured), "seen_in_the_clear": seen}), flush=True)


if __name__ == "__main__":
    assert os.geteuid() == 0
    main(Path(sys.argv[1]))
