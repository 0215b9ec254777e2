"""Form: what browsers and programs send is read, and what could be read in two ways is refused."""

from __future__ import annotations

import pytest

from s3_bodies import code_of
from s3_forms import BOUNDARY, CONTENT_TYPE, END, decoded, part, written
from warehouse.s3.failures import Failure
from warehouse.s3.form import FIELD_COUNT_MAX, FIELDS_SIZE_MAX, Form, FormDecoder, boundary_of

FIELDS = {"key": "photos/${filename}", "Content-Type": "image/png", "x-amz-meta-Who": "Zoë"}
DATA = b"\x89PNG\r\n\r\n--" + BOUNDARY[:-1].encode() + b"\r\n\x00\xff\r"
BROWSER = (
    part("key", b"photos/${filename}")
    + part("Content-Type", b"image/png")
    + part("file", DATA, '; filename="C:\\photos\\Zo\xeb.png"\r\nContent-Type: image/png')
    + part("submit", b"Upload")
    + END
)


@pytest.mark.parametrize("step", [1, 2, 7, 64, None])
def test_a_form_is_decoded_however_it_is_cut(step: int | None) -> None:
    form, data = decoded(written(FIELDS, DATA, "b.png"), step)
    assert data == DATA
    assert form == Form(
        {"key": "photos/b.png", "content-type": "image/png", "x-amz-meta-who": "Zoë"}, "b.png"
    )


@pytest.mark.parametrize("step", [1, None])
def test_a_form_of_a_browser(step: int | None) -> None:
    form, data = decoded(BROWSER, step)
    assert data == DATA
    assert form == Form({"key": "photos/Zoë.png", "content-type": "image/png"}, "Zoë.png")


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("", ""),
        ('; filename=""', ""),
        ('; filename="a.txt"', "a.txt"),
        ("; filename=a.txt", "a.txt"),
        ('; filename="dir/sub/a.txt"', "a.txt"),
        ('; filename="C:\\dir\\a.txt"', "a.txt"),
        ('; filename="dir/"', ""),
        ('; filename="a \\"b\\".txt"', 'a "b".txt'),
        ('; filename="a %22b%22.txt"', 'a "b".txt'),
        ('; filename="a;b=c.txt"', "a;b=c.txt"),
        ("; filename*=utf-8''%E2%82%AC.txt", "€.txt"),
        ("; filename=\"e.txt\"; filename*=UTF-8''%E2%82%AC.txt", "e.txt"),
        ("; filename*=latin1''%E9.txt", ""),
        ('; FileName="😀"', "😀"),
    ],
)
def test_the_name_of_the_file_comes_without_folders(parameter: str, name: str) -> None:
    form, _ = decoded(part("key", b"-${filename}${filename}-") + part("file", b"", parameter) + END)
    assert form.file_name == name
    assert form.fields["key"] == f"-{name}{name}-"


def test_a_signature_is_never_changed_by_the_name_of_the_file() -> None:
    fields = {
        "policy": "${filename}",
        "Signature": "${filename}",
        "X-Amz-Credential": "${filename}",
        "acl": "x",
    }
    form, _ = decoded(written(fields, b"", "evil"))
    assert form.fields == {
        "policy": "${filename}",
        "signature": "${filename}",
        "x-amz-credential": "${filename}",
        "acl": "x",
    }


def test_the_file_is_handed_on_as_it_comes() -> None:
    decoder = FormDecoder(CONTENT_TYPE)
    assert decoder.feed(part("key", b"a") + part("file", b"")[:-2]) == []
    assert decoder.form is not None
    block = b"\r\n-x" * 4096
    for _ in range(64):
        (piece,) = decoder.feed(block)
        assert piece.obj is block, "a view and no copy"
    assert decoder.feed(b"\r\n" + END) == []
    decoder.finish()


def test_what_comes_after_the_file_is_dropped() -> None:
    form, data = decoded(
        part("key", b"a") + part("file", b"x") + part("key", b"b") + part("z", b"") + END + b"\r\n"
    )
    assert (form.fields, data) == ({"key": "a"}, b"x")


# --- what is refused ------------------------------------------------------------------------------

MALFORMED = ("MalformedPOSTRequest", 400, True)
KEY, FILE = part("key", b"a"), part("file", b"x")
HEAD = f"--{BOUNDARY}\r\n"


