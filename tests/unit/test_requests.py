"""What a request may say, and how a refusal names what is wrong."""

from typing import Any
from xmlrpc.client import Binary

import pytest

from datamover import errors
from datamover.jobs.values import Checksum, Naming, NewJob, Overwrite, PlaceSource, UrlSource
from datamover.requests.coercion import WrittenInt
from datamover.requests.files import FILE_KEYS, Rules
from datamover.requests.jobs import KNOWN_KEYS, checking, checking_many, finish
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl

URL = "https://example.org/data/a.csv"
SHA256 = "sha256:" + "AB" * 32


def read_url(text: str) -> WebUrl:
    SourcePolicy().check_url(text)
    return WebUrl.parse(text)


def check_request(request: object, rules: Rules) -> NewJob:
    return finish(checking(request, rules))


def rules(**changes: Any) -> Rules:
    return Rules(
        **{
            "owner": "portal",
            "destinations": {"archive": 255, "visualiser": 255, "vault": 1024},
            "permitted": ("archive", "visualiser"),
            "read_url": read_url,
            "max_files": 10,
            "max_attempts": 5,
            **changes,
        }
    )


def one(**changes: Any) -> dict[str, Any]:
    return {"source": URL, "destination": "archive", "path": "in/a.csv", **changes}


def many(*files: Any, **keys: Any) -> dict[str, Any]:
    return {"files": list(files), **keys}


def test_a_one_file_job_gives_its_keys_at_the_top() -> None:
    """The short form and the long one ask for the same job."""
    short = check_request(one(size=5, checksum=SHA256, label="x"), rules())
    long = check_request(many(one(size=5.0, checksum=SHA256), label="x"), rules())
    assert short == long
    [file] = short.files
    assert file.source == UrlSource(URL, URL)
    assert (file.destination, file.path, file.naming) == ("archive", "in/a.csv", Naming.EXACT)
    assert (file.size, file.checksum) == (5, Checksum("sha256", "ab" * 32))
    assert (short.owner, short.overwrite, short.archive, short.max_attempts) == ("portal", Overwrite.NEVER, None, 5)


def test_every_key_is_taken() -> None:
    """What api.md's table names, and works, comes out in the job."""
    job = check_request(
        many(
            one(source={"destination": "visualiser", "path": "maps/b.tif"}, path="deep/"),
            one(path=""),
            overwrite="if-different",
            request_id="r-1",
            label="Grüße",
            max_attempts=7.0,
        ),
        rules(),
    )
    assert job.files[0].source == PlaceSource("visualiser", "maps/b.tif")
    assert [(file.path, file.naming) for file in job.files] == [("deep", Naming.INTO), ("", Naming.INTO)]
    assert (job.overwrite, job.request_id, job.label, job.max_attempts) == (
        Overwrite.IF_DIFFERENT,
        "r-1",
        "Grüße",
        7,
    )


def test_a_signature_in_a_url_is_not_shown() -> None:
    """The source keeps its query's value, and what is shown does not."""
    [file] = check_request(one(source=f"{URL}?signature=s3cret"), rules()).files
    assert isinstance(file.source, UrlSource)
    assert file.source.url.endswith("s3cret")
    assert file.source.shown == f"{URL}?signature=***"
    assert "s3cret" not in repr(file)


def test_where_to_tell_of_the_end() -> None:
    """``notify`` is a URL that this client's notices may go to; the value of its query is not shown."""

    def check(url: str) -> None:
        asked.append(url)
        raise errors.SourceNotAllowed("is not for you")

    asked: list[str] = []
    job = check_request(one(notify="https://Example.org/moved?key=s3cret"), rules())
    assert job.notify is not None
    assert job.notify.url == "https://example.org/moved?key=s3cret"
    assert job.notify.shown == "https://example.org/moved?key=***"
    assert "s3cret" not in repr(job)
    with pytest.raises(errors.SourceNotAllowed, match=r"^notify: is not for you$"):
        check_request(one(notify="http://10.0.0.1"), rules(check_notice=check))
    assert asked == ["http://10.0.0.1/"]


