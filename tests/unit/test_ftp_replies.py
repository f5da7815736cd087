"""What FTP servers answer and list, read from the text."""

import pytest

from datamover.bounds.servers import LARGEST_REPLY
from datamover.errors import Scope, SourceForbidden
from datamover.protocols.ftp.client.listing import FtpEntry, fact_entry, line_entry, time_of
from datamover.protocols.ftp.client.replies import (
    FtpRefusal,
    MalformedReply,
    Reply,
    ReplyReader,
    extended_port,
    passive_port,
    quoted_path,
)
from datamover.protocols.ftp.refusals import FtpRefusals


def read(*lines: bytes) -> list[Reply]:
    reader = ReplyReader()
    return [reply for line in lines if (reply := reader.read(line)) is not None]


def reply(text: str) -> Reply:
    return Reply(200, (text.encode(),))


def test_replies() -> None:
    """A reply is a line, or ends with the line that has its code and a space; between, anything may stand."""
    assert read(b"220 hello") == [Reply(220, (b"hello",))]
    assert read(b"220") == [Reply(220, (b"",))]
    assert read(b"220 hello", b"", b"\r", b"331 who") == [Reply(220, (b"hello",)), Reply(331, (b"who",))]
    assert read(b"211-Features:", b" MDTM", b"200 no end", b"211-SIZE", b"", b"211 End", b"226 next") == [
        Reply(211, (b"Features:", b" MDTM", b"200 no end", b"SIZE", b"", b"End")),
        Reply(226, (b"next",)),
    ]


@pytest.mark.parametrize("line", [b"SSH-2.0", b"99 x", b"600 x", b"2200 x", b"220_x", b" 220 x"])
def test_no_replies(line: bytes) -> None:
    """What begins with no code of a reply is none."""
    with pytest.raises(MalformedReply):
        read(line)


@pytest.mark.parametrize(
    ("command", "fitting", "others"),
    [
        ("SIZE", ["213 0", "213 many", "200 12", "550 no"], ["226 sent", "250 done", "200 OK"]),
        ("RNFR", ["350 to", "300 to", "550 no"], ["200 OK", "250 done", "213 12"]),
        ("RNTO", ["250 done", "200 OK", "553 no"], ["350 to"]),
        ("EPSV", ["229 (|||1|)", "227 1,2,3,4,5,6", "500 what"], ["200 OK", "213 12"]),
        ("NOOP", ["200 OK", "502 what"], ["250 done", "226 sent", "213 12"]),
        ("REST", ["350 from", "250 from", "502 what"], []),
        ("USER", ["331 password", "230 in", "530 no"], []),
        ("DELE", ["250 done", "200 OK", "450 busy"], ["350 to"]),
    ],
)
def test_replies_that_fit(command: str, fitting: list[str], others: list[str]) -> None:
    """A success that answers another command is told from one's own, where servers differ no more than they do."""
    assert all(told.fits(command) for told in read(*(text.encode() for text in fitting)))
    assert not any(told.fits(command) for told in read(*(text.encode() for text in others)))


def test_large_reply() -> None:
    """A reply of too many bytes is none."""
    with pytest.raises(MalformedReply):
        read(b"211-", *[bytes(1000)] * (LARGEST_REPLY // 1000 + 1))
    with pytest.raises(MalformedReply):
        read(*[b""] * (LARGEST_REPLY + 1))


def test_words() -> None:
    """What messages quote is one bounded line without control characters."""
    shown = Reply(550, (b"a\x1b[31m\tb", b"x" * 1000)).words
    assert shown.startswith("a [31m b xxx")
    assert len(shown) == 200
    assert Reply(550, (b"caf\xe9",)).words == "caf?"


@pytest.mark.parametrize("name", ["quota", "no space left", "no such file"])
def test_words_of_a_path(name: str) -> None:
    """What the name of a file says is not taken for what the server says of it, however it names the file."""
    refusals = FtpRefusals("place", Scope.SOURCE, "portal")
    for shown in (f"/{name}/{name}", name):
        told = Reply(550, (f"{shown}: Permission denied".encode(),))
        error = refusals.of(FtpRefusal(told, f"RETR /{name}/{name}"), f"{name}/{name}")
        assert isinstance(error, SourceForbidden), error


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("Entering Extended Passive Mode (|||6446|)", 6446),
        ("ok (!!!1!)", 1),
        ("ok (|||0|)", None),
        ("ok (|||65536|)", None),
        ("ok (|1|127.0.0.1|6446|)", None),
        ("ok", None),
    ],
)
def test_extended_ports(text: str, port: int | None) -> None:
    """The port of a reply to EPSV stands between delimiters of any kind."""
    assert extended_port(reply(text)) == port


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("Entering Passive Mode (127,0,0,1,25,46).", 6446),
        ("Entering Passive Mode 10,0,0,1,0,21", 21),
        ("=127, 0, 0, 1, 1, 0", 256),
        ("(127,0,0,1,256,0)", None),
        ("(127,0,0,1,0,0)", None),
        ("(127,0,0,1,1)", None),
    ],
)
def test_passive_ports(text: str, port: int | None) -> None:
    """The port of a reply to PASV is two numbers behind the address, with parentheses or without."""
    assert passive_port(reply(text)) == port


