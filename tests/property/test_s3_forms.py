"""Forms of S3: what others write is read, however it is cut, and the file is what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_forms import BOUNDARY, CONTENT_TYPE, decoded, written
from warehouse.s3.failures import Failure
from warehouse.s3.form import FormDecoder

# Names as browsers write them: what they escape in their own way is in the unit tests.
NAMES = st.text(
    st.characters(exclude_characters='"\\\r\n%', exclude_categories=["Cs"]), min_size=1, max_size=20
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(
    lambda text: text.replace("$", "")
)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name.lower() != "file"), VALUES, max_size=6)
# Files full of what could be taken for their end.
PIECES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"--", b"\r\n--", f"\r\n--{BOUNDARY[:-1]}".encode(), b"a", b"\0"]
)
FILES = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=20).map(b"".join))


@given(fields=FIELDS, data=FILES, file_name=NAMES, step=st.integers(1, 60))
def test_what_urllib3_writes_is_read(fields: dict[str, str], data: bytes, file_name: str, step: int) -> None:
    if len({name.lower() for name in fields}) < len(fields):
        return
    form, found = decoded(written(fields, data, file_name), step)
    assert found == data
    assert form.fields == {name.lower(): value for name, value in fields.items()}
    assert form.file_name == file_name.rpartition("/")[2]


@given(fields=FIELDS, data=FILES, end=st.integers(0, 10**6))
def test_a_form_that_is_cut_off_is_refused(fields: dict[str, str], data: bytes, end: int) -> None:
    body = written({str(number): value for number, value in enumerate(fields.values())}, data)
    with pytest.raises(Failure) as refused:
        decoded(body[: end % (len(body) - 3)])  # the CRLF behind the last boundary may be missing
    assert refused.value.code == "MalformedPOSTRequest"


@given(noise=st.binary(max_size=300), step=st.integers(1, 60))
def test_noise_is_refused_and_never_anything_else(noise: bytes, step: int) -> None:
    for begun in (
        b"",
        f"--{BOUNDARY}\r\n".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'.encode(),
    ):
        decoder = FormDecoder(CONTENT_TYPE)
        with pytest.raises(Failure):
            for start in range(0, len(begun + noise), step):
                decoder.feed((begun + noise)[start : start + step])
            decoder.finish()