def test_a_zip_has_one_path_for_all_its_files() -> None:
    """The path may stand once at the top, or the same in each file."""
    zipped = check_request(
        many({"source": URL}, {"source": f"{URL}x"}, archive="zip", destination="archive", path="all.zip"), rules()
    )
    assert zipped.archive == "zip"
    assert [(file.path, file.naming) for file in zipped.files] == [("all.zip", Naming.EXACT)] * 2
    each = many(one(path="all.zip"), one(path="all.zip", source=f"{URL}x"), archive="zip")
    assert check_request(each, rules()) == zipped


REFUSED: list[tuple[Any, type[errors.RequestError], str]] = [
    ("text", errors.InvalidRequest, "the request is 'text'"),
    (None, errors.InvalidRequest, "the request is nil"),
    ([], errors.InvalidRequest, "source: missing"),
    (one(source=[]), errors.InvalidRequest, "source.destination: missing"),
    (many(one(), None), errors.InvalidRequest, "files[1]: nil: expected a struct"),
    (many([]), errors.InvalidRequest, "files[0].source: missing"),
    ({}, errors.InvalidRequest, "source: missing"),
    (many(), errors.InvalidRequest, "files: an array"),
    ({"files": "x"}, errors.InvalidRequest, "files: 'x'"),
    ({"files": [5]}, errors.InvalidRequest, "files[0]: 5"),
    (one(colour="red"), errors.InvalidRequest, "colour: unknown key"),
    (many(one(), one(colour="red")), errors.InvalidRequest, "files[1].colour: unknown key"),
    (many(one(), label="x", source=URL), errors.InvalidRequest, "source: given beside 'files'"),
    (many(one(), destination="archive"), errors.InvalidRequest, "destination: given beside 'files'"),
    (many({"source": URL, "destination": "archive"}), errors.InvalidRequest, "files[0].path: missing"),
    (one(path=None), errors.InvalidRequest, "path: missing"),
    (many(one(path="../x")), errors.PathNotAllowed, "files[0].path: '../x' leaves destination 'archive'"),
    (one(path="/etc/passwd"), errors.PathNotAllowed, "path: '/etc/passwd' begins with '/'"),
    (one(path="a%00b"), errors.PathNotAllowed, "path: 'a%00b' holds a NUL"),
    (one(path="a/" + "b" * 256), errors.PathNotAllowed, "path: 'a/bbb"),
    (one(destination="nowhere"), errors.UnknownDestination, "destination: 'nowhere' is not a registered destination"),
    (one(destination=5), errors.UnknownDestination, "destination: '5' is not a registered destination"),
    (one(destination=True), errors.InvalidRequest, "destination: True: expected the name of a destination"),
    (one(destination="vault"), errors.NotPermitted, "destination: client 'portal' may not use destination 'vault'"),
    (
        many(one(source={"destination": "vault", "path": "x"})),
        errors.NotPermitted,
        "files[0].source.destination: client 'portal' may not",
    ),
    (one(source={"destination": "archive"}), errors.InvalidRequest, "source.path: missing"),
    (one(source={"destination": "archive", "path": "a/"}), errors.InvalidRequest, "source.path: 'a/'"),
    (one(source={"destination": "archive", "path": "a/../../b"}), errors.PathNotAllowed, "source.path: 'a/../../b'"),
    (one(source={"destination": "archive", "path": "a", "x": 1}), errors.InvalidRequest, "source.x: unknown key"),
    (one(source=5), errors.InvalidRequest, "source: 5"),
    (one(source="not a url"), errors.InvalidRequest, "source: "),
    (many(one(source="file:///etc/passwd")), errors.UnsupportedScheme, "files[0].source: 'file:"),
    (one(source="SFTP://host/x"), errors.UnsupportedScheme, "name the registered place"),
    (one(source="scp://u:secret@host/x"), errors.UnsupportedScheme, "source: 'scp://host/x'"),
    (one(source="gopher://host/x"), errors.UnsupportedScheme, "source: cannot read from 'gopher' URLs"),
    (one(source="ala://ala?lsid=urn:lsid:a:b:c"), errors.UnsupportedScheme, "not configured here"),
    (one(source="https://u:secret@example.org/x"), errors.InvalidRequest, "source: the source URL holds a user name"),
    (one(source="http://127.0.0.1/x"), errors.SourceNotAllowed, "source: http://127.0.0.1/x is not an allowed source"),
    (one(checksum="sha256:abc"), errors.InvalidRequest, "checksum: 'sha256:abc': expected 64 hexadecimal digits"),
    (one(checksum="crc32:abcdef01"), errors.InvalidRequest, "checksum: 'crc32:abcdef01': expected one of sha256:"),
    (one(checksum=5), errors.InvalidRequest, "checksum: 5"),
    (one(size=-1), errors.InvalidRequest, "size: -1"),
    (one(size=1.5), errors.InvalidRequest, "size: 1.5"),
    (one(size=float("nan")), errors.InvalidRequest, "size: nan"),
    (one(size=float("inf")), errors.InvalidRequest, "size: a number out of range"),
    (one(size=True), errors.InvalidRequest, "size: True"),
    (one(size=10**400), errors.InvalidRequest, "size: a number out of range"),
    (one(overwrite="sometimes"), errors.InvalidRequest, "overwrite: 'sometimes': expected one of never, always"),
    (one(overwrite=[]), errors.InvalidRequest, "overwrite: an array"),
    (one(archive="tar"), errors.InvalidRequest, "archive: 'tar': expected 'zip'"),
    (one(archive="zip", path="in/"), errors.InvalidRequest, "path: 'in/': expected the archive's own path"),
    (one(archive="zip", path=""), errors.InvalidRequest, "path: '': expected the archive's own path"),
    (
        many(one(path="a.zip"), one(path="b.zip"), archive="zip"),
        errors.InvalidRequest,
        "files[1]: an archive has one destination and path",
    ),
    (one(request_id=""), errors.InvalidRequest, "request_id: ''"),
    (one(request_id="x" * 201), errors.InvalidRequest, "request_id: 'xxx"),
    (one(label=True), errors.InvalidRequest, "label: True: expected text"),
    (one(label=1.5), errors.InvalidRequest, "label: 1.5: expected text"),
    (one(label=10**200), errors.InvalidRequest, "label: a number out of range: expected text of at most 200"),
    (one(label=Binary(b"\xfc")), errors.InvalidRequest, "label: base64 that is not text in UTF-8: expected text"),
    (one(label=Binary(b"a\0b")), errors.InvalidRequest, "label: base64 that is not text in UTF-8: expected text"),
    (one(label="x" * 201), errors.InvalidRequest, "label: 'xxx"),
    (one(max_attempts=0), errors.InvalidRequest, "max_attempts: 0"),
    (one(max_attempts=101), errors.InvalidRequest, "max_attempts: 101"),
    (one(max_attempts="101"), errors.InvalidRequest, "max_attempts: '101': expected a whole number from 1 to 100"),
    (one(max_attempts="1e1"), errors.InvalidRequest, "max_attempts: '1e1'"),
    (one(size="-1"), errors.InvalidRequest, "size: '-1': expected a whole number of bytes, 0 or more"),
    (one(size="9" * 31), errors.InvalidRequest, f"size: '{'9' * 31}': expected a whole number"),
    (one(priority=6), errors.InvalidRequest, "priority: 6: expected a whole number from 1 to 5"),
    (one(priority=True), errors.InvalidRequest, "priority: True: expected a whole number from 1 to 5"),
    (one(deadline=0), errors.InvalidRequest, "deadline: 0: expected seconds from now"),
    (one(deadline=float("nan")), errors.InvalidRequest, "deadline: nan: expected seconds from now"),
    (one(deadline="soon"), errors.InvalidRequest, "deadline: 'soon': expected seconds from now"),
    (one(deadline=""), errors.InvalidRequest, "deadline: '': expected seconds from now"),
    (one(on_failure="explode"), errors.InvalidRequest, "on_failure: 'explode': expected one of"),
    (one(notify=5), errors.InvalidRequest, "notify: 5: expected an http(s) URL"),
    (one(notify="ftp://example.org/"), errors.InvalidRequest, "notify: 'ftp://example.org/': expected an http(s) URL"),
    (one(notify="https://u:s3cret@example.org/"), errors.InvalidRequest, "notify: 'https://example.org/': expected"),
    (many(one(notify="https://example.org/")), errors.InvalidRequest, "files[0].notify: unknown key"),
    (many(one(), one()), errors.InvalidRequest, "files[1] and files[0] have the same target 'in/a.csv'"),
    (many(one(path="in/"), one()), errors.InvalidRequest, "files[1] and files[0] have the same target 'in/a.csv'"),
    (
        many(one(path="in"), one(source={"destination": "visualiser", "path": "x/in"}, path="")),
        errors.InvalidRequest,
        "files[1] and files[0] have the same target 'in'",
    ),
    (many(*[one(path=str(n)) for n in range(11)]), errors.RequestTooLarge, "files: 11 of them: expected at most 10"),
]


