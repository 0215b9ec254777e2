"""Writers that race: of many with a condition on the same key one wins, whichever gateway they talk to.

Each round all writers ask at the same moment for the ETag that they have seen, half of them at each of two
gateways: by put, by copy, by the end of an upload in parts, and by deletions among puts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness import RunningStore
from s3_kit import RunningGateway, root_client

WRITERS = 64
BUCKET = "races"
WHERE = {"Bucket": BUCKET, "Key": "wanted"}
LOST = ("PreconditionFailed", "NoSuchKey")  # the latter: it was deleted meanwhile

Ask = Callable[[dict[str, str]], dict[str, Any]]


class Race:
    """Two gateways of one store, and threads that ask both of them."""

    def __init__(self, clients: list[Any], threads: ThreadPoolExecutor) -> None:
        self.clients = clients
        self._threads = threads

    def run(
        self, prepare: Callable[[Any, int], Ask], condition: dict[str, str]
    ) -> list[dict[str, Any] | None]:
        """What each writer was answered; None: its condition did not hold.

        Args:
            prepare: given a client and the number of a writer, does what needs no condition.
        """
        together = threading.Barrier(WRITERS)

        def write(writer: int) -> dict[str, Any] | None:
            ask = prepare(self.clients[writer % len(self.clients)], writer)
            together.wait(60)
            try:
                return ask(condition)
            except ClientError as error:
                if error.response["Error"]["Code"] not in LOST:
                    raise
                return None

        return list(self._threads.map(write, range(WRITERS)))

    def stored(self) -> tuple[str, bytes] | None:
        """ETag and bytes of the object, of which both gateways say the same."""
        found = [self._get(client) for client in self.clients]
        assert found[0] == found[1]
        return found[0]

    def _get(self, client: Any) -> tuple[str, bytes] | None:
        try:
            got = client.get_object(**WHERE)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None
        return got["ETag"], got["Body"].read()


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningGateway]]:
    folder = tmp_path_factory.mktemp("races")
    (folder / "second").mkdir()
    with (
        RunningStore(folder / "store", volumes=1) as store,
        RunningGateway(store, folder) as one,
        RunningGateway(store, folder / "second") as other,
    ):
        with root_client(one) as client:
            client.create_bucket(Bucket=BUCKET)
        yield [one, other]


@pytest.fixture
def race(gateways: list[RunningGateway]) -> Iterator[Race]:
    with ExitStack() as entered:
        clients = [entered.enter_context(root_client(one, max_pool_connections=WRITERS)) for one in gateways]
        yield Race(clients, entered.enter_context(ThreadPoolExecutor(WRITERS)))
        clients[0].delete_object(**WHERE)


@pytest.fixture(  # a mark of a test would go before that of a parameter
    params=[
        pytest.param(2, marks=pytest.mark.timeout(300)),
        pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(4 * 3600)]),
    ]
)
def rounds(request: pytest.FixtureRequest) -> range:
    return range(int(request.param))


def body_of(round_number: int, writer: int) -> bytes:
    return b"round %d, writer %d" % (round_number, writer)


def putting(number: int) -> Callable[[Any, int], Ask]:
    return lambda client, writer: (
        lambda condition: client.put_object(**WHERE, Body=body_of(number, writer), **condition)
    )


def copying(number: int) -> Callable[[Any, int], Ask]:
    def prepare(client: Any, writer: int) -> Ask:
        source = {"Bucket": BUCKET, "Key": f"source-{writer}"}
        client.put_object(**source, Body=body_of(number, writer))

        def ask(condition: dict[str, str]) -> dict[str, Any]:
            copied = client.copy_object(**WHERE, CopySource=source, **condition)
            return dict(copied["CopyObjectResult"])

        return ask

    return prepare


def completing(number: int) -> Callable[[Any, int], Ask]:
    def prepare(client: Any, writer: int) -> Ask:
        upload = {**WHERE, "UploadId": client.create_multipart_upload(**WHERE)["UploadId"]}
        part = client.upload_part(**upload, PartNumber=1, Body=body_of(number, writer))
        listed = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}

        def ask(condition: dict[str, str]) -> dict[str, Any]:
            try:
                return dict(client.complete_multipart_upload(**upload, MultipartUpload=listed, **condition))
            except ClientError:
                client.abort_multipart_upload(**upload)
                raise

        return ask

    return prepare


@pytest.mark.parametrize("way", [putting, copying, completing])
def test_one_of_many_writers_wins(
    race: Race, rounds: range, way: Callable[[int], Callable[[Any, int], Ask]]
) -> None:
    condition = {"IfNoneMatch": "*"}
    for number in rounds:
        answers = race.run(way(number), condition)
        winners = [writer for writer, answer in enumerate(answers) if answer is not None]
        assert len(winners) == 1, f"round {number} has {len(winners)} winners"
        [winner] = winners
        won = answers[winner]
        assert won is not None
        assert race.stored() == (won["ETag"], body_of(number, winner))
        condition = {"IfMatch": won["ETag"]}
    assert "Uploads" not in race.clients[0].list_multipart_uploads(Bucket=BUCKET)


def test_a_deletion_and_a_put_of_the_same_version_exclude_each_other(race: Race, rounds: range) -> None:
    """To delete what is not there is no failure in S3: so many deletions may be answered alike."""

    def prepare(client: Any, writer: int) -> Ask:
        if writer % 4 < 2:  # half of those at each gateway
            return putting(number)(client, writer)
        return lambda condition: dict(client.delete_object(**WHERE, **condition))

    for number in rounds:
        seen = race.clients[0].put_object(**WHERE, Body=b"round %d" % number)["ETag"]
        answers = race.run(prepare, {"IfMatch": seen})
        done = [writer for writer, answer in enumerate(answers) if answer is not None]
        puts = [writer for writer in done if writer % 4 < 2]
        assert done, f"in round {number} nobody wins"
        if puts:
            assert done == puts[:1], f"in round {number} writers {done} win, and {puts} of them put"
            assert race.stored() is not None
            assert race.stored() == (_etag(answers[puts[0]]), body_of(number, puts[0]))
        else:
            assert race.stored() is None


def _etag(answer: dict[str, Any] | None) -> str:
    assert answer is not None
    return str(answer["ETag"])
