"""The name of a file on the web, and what its headers say of it."""

import hashlib
import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.bounds.servers import LONGEST_DISPOSITION
from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import Head, if_range, inspection_of
from datamover.protocols.http.dispositions import disposition_name
from datamover.web.file_names import path_name, safe_name
from datamover.web.url import WebUrl

MOMENT = "Tue, 14 Nov 2023 22:13:20 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"


def inspection(
    *headers: tuple[str, str | bytes],
    length: int | None = 10,
    asked: str = "https://example.org/asked.csv",
    url: str = "https://example.org/final.csv",
    status: int = 200,
) -> Inspection:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name.lower().encode(), []).append(value if isinstance(value, bytes) else value.encode())
    return inspection_of(Head(status, fields, length, WebUrl.parse(asked), WebUrl.parse(url)))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"attachment", ""),
        (b'attachment; filename="data.csv"', "data.csv"),
        (b"attachment; filename=data.csv", "data.csv"),
        (b"ATTACHMENT;FILENAME=data.csv ; size=3", "data.csv"),
        (b'attachment; filename="a;b.csv"', "a;b.csv"),
        (b'attachment; filename="say \\"hi\\".csv"', 'say "hi".csv'),
        (b"attachment; filename*=UTF-8''na%C3%AFve.csv; filename=\"naive.csv\"", "naïve.csv"),
        (b"attachment; filename=\"naive.csv\"; filename*=utf-8'en'na%C3%AFve.csv", "naïve.csv"),
        (b"attachment; filename*=ISO-8859-1''na%EFve.csv", "naïve.csv"),
        (b"attachment; filename*=x-none''x; filename=data.csv", "data.csv"),
        ('attachment; filename="données.csv"'.encode(), "données.csv"),
        ('attachment; filename="données.csv"'.encode("latin-1"), "données.csv"),
        (b'attachment; filename="../../etc/passwd"', "passwd"),
        (b'attachment; filename="C:\\\\temp\\\\data.csv"', "data.csv"),
        (b"attachment; filename*=UTF-8''..%2F..%2Fdata.csv", "data.csv"),
        # Charsets by any of their names; ISO 8859-1 is what browsers take for it.
        (b"attachment; filename*=UTF8''na%C3%AFve.csv", "naïve.csv"),
        (b"attachment; filename*=Latin1''na%EFve%80.csv", "naïve€.csv"),
        (b"attachment; filename*=windows-1252''na%EFve.csv", "naïve.csv"),
        (b"attachment; filename*=KOI8-R''%C4%C1.csv", "да.csv"),
        (b"attachment; filename*=Shift_JIS''%83f.csv", "デ.csv"),
        (b"attachment; filename*=GBK''%CA%FD.csv", "数.csv"),
        # If the charset does not fit, the plain name or the URL's counts.
        (b"attachment; filename*=UTF-8''na%EFve.csv; filename=data.csv", "data.csv"),
        (b"attachment; filename*=UTF-8''na%EFve.csv", ""),
        (b"attachment; filename*=''data.csv", ""),
        (b"attachment; filename*=data.csv", ""),
        (b"attachment; filename*=x'y'z'; filename=data.csv", "data.csv"),
        # Percent-encoded in the plain parameter.
        (b'attachment; filename="na%C3%AFve%20x.csv"', "naïve x.csv"),
        (b"attachment; filename=na%EFve.csv", "naïve.csv"),
        (b'attachment; filename="100%.csv"', "100%.csv"),
        (b'attachment; filename="a+b.csv"', "a+b.csv"),
        # As in mail.
        (b'attachment; filename="=?UTF-8?B?w7w/ZsO8LmNzdg==?="', "ü?fü.csv"),
        (b'attachment; filename="=?utf-8?q?caf=C3=A9_2020.csv?="', "café 2020.csv"),
        (b"attachment; filename==?ISO-8859-1?Q?caf=E9.csv?=", "café.csv"),
        (b'attachment; filename="=?utf-8?B?Y2Fmw6k?= =?utf-8*en?Q?_x?= y.csv"', "café x y.csv"),
        (b'attachment; filename="=?utf-8?Q?a=2Fb=2Fc.csv?="', "c.csv"),
        (b'attachment; filename="=?x-none?Q?a.csv?="', "=?x-none?Q?a.csv?="),
        (b'attachment; filename="=?utf-8?B?w?=.csv"', "=?utf-8?B?w?=.csv"),
        # In pieces.
        (b'attachment; filename*0="long "; filename*1="name.csv"', "long name.csv"),
        (b"attachment; filename*1*=%A9; filename*0*=UTF-8''caf%C3; filename*2=.csv", "café.csv"),
        (b"attachment; filename*0=a; filename*2=c; filename=b.csv", "a"),
        (b"attachment; filename*0*=iso-8859-1''caf%E9; filename*1=.csv; filename=b.csv", "café.csv"),
        # Quotes.
        (b'attachment; filename="data.csv', "data.csv"),
        (b'attachment; filename="data.csv; size=3', "data.csv"),
        (b"attachment; filename=\"a;b.csv; filename*=UTF-8''data.csv", "data.csv"),
        (b'attachment; filename=data.csv"', "data.csv"),
        (b"attachment; filename='data.csv'", "data.csv"),
        (b"attachment; filename='a;b.csv' ; size=3", "a;b.csv"),
        (b"attachment; filename='tis.csv", "'tis.csv"),
        (b"attachment; filename=\"'data.csv'\"", "'data.csv'"),
        (b'attachment; filename="da\\ta.csv"', "data.csv"),
        (b'attachment; filename="C:\\temp\\new data.csv"', "new data.csv"),
        (b'attachment; filename="\\\\host\\share\\data.csv"', "data.csv"),
        (b"attachment; filename=temp\\data.csv", "data.csv"),
        # Without a type, or with something in its place.
        (b"filename=data.csv", "data.csv"),
        (b'filename = "data 1.csv"', "data 1.csv"),
        (b'attachment, filename="data.csv"', "data.csv"),
        (b"attachment filename=data.csv", "data.csv"),
        (b'"attachment"; filename=data.csv', "data.csv"),
        (b"; filename=data.csv", "data.csv"),
        (b"attachment;;; foo; size=3 ;filename=data.csv;", "data.csv"),
        (b"attachment; filename=data 1.csv; filename=2.csv", "data 1.csv"),
        (b"attachment; xfilename=data.csv", ""),
        # Never hidden, so never one of datamover's own.
        (b'attachment; filename=".htaccess"', "htaccess"),
        (b'attachment; filename=" .. .profile"', "profile"),
        (b'attachment; filename=".datamover-0000-1-00.part"', "datamover-0000-1-00.part"),
        (b"attachment; filename*=UTF-8''%E2%80%8B.datamover-1.part", "datamover-1.part"),
        (b'attachment; filename="x/.datamover-1.part"', "datamover-1.part"),
        (b"attachment; filename*=UTF-8''...; filename=data.csv", "data.csv"),
        (b'attachment; filename=".."', ""),
        (b'attachment; filename="/"', ""),
        (b"attachment; filename*=UTF-8''a%00b%0A.csv", "ab.csv"),
        (b'attachment; filename=""', ""),
        (b"", ""),
    ],
)
def test_content_disposition(header: bytes, name: str) -> None:
    """The name in Content-Disposition is one safe path segment, in whatever form servers give it."""
    assert disposition_name(header) == name


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"attachment; filename=", b'attachment; filename="', b"x; filename*="]),
)
def test_a_name_is_a_name(header: bytes, start: bytes) -> None:
    """Whatever a server says, its name is one segment that any directory can hold, and no hidden one."""
    name = disposition_name(start + header)
    assert len(name.encode("utf-8")) <= 255
    assert not name.startswith(".")
    assert not set(name) & {"/", "\\", "\0", "\n", "\x7f"}
    assert safe_name(name) == name