@pytest.mark.parametrize(
    ("request_", "error", "message"), REFUSED, ids=[f"{n}-{row[2][:30]}" for n, row in enumerate(REFUSED)]
)
def test_a_refusal_names_what_is_wrong(request_: Any, error: type[errors.RequestError], message: str) -> None:
    """Each is refused with its own error, and the message names key, index and value, and no secret."""
    with pytest.raises(errors.RequestError) as caught:
        check_request(request_, rules())
    assert caught.type is error
    assert message in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("permitted", "known"),
    [
        (None, "there are: archive, visualiser, vault"),
        (("archive",), "there are: archive"),
        ((), "there is none that you may use: ask the administrator"),
    ],
)
def test_what_there_is_instead(permitted: tuple[str, ...] | None, known: str) -> None:
    """Who names a destination that is not there is told those that he may use, or that there are none."""
    with pytest.raises(errors.UnknownDestination) as refused:
        check_request(one(destination="moon"), rules(permitted=permitted))
    assert refused.value.message == f"destination: 'moon' is not a registered destination; {known}"


def test_targets_that_only_the_source_can_tell_are_not_compared() -> None:
    """Two URLs with a query may well have different names."""
    job = check_request(many(one(source=f"{URL}?id=1", path="in/"), one(source=f"{URL}?id=2", path="in/")), rules())
    assert len(job.files) == 2


