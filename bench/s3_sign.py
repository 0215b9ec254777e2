"""S3 sign: run by the Python of an environment that has botocore; makes and removes the bucket, signs URLs.

    python bench/s3_sign.py create|remove|put|get URL BUCKET < keys

`put` and `get` print one line a key: path and query of a presigned URL.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

EXPIRES_S = 6 * 3600


def main() -> None:
    from botocore.config import Config
    from botocore.session import Session

    what, url, bucket = sys.argv[1:]
    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=url,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    if what == "create":
        client.create_bucket(Bucket=bucket)
    elif what == "remove":
        while keys := [
            {"Key": one["Key"]} for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())
        ]:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        client.delete_bucket(Bucket=bucket)
    else:
        method = f"{what}_object"
        for key in sys.stdin.read().split("\n"):
            if key:
                signed = client.generate_presigned_url(
                    method, Params={"Bucket": bucket, "Key": key}, ExpiresIn=EXPIRES_S
                )
                parts = urlsplit(signed)
                print(f"{parts.path}?{parts.query}")


if __name__ == "__main__":
    main()