@pytest.mark.parametrize("unit", [b'a="', b";", b";a=", b"=?", b";filename*0*=", b"%", b"\\", b'x="', b" ", b"\xe9"])
def test_an_endless_header_takes_no_time(unit: bytes) -> None:
    """Of a long header only a bounded beginning is parsed."""
    begun = time.process_time()
    disposition_name(b"attachment; filename=x" + unit * (2**20 // len(unit)))
    disposition_name(b'attachment; filename="' + unit * (2**20 // len(unit)))
    assert time.process_time() - begun < 1
    assert LONGEST_DISPOSITION < 2**16


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/data.csv", "data.csv"),
        ("/a/donn%C3%A9es.csv", "données.csv"),
        ("/a/na%EFve.csv", "naïve.csv"),
        ("/a%2Fb.csv", "b.csv"),
        ("/a/..%5Cb.csv", "b.csv"),
        ("/a/", ""),
        ("/", ""),
        ("/%2e%2e", ""),
        ("/%00", ""),
        ("/a+b.csv", "a+b.csv"),
        ("/.htaccess", "htaccess"),
        ("/%2edatamover-0000-1-00.part", "datamover-0000-1-00.part"),
        ("/%E2%80%AE.x", "x"),
        ("/" + "%C3%A9" * 200 + ".tar.gz", "é" * 124 + ".tar.gz"),
    ],
)
def test_names_in_urls(path: str, name: str) -> None:
    """The last segment of a URL's path is decoded and made safe."""
    assert path_name(path) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("x" * 300 + ".tar.gz", "x" * 248 + ".tar.gz"),
        ("é" * 200 + ".csv", "é" * 125 + ".csv"),
        ("x" * 300, "x" * 255),
        ("a." + "x" * 300, "a." + "x" * 253),
        ("jpg.\u202eexe.gpj", "jpg.exe.gpj"),
        (" a ", "a"),
        ("\u200b.a", "a"),
        ("a\u2028b\x85c", "abc"),
        ("\u00a0.\u3000a", "a"),
        ("\ud800", ""),
    ],
)
def test_safe_names(text: str, name: str) -> None:
    """A safe name fits 255 bytes, keeps its extension, and has no characters that mislead."""
    assert safe_name(text) == name