def test_the_fingerprint_is_of_what_was_asked() -> None:
    """The same request has the same one however it is written, another has another, and none without a request_id."""

    def fingerprint(**changes: Any) -> str | None:
        return check_request(one(request_id="r", **changes), rules()).fingerprint

    same = [fingerprint(), check_request(many(one(), request_id="r"), rules(max_attempts=9)).fingerprint]
    other = [fingerprint(path="b"), fingerprint(size=1), fingerprint(label="x"), fingerprint(overwrite="always")]
    other += [fingerprint(source=f"{URL}?a=1"), fingerprint(source=f"{URL}?a=2"), fingerprint(max_attempts=5)]
    other += [fingerprint(notify=URL), fingerprint(notify=f"{URL}?a=1")]
    assert len(set(same)) == 1
    assert len({*same, *other}) == 1 + len(other)
    assert check_request(one(), rules()).fingerprint is None


def test_many_requests_are_refused_by_index() -> None:
    """One bad request refuses them all, and the files of all count together."""
    with pytest.raises(errors.PathNotAllowed, match=r"requests\[1\]: path: '\.\./x'"):
        finish(checking_many([one(), one(path="../x")], rules()))
    with pytest.raises(errors.RequestTooLarge, match=r"requests\[1\]: more than 10 files"):
        finish(checking_many([many(*[one(path=str(n)) for n in range(6)])] * 2, rules()))
    with pytest.raises(errors.InvalidRequest, match="requests: 'x'"):
        finish(checking_many("x", rules()))
    with pytest.raises(errors.InvalidRequest, match=r"requests\[0\]: path: missing"):
        finish(checking_many([one(path=None)], rules()))
    assert finish(checking_many({}, rules())) == []


FULL = one(
    size=5, checksum=SHA256, overwrite="always", archive="zip", request_id="r", label="x", max_attempts=3, priority=2,
    deadline=60, on_failure="stop", notify=URL,
)  # fmt: skip