def test_quoted_paths() -> None:
    """A path stands in quotation marks, those within it doubled."""
    assert quoted_path(reply('"/a ""b"" c" is current')) == '/a "b" c'
    assert quoted_path(reply('"/open')) is None
    assert quoted_path(reply("none")) is None


def test_times() -> None:
    """Times are in UTC, with fractions or without; what is no time is none."""
    assert time_of("20010909014640") == 1_000_000_000
    assert time_of("20010909014640.25") == 1_000_000_000.25
    assert time_of("19700101000000") == 0
    for text in ("", "2001", "20011301000000", "20010132000000", "20010101240000", "yesterday"):
        assert time_of(text) is None


def test_facts() -> None:
    """Facts tell kind, size, time and what tells a file from another; their names are in any case."""
    line = " Type=file;SIZE=12;modify=20010909014640;unique=fe00g1;UNIX.mode=0644; a b;c"
    assert fact_entry(line) == FtpEntry("a b;c", "file", 12, 1_000_000_000, "fe00g1")
    assert fact_entry("type=dir; d") == FtpEntry("d", "dir")
    assert fact_entry("type=cdir; .") is None
    assert fact_entry("type=pdir;sizd=4096; ..") is None
    assert fact_entry("type=cdir; /srv/d") == FtpEntry("d", "dir")
    assert fact_entry("type=OS.unix=slink:/etc/passwd; p") == FtpEntry("p", "link", target="/etc/passwd")
    assert fact_entry("type=OS.unix=slink:/a b;size=7; p; q") == FtpEntry("p; q", "link", 7, target="/a b")
    assert fact_entry("type=file;size=7 p") == FtpEntry("p", "file", 7)
    assert fact_entry("type=OS.unix=symlink;size=7; p") == FtpEntry("p", "link", 7)
    assert fact_entry("type=OS.unix=chr-1/3; null") == FtpEntry("null", "other")
    assert fact_entry("type=file;size=many; f") == FtpEntry("f", "file")
    assert fact_entry("no facts") is None


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("-rw-r--r--   1 user  group        12 Nov 29 00:34 a b", FtpEntry("a b", "file", 12)),
        ("-rw-r--r--   1 user  group        12 Nov 29  2024  two  spaces ", FtpEntry(" two  spaces ", "file", 12)),
        ("-rw-r--r--+  1 0     0     5000000000 Jan  1  1970 big", FtpEntry("big", "file", 5_000_000_000)),
        ("-rw-r--r--   1 owner 12 Nov 29 00:34 no group", FtpEntry("no group", "file", 12)),
        ("-rw-r--r--   1 Domain Users 12 Nov 29 00:34 f", FtpEntry("f", "file", 12)),
        ("-rw-r--r--   1 u g 12 2024-11-29 00:34 iso", FtpEntry("iso", "file", 12)),
        ("-rw-r--r--   1 u g 12 M\xe4r 29 00:34 german", FtpEntry("german", "file", 12)),
        ("-rw-r--r--   1 u g 12 29. Mai 00:34 dot", FtpEntry("dot", "file", 12)),
        ("-rw-r--r--   1 u g 12 f\udce9vr. 29  2024 latin", FtpEntry("latin", "file", 12)),
        ("-rw-r--r--   1 1000 1000 12 11月 29 00:34 wide", FtpEntry("wide", "file", 12)),
        ("-rw-r--r--   1 1000 1000 12 11月 29日 2024年 all wide", FtpEntry("all wide", "file", 12)),
        ("drwxr-xr-x   2 u g 4096 Nov 29 00:34 d", FtpEntry("d", "dir")),
        ("drwxrws--T   2 u g 4096 29 Nov 00:34 d", FtpEntry("d", "dir")),
        ("lrwxrwxrwx   1 u g 11 Nov 29 00:34 passwd -> /etc/passwd", FtpEntry("passwd", "link", target="/etc/passwd")),
        ("crw-rw-rw-   1 0 0 1, 3 Nov 29 00:34 null", FtpEntry("null", "other")),
        ("-rw-r--r--   1 u g 12 Nov 29 00:34 a -> b", FtpEntry("a -> b", "file", 12)),
        ("11-29-24  12:34AM       <DIR>          a directory", FtpEntry("a directory", "dir")),
        ("11-29-2024  00:34                1,234 file.txt", FtpEntry("file.txt", "file", 1234)),
        ("11-29-24  12:34PM       <JUNCTION>     j [C:\\x]", FtpEntry("j [C:\\x]", "link")),
        ("-rw-r--r-- " + "a " * 1000, None),
        ("-rw-r--r-- " + "1 " * 1000, None),
        ("-rw-r--r-- 1 u g 12 Nov 29 00:34 " + "n" * 5000, None),
        ("total 12", None),
        ("", None),
        ("d", None),
    ],
)
def test_lines(line: str, entry: FtpEntry | None) -> None:
    """Lines are read as ls and DOS write them, names to the space."""
    assert line_entry(line) == entry