@pytest.mark.parametrize("step", [1, None])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", MALFORMED),
        (b"key=a&file=x", MALFORMED),
        (b"preamble\r\n" + KEY + FILE + END, MALFORMED),
        (b"\r\n" + KEY + FILE + END, MALFORMED),
        (KEY + FILE, MALFORMED),
        (KEY + FILE + END[:-4], MALFORMED),
        (KEY + FILE[:-2], MALFORMED),
        (KEY + FILE + END + b"more", MALFORMED),
        (KEY + FILE + END + KEY, MALFORMED),
        (KEY + KEY + FILE + END, MALFORMED),
        (KEY + part("KEY", b"b") + FILE + END, MALFORMED),
        (KEY + FILE + f"--{BOUNDARY}x\r\n".encode(), MALFORMED),
        (KEY + FILE.replace(b"\r\n\r\nx", b"\r\n\r\nx\r\n--" + BOUNDARY.encode() + b"!"), MALFORMED),
        (KEY + END, ("IncorrectNumberOfFilesInPostRequest", 400, False)),
        (KEY + FILE + FILE + END, ("IncorrectNumberOfFilesInPostRequest", 400, True)),
        # Heads of parts.
        (f"{HEAD}\r\n\r\na\r\n".encode() + FILE + END, MALFORMED),
        (f"{HEAD}Content-Type: text/plain\r\n\r\na\r\n".encode() + FILE + END, MALFORMED),
        (f"{HEAD}Content-Disposition: form-data\r\n\r\na\r\n".encode() + FILE + END, MALFORMED),
        (f'{HEAD}Content-Disposition: attachment; name="a"\r\n\r\na\r\n'.encode() + FILE + END, MALFORMED),
        (f'{HEAD}Content-Disposition: form-data name="a"\r\n\r\na\r\n'.encode() + FILE + END, MALFORMED),
        (f'{HEAD}Content-Disposition: form-data; name="a\r\n\r\na\r\n'.encode() + FILE + END, MALFORMED),
        (part("a", b"", '; name="b"') + FILE + END, MALFORMED),
        (part("a", b"", '\r\nContent-Disposition: form-data; name="b"') + FILE + END, MALFORMED),
        (part("a", b"", "\r\nno colon") + FILE + END, MALFORMED),
        (part("a", b"", "\nX: y") + FILE + END, MALFORMED),
        (part("a", b"", "\r\nContent-Transfer-Encoding: base64") + FILE + END, MALFORMED),
        (KEY + part("file", b"eA==", "\r\nContent-Transfer-Encoding: base64") + END, MALFORMED),
        # Text that is none.
        (part("key", b"\xff") + FILE + END, MALFORMED),
        (part("key", b"\xed\xa0\x80") + FILE + END, MALFORMED),
    ],
)
def test_a_form_that_cannot_be_read_is_refused(
    body: bytes, code: tuple[str, int, bool], step: int | None
) -> None:
    with pytest.raises(Failure) as refused:
        decoded(body, step)
    assert code_of(refused.value) == code


TOO_MUCH = ("MaxPostPreDataLengthExceededError", 400, True)


@pytest.mark.parametrize("step", [500, None])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (part("key", b"a" * FIELDS_SIZE_MAX) + FILE + END, TOO_MUCH),
        (
            b"".join(part(str(number), b"a" * 1000) for number in range(30)) + FILE + END,
            TOO_MUCH,
        ),
        (
            b"".join(part(str(number), b"") for number in range(FIELD_COUNT_MAX + 1)) + FILE + END,
            MALFORMED,
        ),
        (part("a", b"", "; b" * FIELDS_SIZE_MAX), TOO_MUCH),
        (
            KEY + FILE + part("z", b"a" * FIELDS_SIZE_MAX) + END,
            TOO_MUCH,
        ),
        (KEY + FILE + END + b"\n" * FIELDS_SIZE_MAX, TOO_MUCH),
    ],
)
def test_more_than_a_form_may_have_is_refused(
    body: bytes, code: tuple[str, int, bool], step: int | None
) -> None:
    with pytest.raises(Failure) as refused:
        decoded(body, step)
    assert code_of(refused.value) == code


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (CONTENT_TYPE, BOUNDARY.encode()),
        (b"Multipart/Form-Data;boundary=abc", b"abc"),
        (b'multipart/form-data ; charset=utf-8; Boundary="a b:c" ', b"a b:c"),
        (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
        (b"multipart/form-data; boundary=" + b"x" * 71, None),
        (b"multipart/form-data; boundary=", None),
        (b'multipart/form-data; boundary="a "', None),
        (b'multipart/form-data; boundary="a\r\nb"', None),
        (b"multipart/form-data; boundary=a; boundary=b", None),
        (b"multipart/form-data; boundary=a b", None),
        (b"multipart/form-data", None),
        (b"multipart/form-data-x; boundary=a", None),
        (b"multipart/mixed; boundary=a", None),
        (b"application/x-www-form-urlencoded", None),
        (b"", None),
    ],
)
def test_the_boundary_of_a_content_type(content_type: bytes, boundary: bytes | None) -> None:
    if boundary is not None:
        assert boundary_of(content_type) == boundary
        return
    with pytest.raises(Failure) as refused:
        FormDecoder(content_type)
    assert code_of(refused.value) == MALFORMED


# --- headers --------------------------------------------------------------------------------------


def test_fields_that_mean_headers() -> None:
    form = Form(
        {
            "key": "a",
            "acl": "private",
            "content-type": " text/plain ",
            "x-amz-meta-a": "\tZoë",
            "x-amz-checksum-sha256": "abc=",
            "expires": "",
            "policy": "p",
            "x-amz-signature": "s",
            "x-amz-date": "20261130T000000Z",
            "x-amz-security-token": "t",
            "awsaccesskeyid": "k",
            "success_action_status": "201",
            "host": "elsewhere",
            "authorization": "x",
        },
        "",
    )
    assert form.headers() == {
        b"x-amz-acl": b"private",
        b"content-type": b"text/plain",
        b"x-amz-meta-a": "Zoë".encode(),
        b"x-amz-checksum-sha256": b"abc=",
        b"expires": b"",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "text/html\r\nSet-Cookie: a=b"),
        ("content-disposition", "a\nb"),
        ("x-amz-meta-a", "a\0"),
        ("x-amz-meta-a", "a\x7f"),
        ("x-amz-meta-a b", "c"),
        ("x-amz-meta-a:b", "c"),
        ("x-amz-meta-\r\nb", "c"),
        ("x-amz-meta-é", "c"),
    ],
)
def test_no_field_of_a_form_breaks_out_of_a_header(name: str, value: str) -> None:
    with pytest.raises(Failure) as refused:
        Form({name: value}, "").headers()
    assert refused.value.code == "InvalidArgument"