@pytest.mark.parametrize("key", sorted(KNOWN_KEYS - {"source", "destination", "path", "files"}))
def test_nil_for_an_optional_key_is_a_missing_key(key: str) -> None:
    """Whichever it is, of the job or of one of its files."""
    left_out = check_request({name: value for name, value in FULL.items() if name != key}, rules())
    assert check_request({**FULL, key: None}, rules()) == left_out
    assert check_request({**FULL, key: FULL[key]}, rules()) != left_out
    if key in FILE_KEYS:
        assert check_request(many({**one(), key: None}), rules()) == check_request(one(), rules())


@pytest.mark.parametrize("key", ["source", "destination", "path"])
def test_nil_for_a_required_key_is_told_as_missing(key: str) -> None:
    """In the job, in one of its files and in a source."""
    with pytest.raises(errors.InvalidRequest, match=rf"^{key}: missing$"):
        check_request(one(**{key: None}), rules())
    with pytest.raises(errors.InvalidRequest, match=rf"^files\[0\]\.{key}: missing$"):
        check_request(many(one(**{key: None})), rules())
    if key != "source":
        source = {"destination": "archive", "path": "a", key: None}
        with pytest.raises(errors.InvalidRequest, match=rf"^source\.{key}: missing"):
            check_request(one(source=source), rules())


def test_nil_counts_for_nothing_wherever_it_stands() -> None:
    """A nil beside what is given, of files beside a file, of an archive's file or of a key that there is not."""
    plain = check_request(one(), rules())
    assert check_request(one(files=None), rules()) == plain
    assert check_request(one(colour=None), rules()) == plain
    assert check_request(many(one(), source=None, path=None), rules()) == plain
    nils = {"source": URL, "destination": None, "path": None}
    zipped = many({"source": URL}, archive="zip", destination="archive", path="all.zip")
    assert check_request({**zipped, "files": [nils]}, rules()) == check_request(zipped, rules())


def test_values_of_a_guessed_type_are_what_was_meant() -> None:
    """Ints and base64 where text is meant, digits where a number is meant."""
    guessed = check_request(
        many(
            one(source={"destination": 2026, "path": WrittenInt.read("007")}, size="12", path=WrittenInt.read("0012")),
            one(source=Binary("https://example.org/ü".encode()), path=Binary("grün".encode())),
            label=20261128, request_id=7, max_attempts="3", priority="5", deadline="60",
        ),
        rules(destinations={"archive": 255, "2026": 255}, permitted=None),
    )  # fmt: skip
    assert guessed == check_request(
        many(
            one(source={"destination": "2026", "path": "007"}, size=12, path="0012"),
            one(source="https://example.org/ü", path="grün"),
            label="20261128", request_id="7", max_attempts=3, priority=5, deadline=60,
        ),
        rules(destinations={"archive": 255, "2026": 255}, permitted=None),
    )  # fmt: skip


def test_names_as_long_as_the_destination_takes_them() -> None:
    """A name may have as many bytes as the protocol of its destination takes, at either side."""
    known = rules(permitted=None)
    long = {"destination": "vault", "path": "a/" + "é" * 512}
    [file] = check_request(one(**long, source={"destination": "vault", "path": "n" * 1024}), known).files
    assert (file.path, file.source) == (long["path"], PlaceSource("vault", "n" * 1024))
    for changes in (
        {"destination": "vault", "path": "n" * 1025},
        {"path": "n" * 256},
        {"source": {"destination": "archive", "path": "n" * 256}},
    ):
        with pytest.raises(errors.PathNotAllowed, match=r"a name of more than (255|1024) bytes: shorten it"):
            check_request(one(**changes), known)


def test_an_archives_path_is_compared_as_text() -> None:
    """Two ints of one value that are written differently are two paths."""
    two = (one(path=WrittenInt.read("07")), one(path=WrittenInt.read("007"), source=f"{URL}x"))
    with pytest.raises(errors.InvalidRequest, match=r"^files\[1\]: an archive has one destination and path"):
        check_request(many(*two, archive="zip"), rules())


def test_checking_many_files_lets_others_have_their_turn() -> None:
    """The check of a long request yields again and again."""
    steps = checking(many(*[one(path=str(n)) for n in range(1000)]), rules(max_files=1000))
    assert sum(1 for _ in steps) >= 50
