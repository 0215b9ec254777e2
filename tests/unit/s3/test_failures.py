"""S3 failures: every code has one status, and whatever the store refuses has a code."""

from __future__ import annotations

import inspect

import pytest

from warehouse import errors
from warehouse.s3.failures import STATUS_OF, Failure, failure_of


def store_errors() -> list[type[errors.StoreError]]:
    classes = [found for _, found in inspect.getmembers(errors, inspect.isclass)]
    return [found for found in classes if issubclass(found, errors.StoreError)]


def test_a_code_without_a_status_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        Failure("NoSuchCode", "what is this?")


@pytest.mark.parametrize("kind", store_errors(), ids=lambda kind: kind.code)
def test_what_the_store_refuses_has_a_code_of_s3(kind: type[errors.StoreError]) -> None:
    failure = failure_of(kind("what was expected, and what came"))
    assert STATUS_OF[failure.code] == failure.status
    assert failure.fields["WarehouseCode"] == kind.code
    if issubclass(kind, errors.TokenRevoked):
        assert failure.status == 503, "the key may have lost some rights alone, so clients try again"
    elif issubclass(kind, errors.RequestRefused):
        assert failure.status < 500 or failure.code == "NotImplemented", "a client's own fault is never ours"
        assert failure.message == "what was expected, and what came"
    elif issubclass(kind, errors.Unavailable):
        assert failure.status == 503, "clients of S3 try again after a 503"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoSuchObject("x"), "NoSuchKey"),
        (errors.Busy("x"), "SlowDown"),
        (errors.QuotaExceeded("x"), "AccessDenied"),
        (errors.NeedleCorrupt("x"), "InternalError"),
        (errors.ClusterFull("x"), "ServiceUnavailable"),
        (errors.TokenRevoked("x"), "ServiceUnavailable"),
    ],
)
def test_the_code_that_clients_know(error: errors.StoreError, code: str) -> None:
    assert failure_of(error).code == code


@pytest.mark.parametrize(
    "error",
    [
        errors.ClusterFull("the disk of the catalog (/srv/store/master) is full"),
        errors.LinkDown("no answer from a master at tcp://192.0.2.1:7400"),
        errors.VolumeOffline("disk 'disk-1' is offline"),
        errors.Overloaded("volume 7 has many puts"),
        errors.NeedleCorrupt("needle 5 of volume 7"),
        errors.SetupError("/etc/warehouse.toml"),
    ],
)
def test_what_lies_behind_a_gateway_is_told_to_its_log_alone(error: errors.StoreError) -> None:
    failure = failure_of(error)
    assert failure.status >= 500
    assert error.message not in failure.message
    assert set(failure.fields) == {"WarehouseCode"}
