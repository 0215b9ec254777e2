"""S3 load: one process that sends signed requests of one kind over keep-alive connections, as fast as it can.

    python bench/s3_load.py --url URL --bucket NAME --method PUT --count 20000 --size 4096 --connections 16

The generator of `http_load.py`, with requests that are signed by version 4.  Each request is built, and each
body drawn and digested, before the first is sent: what is measured is the server.  The key is in
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import hmac
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from bench.http_load import drive

REGION = "us-east-1"
EMPTY = hashlib.sha256(b"").hexdigest()


class Signer:
    """Signs requests of one key for paths and queries that need no encoding."""

    def __init__(self, host: str, key_id: str, secret: str) -> None:
        self._host = host
        self._now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        self._scope = f"{self._now[:8]}/{REGION}/s3/aws4_request"
        self._credential = f"{key_id}/{self._scope}"
        key = f"AWS4{secret}".encode()
        for part in self._scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    def head(self, method: str, path: str, query: str = "", *, size: int = 0, digest: str = EMPTY) -> bytes:
        """The head of a request; the parameters of the query are in order already."""
        names = "host;x-amz-content-sha256;x-amz-date"
        fields = f"host:{self._host}\nx-amz-content-sha256:{digest}\nx-amz-date:{self._now}\n"
        canonical = f"{method}\n{path}\n{query}\n{fields}\n{names}\n{digest}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{self._now}\n{self._scope}\n{hashed}"
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        target = f"{path}?{query}" if query else path
        length = f"Content-Length: {size}\r\n" if method == "PUT" else ""
        return (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{length}"
            f"x-amz-content-sha256: {digest}\r\nx-amz-date: {self._now}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._credential}, SignedHeaders={names}, "
            f"Signature={signature}\r\n\r\n"
        ).encode()


def requests_of(
    signer: Signer, method: str, bucket: str, prefix: str, *, count: int, size: int
) -> Iterator[tuple[bytes, bytes]]:
    """`count` requests; puts have a random body each, gets go over the same keys in another order."""
    numbers = list(range(count))
    if method == "GET":
        random.shuffle(numbers)
    for number in numbers:
        path = f"/{bucket}/{prefix}/{number:08}"
        body = os.urandom(size) if method == "PUT" else b""
        yield signer.head(method, path, size=size, digest=hashlib.sha256(body).hexdigest()), body


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--method", choices=("GET", "PUT"), required=True)
    parser.add_argument("--prefix", default="objects")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    signer = Signer(
        urlsplit(arguments.url).netloc, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    )
    made = list(
        requests_of(
            signer,
            arguments.method,
            arguments.bucket,
            arguments.prefix,
            count=arguments.count,
            size=arguments.size,
        )
    )
    measured = drive(arguments.url, iter(made), connections=arguments.connections, seconds=arguments.seconds)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
