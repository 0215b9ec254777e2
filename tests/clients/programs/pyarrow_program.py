"""pyarrow: the file system of Apache Arrow, by the AWS SDK for C++."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from client_program import World, command, run

MIB = 1024 * 1024


def connect(world: World) -> Any:
    parts = urlsplit(world.url)
    return import_module("pyarrow.fs").S3FileSystem(
        access_key=world.key_id,
        secret_key=world.secret,
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        region=world.region,
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )


@command("create_dir, get_file_info, copy_file, move, delete_dir, delete_file")
def files(world: World) -> None:
    fs, bucket = connect(world), world.bucket
    pyarrow_fs = import_module("pyarrow.fs")
    second = f"{bucket}-second"
    fs.create_dir(second)
    data = os.urandom(100_000)
    with fs.open_output_stream(f"{bucket}/a/ü +") as out:
        out.write(data)
    fs.copy_file(f"{bucket}/a/ü +", f"{second}/copy")
    fs.move(f"{second}/copy", f"{second}/moved")
    with fs.open_input_stream(f"{second}/moved") as source:
        assert source.read() == data
    listed = fs.get_file_info(pyarrow_fs.FileSelector(bucket, recursive=True))
    assert {(one.path, one.type.name) for one in listed} >= {
        (f"{bucket}/a/ü +", "File"),
        (f"{bucket}/a", "Directory"),
    }
    fs.delete_file(f"{second}/moved")
    fs.delete_dir(second)
    assert fs.get_file_info(second).type.name == "NotFound"


@command("open_output_stream and open_input_file of 12 MiB (multipart), seek and read")
def multipart(world: World) -> None:
    fs, data = connect(world), os.urandom(12 * MIB)
    with fs.open_output_stream(f"{world.bucket}/large") as out:
        for at in range(0, len(data), MIB):
            out.write(data[at : at + MIB])
    with fs.open_input_file(f"{world.bucket}/large") as source:
        assert source.size() == len(data)
        source.seek(7 * MIB)
        assert source.read(1000) == data[7 * MIB : 7 * MIB + 1000]
        source.seek(0)
        assert source.read() == data


@command("dataset.write_dataset and dataset.dataset, partitioned, Parquet")
def dataset(world: World) -> None:
    fs = connect(world)
    arrow, datasets = import_module("pyarrow"), import_module("pyarrow.dataset")
    rows = 20_000
    noise = [os.urandom(32) for _ in range(rows)]
    table = arrow.table(
        {"year": [2020 + n % 4 for n in range(rows)], "number": list(range(rows)), "noise": noise}
    )
    by_year = datasets.partitioning(arrow.schema([("year", arrow.int64())]), flavor="hive")
    place = f"{world.bucket}/rows"
    datasets.write_dataset(
        table,
        place,
        filesystem=fs,
        format="parquet",
        partitioning=by_year,
        existing_data_behavior="overwrite_or_ignore",
    )
    found = datasets.dataset(place, filesystem=fs, format="parquet", partitioning=by_year)
    back = found.to_table(filter=datasets.field("year") == 2022).sort_by("number")
    assert back["number"].to_pylist() == list(range(2, rows, 4))
    assert back["noise"].to_pylist() == noise[2::4]
    assert found.count_rows() == rows


if __name__ == "__main__":
    run(globals())