@pytest.mark.parametrize(
    ("headers", "asked", "url", "name"),
    [
        ([("Content-Disposition", 'attachment; filename="told.csv"')], "/asked.csv", "/final.csv", "told.csv"),
        ([("Content-Disposition", "inline")], "/asked.csv", "/final.csv", "final.csv"),
        ([("Content-Disposition", "inline"), ("Content-Disposition", "x; filename=b")], "/a", "/c", "b"),
        ([("Content-Disposition", 'attachment; filename="..."')], "/asked.csv", "/final.csv", "final.csv"),
        ([], "/asked.csv", "/...", "asked.csv"),
        ([], "/asked.csv", "/final.csv", "final.csv"),
        ([], "/asked.csv", "/", "asked.csv"),
        ([], "/", "/", ""),
    ],
)
def test_where_a_name_comes_from(headers: list[tuple[str, str]], asked: str, url: str, name: str) -> None:
    """Content-Disposition goes before the final URL, which goes before the requested one."""
    found = inspection(*headers, asked=f"https://example.org{asked}", url=f"https://example.org{url}")
    assert found.name == name


@pytest.mark.parametrize(
    ("headers", "length", "identity"),
    [
        ([("ETag", '"a"')], 10, 'tag "a"'),
        ([("ETag", '"a"')], None, 'tag "a"'),
        ([("ETag", '"a"'), ("Last-Modified", MOMENT)], 10, 'tag "a"'),
        ([("Last-Modified", MOMENT), ("Date", LATER)], 10, f"date {MOMENT} 10"),
        ([("Last-Modified", MOMENT), ("Date", LATER)], None, None),
        ([("Last-Modified", MOMENT), ("Date", MOMENT)], 10, None),
        ([("Last-Modified", MOMENT)], 10, None),
        ([("Last-Modified", "yesterday"), ("Date", LATER)], 10, None),
        ([("ETag", 'W/"a"')], 10, None),
        ([("ETag", 'W/"a"'), ("Last-Modified", MOMENT), ("Date", LATER)], 10, f'weak W/"a" {MOMENT} 10'),
        ([("ETag", "a")], 10, None),
        ([("ETag", '"a')], 10, None),
        ([], 10, None),
    ],
)
def test_identities(headers: list[tuple[str, str]], length: int | None, identity: str | None) -> None:
    """The identity is a strong ETag, else the time and size if the time is older than the answer."""
    assert inspection(*headers, length=length).identity == identity


@pytest.mark.parametrize(
    ("identity", "condition"),
    [('tag "a b"', '"a b"'), (f"date {MOMENT} 10", MOMENT), (f'weak W/"a" {MOMENT} 10', None), ("other", None)],
)
def test_conditions(identity: str, condition: str | None) -> None:
    """If-Range has a strong validator; a weak one is not sent."""
    assert if_range(identity) == condition


def _base64(algorithm: str, content: bytes = b"x") -> str:
    return b64encode(hashlib.new(algorithm, content).digest()).decode()


@pytest.mark.parametrize(
    ("headers", "status", "algorithms"),
    [
        ([("Repr-Digest", f"sha-256=:{_base64('sha256')}:")], 200, {"sha256"}),
        ([("Repr-Digest", f"sha-256=:{_base64('sha256')}:, sha-512=:{_base64('sha512')}:")], 206, {"sha256", "sha512"}),
        ([("Content-Digest", f"sha-256=:{_base64('sha256')}:")], 200, {"sha256"}),
        ([("Content-Digest", f"sha-256=:{_base64('sha256')}:")], 206, set()),
        ([("Digest", f"SHA-256={_base64('sha256')},MD5={_base64('md5')}")], 206, {"sha256", "md5"}),
        ([("Digest", f"sha={_base64('sha1')}"), ("Digest", "adler32=03da0195")], 200, {"sha1"}),
        ([("Content-MD5", _base64("md5"))], 200, {"md5"}),
        ([("Content-MD5", _base64("md5"))], 206, set()),
        ([("Digest", f"sha-256={_base64('md5')}")], 200, set()),
        ([("Digest", "sha-256=abc")], 200, set()),
        ([("Repr-Digest", "sha-256=nonsense")], 200, set()),
    ],
)
def test_published_digests(headers: list[tuple[str, str]], status: int, algorithms: set[str]) -> None:
    """Digests of the whole file are read in every form; those of a part are ignored."""
    ranged = [("Content-Range", "bytes 0-9/100")] if status == 206 else []
    found = inspection(*headers, *ranged, status=status).digests
    assert found == {name: hashlib.new(name, b"x").hexdigest() for name in algorithms}


def test_the_newer_digest_goes_before_the_older() -> None:
    """If two headers have the same algorithm, the one of the newer standard counts."""
    found = inspection(
        ("Digest", f"sha-256={_base64('sha256', b'old')}"), ("Repr-Digest", f"sha-256=:{_base64('sha256', b'new')}:")
    )
    assert found.digests == {"sha256": hashlib.sha256(b"new").hexdigest()}


def test_what_a_part_tells_of_the_whole() -> None:
    """The size of a file is the total of its Content-Range, and its time in POSIX seconds."""
    found = inspection(
        ("Content-Range", "bytes 90-99/100"), ("Last-Modified", MOMENT), ("Date", LATER), length=10, status=206
    )
    assert (found.size, found.modified, found.identity) == (100, 1_700_000_000, f"date {MOMENT} 100")
