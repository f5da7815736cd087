"""WebDAV against a scripted server: refusals, false answers, logins, and requests that are never sent."""

import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols import listings
from datamover.protocols.base import Ability
from datamover.protocols.dav import DAV, files
from datamover.protocols.http import steady
from datamover.protocols.place import Place
from datamover.protocols.upload import Saved, Stored, UploadKey
from tests.protocols.conformance import KEY, MIB, arrive, get, put, settings, write
from tests.servers.certificates import Authority
from tests.servers.exchange import Exchange
from tests.servers.memory_dav import Fault, MemoryDav
from tests.servers.web import Web
from tests.waiting import until

TOKEN = "t0ken"


class Rehearsal:
    """A server in memory, and the pool that asks it."""

    def __init__(self, web: Web, directory: Path, *, host: str = "127.0.0.1", **options: Any) -> None:
        self.web = web
        self.dav = MemoryDav()
        web.otherwise = self.dav
        self.token = directory / "token"
        self.keep(TOKEN)
        url = f"{web.url_of(host)}/dav".replace("http", "dav")
        self.pool = DAV.open(settings(url), DAV.options.model_validate(options), reactor)

    def keep(self, token: str) -> None:
        self.token.write_text(token)
        self.token.chmod(0o600)

    @property
    def reading(self) -> Place:
        return self.pool.at(Scope.SOURCE)

    @property
    def writing(self) -> Place:
        return self.pool.at(Scope.DESTINATION)

    def asked(self, method: str) -> list[Any]:
        """Return the requests with a method, without those of the trials."""
        return [each for each in self.web.requests if each.method == method and "datamover-probe" not in each.target]


@pytest_twisted.async_yield_fixture
async def server(tmp_path: Path) -> AsyncIterator[Rehearsal]:
    web = Web(reactor)
    await web.start()
    rehearsal = Rehearsal(web, tmp_path)
    yield rehearsal
    await rehearsal.pool.close()
    await web.stop()


def on(method: str, answer: Callable[[Exchange], None], *, path: str = "", times: int = 1000) -> Fault:
    """Return a fault that answers so many requests with this method, of a path that holds ``path``."""
    left = [times]

    def fault(exchange: Exchange) -> bool:
        request = exchange.request
        if request.method != method or path not in request.target or "probe" in request.target or not left[0]:
            return False
        left[0] -= 1
        answer(exchange)
        return True

    return fault


def gives(status: int, body: bytes = b"", **headers: str) -> Callable[[Exchange], None]:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda exchange: exchange.answer(status, named, body)


async def store(place: Place, path: str, data: bytes, *, replace: bool = False) -> Stored:
    return await place.begin(path, KEY, size=len(data)).store(data, replace=replace, commit=lambda: None)


def trickles(exchange: Exchange) -> None:
    """Answer a PROPFIND with a byte now and then, without end."""

    async def send() -> None:
        exchange.write(exchange.head(207, [("Content-Length", "1000000")]))
        while not exchange.gone:
            exchange.write(b" ")
            await exchange.pause(0.05)

    Deferred.fromCoroutine(send())


@pytest_twisted.ensureDeferred
async def test_a_listing_that_trickles(server: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to PROPFIND that trickles for too long raises TimedOut, and its connection is closed."""
    monkeypatch.setattr(listings, "LISTING_SECONDS", 0.5)
    server.dav.faults.append(on("PROPFIND", trickles))
    with pytest.raises(errors.TimedOut, match=r"destination 'place': .* not come to its end within 0\.5 s"):
        await server.reading.list("")
    await until(lambda: not server.web.open_connections)


# Refusals ---------------------------------------------------------------------------------------------------------

SABRE = b"""<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">
<s:exception>OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath</s:exception>
<s:message>no such name</s:message></d:error>"""

WRITTEN = [
    (401, b"", {}, errors.AuthenticationFailed, "the login is refused: check username and password_file"),
    (403, b"", {}, errors.DestinationForbidden, "may not be written"),
    (
        400,
        SABRE,
        {},
        errors.DestinationInvalid,
        r"400 Bad Request\) \(the server answers 400 InvalidPath: no such name",
    ),
    (405, b"", {}, errors.DestinationInvalid, "is not taken by the server"),
    (
        413,
        b"<html><title>413 Too Large</title>",
        {},
        errors.DestinationInvalid,
        r"is larger than the server takes.* \(the server answers 413 Too Large\)",
    ),
    (414, b"", {}, errors.DestinationInvalid, "name that is too long"),
    (423, b"", {}, errors.ServerError, "is locked by somebody else"),
    (423, b"", {"Retry_After": "7"}, errors.ServerError, "is locked by somebody else"),
    (500, b"", {"Retry_After": "7"}, errors.ServerError, "could not do it"),
    (425, b"", {}, errors.ServerError, "is at work on it still"),
    (429, b"", {"Retry_After": "7"}, errors.RateLimited, "asks for fewer requests"),
    (500, b"", {}, errors.ServerError, "could not do it"),
    (503, b"", {"Retry_After": "7"}, errors.RateLimited, "is not available for now"),
    (507, b"", {}, errors.NoSpace, "its room or its quota is used up"),
]


@pytest.mark.parametrize(("status", "body", "headers", "kind", "words"), WRITTEN)
@pytest_twisted.ensureDeferred
async def test_refused_writes(
    server: Rehearsal, status: int, body: bytes, headers: dict[str, str], kind: type[DataMoverError], words: str
) -> None:
    """Each refusal of a file, large or small, has an error of its own, and no file is left."""
    server.dav.faults.append(on("PUT", gives(status, body, **headers)))
    for way in (put, store):
        with pytest.raises(kind) as caught:
            await way(server.writing, "f", b"data")
        assert re.search(words, caught.value.full)
        assert (caught.value.scope, getattr(caught.value, "retry_after", None)) == (
            Scope.DESTINATION,
            7.0 if "Retry_After" in headers else 0.0 if status == 423 else None,
        )
    assert server.dav.files == {}


@pytest_twisted.ensureDeferred
async def test_refused_reads(server: Rehearsal) -> None:
    """A refused read raises the errors of a source."""
    server.dav.files["f"] = b"data"
    kinds: dict[int, type[DataMoverError]] = {
        403: errors.SourceForbidden,
        404: errors.ServerError,
        410: errors.ServerError,
        500: errors.ServerError,
    }
    for status, kind in kinds.items():
        server.dav.faults = [on("GET", gives(status))]
        with pytest.raises(kind) as caught:
            await get(server.reading, "f")
        assert caught.value.scope is Scope.SOURCE
        # The file is listed, but not served: IIS has no MIME type for its name's ending.
        assert ("is there, but the server does not give it out" in caught.value.message) == (status in (404, 410))
    server.dav.faults = []
    with pytest.raises(errors.SourceNotFound):
        await get(server.reading, "g")


@pytest_twisted.ensureDeferred
async def test_a_server_at_work_on_a_file(server: Rehearsal) -> None:
    """A server that still processes a file (425), such as for viruses, is asked again."""
    early = "<x:propstat><x:prop/><x:status>HTTP/1.1 425 TOO EARLY</x:status></x:propstat>"
    told = f"<x:response><x:href>/dav/f</x:href>{early}</x:response>"
    for path in (".partial", "/f"):
        at_work = on("PROPFIND", lambda exchange: server.dav.multistatus(exchange, told), path=path, times=1)
        server.dav.faults += [at_work, on("GET", gives(425))]
    await put(server.writing, "f", b"data")
    assert server.dav.files == {"f": b"data"}


@pytest.mark.parametrize(("after", "changed"), [(b"atad", True), (b"data", False), (None, True)])
@pytest_twisted.ensureDeferred
async def test_written_in_place_while_it_is_read(
    server: Rehearsal, monkeypatch: pytest.MonkeyPatch, after: bytes | None, changed: bool
) -> None:
    """A file that changed while it was read raises SourceChanged."""
    monkeypatch.setattr(steady, "QUICK", -1.0)
    server.dav.files["f"] = b"data"
    source = await server.reading.origin("f").open()
    assert await source.read() == b"data"
    server.dav.files.pop("f")
    if after is not None:
        server.dav.files["f"] = after
    if changed:
        with pytest.raises(errors.SourceChanged):
            await source.read()
    else:
        assert await source.read() == b""
    await source.close()


@pytest_twisted.ensureDeferred
async def test_an_error_inside(server: Rehearsal) -> None:
    """A multistatus that holds an error is a refusal."""
    inside = "<x:response><x:href>/dav/f</x:href><x:status>HTTP/1.1 423 Locked</x:status></x:response>"
    server.dav.faults.append(on("MOVE", lambda exchange: server.dav.multistatus(exchange, inside)))
    server.dav.faults.append(on("DELETE", lambda exchange: server.dav.multistatus(exchange, inside), path="old"))
    with pytest.raises(errors.ServerError, match="is locked by somebody else"):
        await put(server.writing, "f", b"data")
    server.dav.files["old"] = b"old"
    with pytest.raises(errors.ServerError, match="is locked by somebody else"):
        await server.writing.remove("old")
    server.dav.faults = [on("DELETE", gives(207, b"no XML"))]
    with pytest.raises(errors.ServerError, match="the server could not do it"):
        await server.writing.remove("old")


# Lies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [None, b"", b"da"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_keeps_less(server: Rehearsal, kept: bytes | None) -> None:
    """A server that stores less than it confirms is noticed before an old file is replaced."""
    server.dav.files["old"] = b"old"

    def lie(exchange: Exchange) -> None:
        if kept is not None:
            server.dav.files[server.dav.path(exchange.request.target)] = kept
        exchange.answer(201)

    server.dav.faults.append(on("PUT", lie))
    for replace in (False, True):
        with pytest.raises((errors.SizeMismatch, errors.DestinationInvalid)):
            await store(server.writing, "old" if replace else "new", b"data", replace=replace)
    assert server.dav.files["old"] == b"old"
    assert "new" not in server.dav.files
    upload = server.writing.begin("old", KEY, size=4)
    try:
        assert (await write(upload, b"data")).offset != 4
    except errors.SizeMismatch:
        assert kept is None
    assert server.dav.files["old"] == b"old"


@pytest_twisted.ensureDeferred
async def test_a_move_that_does_nothing(server: Rehearsal) -> None:
    """A server that confirms a MOVE without renaming the file is noticed."""
    server.dav.faults.append(on("MOVE", gives(201)))
    with pytest.raises(errors.SizeMismatch, match="holds nothing under its name"):
        await put(server.writing, "f", b"data")


@pytest.mark.parametrize("status", [500, None])
@pytest_twisted.ensureDeferred
async def test_a_lost_answer(server: Rehearsal, status: int | None) -> None:
    """A file that was renamed although the answer was lost is found under its name."""

    def lose(exchange: Exchange) -> None:
        server.dav.files["f"] = server.dav.files.pop(server.dav.path(exchange.request.target))
        if status is None:
            exchange.reset()
        else:
            exchange.answer(status)

    server.dav.faults.append(on("MOVE", lose))
    assert (await store(server.writing, "f", b"data")).size == 4
    assert server.dav.files == {"f": b"data"}


@pytest.mark.parametrize("way", [put, store])
@pytest_twisted.ensureDeferred
async def test_a_lost_answer_and_another_tag(server: Rehearsal, way: Callable[..., Any]) -> None:
    """A file that was renamed is found under its name where ETags are made of names, too."""

    def lose(exchange: Exchange) -> None:
        data = server.dav.files.pop(server.dav.path(exchange.request.target))
        server.dav.files["f"] = data
        exchange.answer(404)

    server.dav.tag = lambda path: f'"{hash((path, server.dav.files[path])):x}"'
    server.dav.faults.append(on("MOVE", lose))
    await way(server.writing, "f", b"data")
    assert server.dav.files == {"f": b"data"}


@pytest.mark.parametrize("status", [504, None])
@pytest_twisted.ensureDeferred
async def test_a_lost_answer_to_a_file(server: Rehearsal, status: int | None) -> None:
    """A large file that is stored after its answer was lost need not be sent again."""
    kept: list[bytes] = []

    def lost(exchange: Exchange) -> None:
        path, data = server.dav.path(exchange.request.target), exchange.request.body
        kept.append(data)
        reactor.callLater(0.1, server.dav.files.__setitem__, path, data)
        if status is None:
            exchange.reset()
        else:
            exchange.answer(status)

    server.dav.faults.append(on("PUT", lost))
    await put(server.writing, "f", b"data")
    assert (server.dav.files, kept) == ({"f": b"data"}, [b"data"])


@pytest_twisted.ensureDeferred
async def test_a_part_that_vanished(server: Rehearsal) -> None:
    """If the part file is gone, an old file of the same size is not taken for it."""
    server.dav.files["f"] = b"past"
    upload = server.writing.begin("f", KEY, size=4)
    await write(upload, b"data")
    del server.dav.files[str(upload.token)]
    with pytest.raises(errors.SizeMismatch, match="vanished before it could be placed"):
        await upload.commit(replace=True)

    def lose(exchange: Exchange) -> None:
        del server.dav.files[server.dav.path(exchange.request.target)]
        exchange.reset()

    server.dav.faults.append(on("MOVE", lose))
    with pytest.raises(errors.ConnectionLost):
        await store(server.writing, "f", b"data", replace=True)
    assert server.dav.files == {"f": b"past"}


@pytest.mark.parametrize("large", [True, False])
@pytest_twisted.ensureDeferred
async def test_another_client_at_the_same_moment(server: Rehearsal, large: bool) -> None:
    """What another client wrote right after our MOVE is not removed."""

    def overtake(exchange: Exchange) -> None:
        server.dav.files.pop(server.dav.path(exchange.request.target))
        server.dav.files["f"] = b"of another client"
        exchange.answer(201)

    server.dav.faults.append(on("MOVE", overtake))
    with pytest.raises(errors.DestinationExists, match="was written by somebody else meanwhile") as caught:
        await (put if large else store)(server.writing, "f", b"data")
    assert caught.value.retryable
    assert server.dav.files == {"f": b"of another client"}


@pytest_twisted.ensureDeferred
async def test_replaced_in_the_last_moment(server: Rehearsal) -> None:
    """If the server honours If, what another client writes between the last look and the MOVE is not replaced."""
    await server.pool.connect()

    def overtake(exchange: Exchange) -> bool:
        if exchange.request.method == "MOVE":
            server.dav.files["f"] = b"of another client"
        return False

    server.dav.files["f"] = b"old"
    over = (await server.reading.origin("f").inspect()).identity
    upload = server.writing.begin("f", KEY, size=4)
    await write(upload, b"data")
    server.dav.faults.append(overtake)
    with pytest.raises(errors.DestinationExists, match="was written by somebody else meanwhile") as caught:
        await upload.commit(replace=True, over=over)
    assert caught.value.retryable
    assert server.dav.files["f"] == b"of another client"
    await upload.commit(replace=True, over=(await server.reading.origin("f").inspect()).identity)
    assert server.dav.files == {"f": b"data"}


@pytest_twisted.ensureDeferred
async def test_removed_as_it_was_found(server: Rehearsal) -> None:
    """If the server honours If, what another client writes in place of a wrong file is not removed."""
    await server.pool.connect()

    def overtake(exchange: Exchange) -> bool:
        if exchange.request.method == "DELETE":
            server.dav.files["f"] = b"of another client"
        return False

    server.dav.checksums["f"] = f"SHA1:{'0' * 40}"
    server.dav.faults.append(overtake)
    with pytest.raises(errors.ChecksumMismatch):
        await store(server.writing, "f", b"data")
    assert server.dav.files == {"f": b"of another client"}
    server.dav.files["f"] = b"as it is found next"
    await server.writing.remove("f")
    assert server.dav.files == {"f": b"of another client"}
    server.dav.faults.clear()
    await server.writing.remove("f")
    assert server.dav.files == {}


@pytest.mark.parametrize("honoured", ["always", "never"])
@pytest_twisted.ensureDeferred
async def test_if_that_is_misread(server: Rehearsal, honoured: str) -> None:
    """With a server that accepts the header If always or never, a look replaces it."""

    def misread(exchange: Exchange) -> bool:
        asked = exchange.request.headers.pop("if", None) is not None
        if asked and honoured == "never":
            exchange.answer(412)
        return asked and honoured == "never"

    server.dav.faults.append(misread)
    await server.pool.connect()
    server.dav.files["f"] = b"old"
    over = (await server.reading.origin("f").inspect()).identity
    upload = server.writing.begin("f", KEY, size=4)
    await write(upload, b"data")
    server.dav.files["f"] = b"of another client"
    with pytest.raises(errors.DestinationExists, match="was written by somebody else meanwhile"):
        await upload.commit(replace=True, over=over)
    await upload.commit(replace=True, over=(await server.reading.origin("f").inspect()).identity)
    assert server.dav.files == {"f": b"data"}


@pytest_twisted.ensureDeferred
async def test_a_read_back_that_breaks_off(server: Rehearsal) -> None:
    """A file stays if the connection breaks while it is read back, since that shows nothing of its content."""
    upload, _ = await arrive(server.writing, "f", b"data")

    async def prove(origin: object) -> None:
        raise errors.ConnectionLost("gone")

    with pytest.raises(errors.ConnectionLost):
        await upload.commit(replace=False, prove=prove)
    assert server.dav.files == {"f": b"data"}


@pytest_twisted.ensureDeferred
async def test_a_digest_that_differs(server: Rehearsal) -> None:
    """A small file is removed if the server publishes another digest."""
    server.dav.checksums["f"] = f"SHA1:{'0' * 40}"
    with pytest.raises(errors.ChecksumMismatch, match="the server tells sha1 000"):
        await store(server.writing, "f", b"data")
    assert server.dav.files == {}


@pytest_twisted.ensureDeferred
async def test_existing_in_other_words(server: Rehearsal) -> None:
    """A server that refuses to replace a file with another status than 412 is understood."""

    def refuse(exchange: Exchange) -> bool:
        target = server.dav.path(exchange.request.headers.get("destination", ""))
        if target == "new":
            server.dav.files[target] = b"of another client"
        refused = exchange.request.headers.get("overwrite") == "F" and target in server.dav.files
        if refused:
            exchange.answer(400)
        return refused

    server.dav.faults.append(refuse)
    await server.pool.connect()
    server.dav.files["f"] = b"old"
    for way in (put, store):
        with pytest.raises(errors.DestinationExists, match="exists and may not be replaced"):
            await way(server.writing, "f", b"new")
    upload = server.writing.begin("new", KEY, size=4)
    await write(upload, b"data")
    with pytest.raises(errors.DestinationExists, match="was written by somebody else meanwhile") as caught:
        await upload.commit(replace=True, over="")
    assert caught.value.retryable
    await upload.abort()
    assert server.dav.files == {"f": b"old", "new": b"of another client"}
    assert {each.headers["overwrite"] for each in server.asked("MOVE")} == {"F"}


@pytest_twisted.ensureDeferred
async def test_a_lie_about_the_etag(server: Rehearsal) -> None:
    """A false ETag in the answer to MOVE does not make a file of the right size wrong."""

    def lie(exchange: Exchange) -> None:
        server.dav.files["f"] = server.dav.files.pop(server.dav.path(exchange.request.target))
        exchange.answer(201, [("ETag", '"of something else"')])

    server.dav.faults.append(on("MOVE", lie))
    for way in (put, store):
        await way(server.writing, "f", b"data", replace=True)
        assert server.dav.files == {"f": b"data"}


@pytest_twisted.ensureDeferred
async def test_another_clock(server: Rehearsal) -> None:
    """The age of another's directory for trials is taken from the server's clock, which is years behind here."""
    server.dav.directories.add(f"datamover-probe-{'0' * 16}")
    server.dav.files[f"datamover-probe-{'0' * 16}/b"] = b""
    await server.pool.connect()
    for _ in range(5):  # By the clock here, it would be removed.
        await server.writing.list("")
    assert f"datamover-probe-{'0' * 16}" in server.dav.directories


@pytest_twisted.ensureDeferred
async def test_directories_are_not_removed(server: Rehearsal) -> None:
    """A directory is not removed with all that is in it, whatever it is called."""
    for name in ("d", "d.partial", ".partial"):
        server.dav.directories.add(name)
        with pytest.raises(errors.DestinationInvalid, match="is a directory"):
            await server.writing.remove(name)
    assert server.asked("DELETE") == []


@pytest_twisted.ensureDeferred
async def test_a_page_in_place_of_a_directory(server: Rehearsal) -> None:
    """A page that lists a directory is not taken for a file."""
    server.dav.directories.add("d")
    page = gives(200, b"<html>", Last_Modified="Sat, 28 Nov 2026 10:00:00 GMT")
    for answer in (page, gives(204, ETag='"of a directory"'), gives(501)):
        server.dav.faults = [on("GET", answer)]
        with pytest.raises(errors.SourceForbidden, match="is a directory where a file is needed"):
            await server.reading.origin("d").open()


@pytest_twisted.ensureDeferred
async def test_a_page_in_place_of_a_file(server: Rehearsal) -> None:
    """An answer of another size than PROPFIND reports is not the file: a login page, or compressed bytes."""
    server.dav.files["f"] = b"data"
    server.dav.faults = [on("GET", gives(200, b"<html>log in</html>"))]
    with pytest.raises(errors.ServerError, match="tells 4 bytes of it and gives 19: is that a page") as caught:
        await get(server.reading, "f")
    assert (caught.value.scope, caught.value.retryable) == (Scope.SOURCE, True)
    server.dav.faults = [on("GET", gives(200, gzip.compress(b"data"), ETag='"1"', Content_Encoding="gzip"))]
    with pytest.raises(errors.SourceForbidden, match="was sent gzip-compressed although the file itself was asked for"):
        await get(server.reading, "f")
    server.dav.files["f"] = gzip.compress(b"data")  # A coding that fits its name, or with which it was stored.
    server.dav.faults = [on("GET", gives(200, server.dav.files["f"], Content_Encoding="gzip"))]
    assert await get(server.reading, "f") == (0, server.dav.files["f"])


# Documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "http://internal.example.org:8080", "https://user:pw@elsewhere.example.org"])
@pytest.mark.parametrize("upper", [True, False])
@pytest_twisted.ensureDeferred
async def test_hrefs(server: Rehearsal, host: str, upper: bool) -> None:
    """Hrefs may be paths or URLs of any host, percent-encoded in either case; only names are taken from them."""
    names = ["Ünï", "a%2Fb", "n\u0308", "plain", "x y?z#"]
    server.dav.directories.add("d")
    server.dav.files |= {f"d/{name}": b"" for name in names}
    server.dav.host = host
    usual = server.dav.quote
    server.dav.quote = lambda path: (
        usual(path)
        if upper
        else "".join(part.lower() if number % 2 else part for number, part in enumerate(re.split("(%..)", usual(path))))
    )
    assert await server.reading.list("d") == sorted(names)
    assert {each.headers["host"] for each in server.web.requests} == {f"127.0.0.1:{server.web.port}"}


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_changes_the_paths(server: Rehearsal) -> None:
    """If a proxy changes a server's paths, a directory is listed, whether it lists itself or not."""
    server.dav.files |= {"one": b"", "two": b""}
    server.dav.directories.add("d")
    server.dav.host = "/inner/place"
    assert await server.reading.list("") == ["d", "one", "two"]
    hrefs = "".join(f"<x:response><x:href>/inner/{name}</x:href></x:response>" for name in ("one", "two"))
    server.dav.faults.append(on("PROPFIND", lambda exchange: server.dav.multistatus(exchange, hrefs)))
    assert await server.reading.list("") == ["one", "two"]


DOCUMENTS = [
    b"",
    b"not xml",
    b"<a/>",
    b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaa">]><multistatus xmlns="DAV:">&a;</multistatus>',
    b'<multistatus xmlns="DAV:">',
    b'<multistatus xmlns="DAV:"/>',
    b"<multistatus xmlns='DAV:'>" + b"<a>" * 100 + b"</a>" * 100 + b"</multistatus>",
    b"<multistatus xmlns='DAV:'><response><href>" + b"x" * 70_000 + b"</href></response></multistatus>",
]


@pytest.mark.parametrize("body", DOCUMENTS, ids=range(len(DOCUMENTS)))
@pytest_twisted.ensureDeferred
async def test_documents_that_are_none(server: Rehearsal, body: bytes) -> None:
    """A body that is not a multistatus, or exceeds a limit, is a retryable error."""
    server.dav.faults.append(on("PROPFIND", gives(207, body)))
    with pytest.raises(errors.ServerError, match="the server's answer cannot be read") as caught:
        await server.reading.inspect("f")
    assert caught.value.retryable


@pytest_twisted.ensureDeferred
async def test_no_webdav(server: Rehearsal) -> None:
    """A web server without WebDAV can be read; writing raises an error that says so."""
    server.dav.files["f"] = b"data"
    server.dav.faults = [on(method, gives(501)) for method in ("PROPFIND", "PUT", "MKCOL", "MOVE")]
    server.dav.faults.append(on("HEAD", gives(200, b"<html>"), path="/dav/"))
    assert await get(server.reading, "f") == (0, b"data")
    with pytest.raises(errors.DestinationInvalid, match="is not taken by the server"):
        await put(server.writing, "new", b"data")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("403 Forbidden", errors.SourceForbidden), ("500 Broken", errors.ServerError), ("404 Not Found", None)],
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_inside_a_look(server: Rehearsal, status: str, kind: type[DataMoverError] | None) -> None:
    """A multistatus that refuses the resource is read as a refusal; only 404 and 410 tell that nothing is there."""
    inside = f"<x:response><x:href>/dav/f</x:href><x:status>HTTP/1.1 {status}</x:status></x:response>"
    server.dav.faults.append(on("PROPFIND", lambda exchange: server.dav.multistatus(exchange, inside), path="f"))
    if kind is None:
        assert await server.reading.inspect("f") is None
    else:
        with pytest.raises(kind):
            await server.reading.inspect("f")


@pytest_twisted.ensureDeferred
async def test_a_trial_that_cannot_be_read(server: Rehearsal) -> None:
    """A trial of the server that meets an answer which cannot be read is repeated later, and the file is stored."""
    looks: list[Exchange] = []

    def garbled(exchange: Exchange) -> bool:
        if exchange.request.method != "PROPFIND" or exchange.request.target != "/dav/":
            return False
        looks.append(exchange)
        if len(looks) == 2:
            exchange.answer(207, [], b"no XML")
        return len(looks) == 2

    server.dav.faults.append(garbled)
    with capturedLogs() as told:
        await put(server.writing, "f", b"data")
        await until(lambda: len(looks) >= 2)
    assert server.dav.files == {"f": b"data"}
    assert [event for event in told if "log_failure" in event] == []


@pytest_twisted.ensureDeferred
async def test_odd_documents(server: Rehearsal) -> None:
    """A multistatus may be compressed, and mark a directory only by the "/" at the end of its href."""

    def odd(exchange: Exchange, body: str) -> None:
        body = body.replace("<x:resourcetype><x:collection/></x:resourcetype>", "").replace("<x:resourcetype/>", "")
        body = re.sub("<x:href>(.*?)</x:href>", r"<x:href>\n<!-- a -->\1<![CDATA[]]></x:href>", body)
        text = f'<x:multistatus xmlns:x="DAV:" xmlns:o="o">{body}</x:multistatus>'
        exchange.answer(207, [("Content-Encoding", "gzip")], gzip.compress(text.encode()))

    server.dav.multistatus = odd  # type: ignore[method-assign]
    usual = server.dav.quote
    server.dav.quote = lambda path: usual(path) + "/" * (path in server.dav.directories)
    await put(server.writing, "d/f", b"data")
    assert await server.reading.list("") == ["d"]
    assert await get(server.reading, "d/f") == (0, b"data")


@pytest_twisted.ensureDeferred
async def test_no_propfind(server: Rehearsal) -> None:
    """A server without PROPFIND can be read and written; LIST is reported as lacking."""

    def unknown(exchange: Exchange) -> bool:
        if exchange.request.method == "PROPFIND":
            exchange.answer(405)
            return True
        return False

    server.dav.faults.append(unknown)
    await put(server.writing, "f", b"data")
    assert await get(server.reading, "f") == (0, b"data")
    assert await server.reading.inspect("none") is None
    assert Ability.LIST in server.reading.lacks
    with pytest.raises(errors.SourceForbidden, match="does not support PROPFIND"):
        await server.reading.list("")


@pytest.mark.parametrize(("quota", "room"), [("12345", 12345), ("0", 0), ("-3", None), (None, None), ("much", None)])
@pytest_twisted.ensureDeferred
async def test_room(server: Rehearsal, quota: str | None, room: int | None) -> None:
    """The free room is the quota that is left; None if the server reports none, or no limit."""
    server.dav.quota = quota
    assert await server.writing.free() == room
    assert (Ability.FREE_SPACE in server.writing.lacks) is (room is None)


@pytest_twisted.ensureDeferred
async def test_checksums(server: Rehearsal) -> None:
    """If a server publishes checksums, they are sent with small files, and compared."""
    sha1 = hashlib.sha1(b"data", usedforsecurity=False).hexdigest()
    server.dav.files["old"] = b"data"
    server.dav.checksums["old"] = f"SHA1:{sha1.upper()} MD5:{'0' * 32} ADLER32:044d0159"
    looked = await server.reading.inspect("old")
    assert looked is not None
    assert looked.digests == {"sha1": sha1, "md5": "0" * 32}
    server.dav.checksums["f"] = f"SHA1:{sha1}"
    stored = await store(server.writing, "f", b"data")
    assert stored.digests == {"sha1": sha1}
    assert server.asked("PUT")[-1].headers["oc-checksum"] == f"SHA1:{sha1}"


@pytest_twisted.ensureDeferred
async def test_times(server: Rehearsal) -> None:
    """The modification time is sent with a file; a server that ignores it, or cannot store it, is reported."""
    for number, modified in enumerate((1_234_567_890.9, -5.0, None)):
        upload = server.writing.begin(f"f{number}", KEY, size=4, modified=modified)
        stored = await upload.store(b"data", replace=False, commit=lambda: None)
        assert [lack.ability for lack in stored.without] == ([] if modified is None else [Ability.SET_MODIFIED])
    assert [each.headers.get("x-oc-mtime") for each in server.asked("PUT")] == ["1234567890", None, None]
    upload = server.writing.begin("large", KEY, size=4, modified=1_700_000_000.0)
    await write(upload, b"data")
    assert upload.without == ()


# What is asked, and of whom ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_redirect_elsewhere(server: Rehearsal, tmp_path: Path) -> None:
    """Only the redirect that adds "/" to a collection is followed, and the login is sent nowhere else."""
    other = Web(reactor)
    await other.start()
    try:
        for location in (f"{other.url}/dav/f", f"//127.0.0.1:{other.port}/dav/", "/elsewhere", "/dav//f"):
            server.dav.faults = [on(method, gives(301, Location=location)) for method in ("GET", "PUT", "PROPFIND")]
            with pytest.raises(errors.SourceForbidden, match="the server redirects to another address"):
                await server.reading.inspect("f")
            with pytest.raises(errors.DestinationInvalid, match="the server redirects to another address"):
                await put(server.writing, "f", b"data")
        server.dav.directories.add("d")
        for location in ("/dav/d/", f"{other.url}/dav/d/", "http://inner.example.org/d/"):
            server.dav.faults = [on("PROPFIND", gives(301, Location=location), times=1)]
            looked = await server.reading.inspect("d")
            assert looked is not None
            assert looked.directory
        assert other.requests == []
    finally:
        await other.stop()


@pytest_twisted.ensureDeferred
async def test_never_a_fragment(server: Rehearsal) -> None:
    """A part file is never continued, since a server may take the fragment for the file; it is sent anew."""
    upload = server.writing.begin("f", KEY, size=4)
    saved = await write(upload, b"data")
    again = server.writing.resume("f", saved)
    with pytest.raises(errors.SizeMismatch, match="the server takes files whole"):
        await again.open()
    assert Ability.RESUME in server.writing.lacks
    assert not any("content-range" in each.headers for each in server.web.requests)


@pytest.mark.parametrize(("taken", "status"), [("/", 502), ("/", 400), ("http://", 502)])
@pytest_twisted.ensureDeferred
async def test_a_proxy_before_it(tmp_path: Path, taken: str, status: int) -> None:
    """If a server takes an https Destination for another server's, another form of it is used from then on."""
    authority = Authority(tmp_path)
    web = Web(reactor, tls=authority.server("localhost"))
    await web.start()
    server = Rehearsal(web, tmp_path, host="localhost", ca_file=authority.file)

    def fault(exchange: Exchange) -> bool:
        elsewhere = not exchange.request.headers.get("destination", taken).startswith(taken)
        if elsewhere:
            exchange.answer(status)
        return elsewhere

    server.dav.faults.append(fault)
    try:
        for name in ("one", "two"):
            await put(server.writing, name, b"data")
        assert server.dav.files == {"one": b"data", "two": b"data"}
        told = [each.headers["destination"] for each in web.requests if each.method == "MOVE"]
        assert sum(not each.startswith(taken) for each in told) == (1 if taken == "/" else 2)
    finally:
        await server.pool.close()
        await web.stop()


@pytest.mark.parametrize("rewritten", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_proxy_that_changes_paths(server: Rehearsal, rewritten: bool) -> None:
    """Where a proxy changes paths, a Destination names the inner one, unless the proxy changes that as well."""

    def inner(exchange: Exchange) -> bool:
        told = exchange.request.headers.get("destination", "")
        if exchange.request.method != "MOVE" or ("/inner/" in told) is not rewritten:
            exchange.request.headers["destination"] = told.replace("/inner", "")
            return False
        exchange.answer(409)
        return True

    server.dav.host = "/inner"
    server.dav.faults.append(inner)
    # A new process, which has learnt nothing yet, commits a finished file.
    server.dav.files["part"] = b"data"
    upload = server.writing.resume("resumed", Saved(4, "part"), size=4)
    assert await upload.exists()
    await upload.commit(replace=False)
    for way in (put, store):
        await way(server.writing, way.__name__, b"data")
    assert set(server.dav.files) == {"put", "store", "resumed"}


@pytest.mark.parametrize("way", [put, store])
@pytest_twisted.ensureDeferred
async def test_refused_as_if_nothing_were_there(server: Rehearsal, way: Any) -> None:
    """The error for a PUT that is refused with 404 although the directory exists, as by IIS, says what that means."""
    await store(server.writing, "d/one", b"data")
    server.dav.faults.append(on("PUT", gives(404), path="/d/"))
    with pytest.raises(errors.DestinationInvalid, match="IIS says so of files above maxAllowedContentLength"):
        await way(server.writing, "d/two", b"data")
    assert server.dav.files == {"d/one": b"data"}


@pytest.mark.parametrize("status", [404, 409])
@pytest_twisted.ensureDeferred
async def test_a_directory_that_vanished(server: Rehearsal, status: int) -> None:
    """A directory that was removed meanwhile is made again."""
    await store(server.writing, "d/e/one", b"data")
    server.dav.directories, server.dav.files = {""}, {}
    await store(server.writing, "d/e/two", b"data")
    assert server.dav.files == {"d/e/two": b"data"}
    server.dav.directories, server.dav.files = {""}, {}
    server.dav.faults.append(on("PUT", gives(status), times=1))
    with pytest.raises(errors.ServerError, match="d/e/three': its directory was removed") as caught:
        await put(server.writing, "d/e/three", b"data")  # The body cannot be sent again.
    assert caught.value.retryable
    await put(server.writing, "d/e/three", b"data")
    assert server.dav.files == {"d/e/three": b"data"}


@pytest_twisted.ensureDeferred
async def test_overwrite_that_is_ignored(server: Rehearsal) -> None:
    """If a server ignores "Overwrite: F", a look precedes the MOVE of a file that may not replace one."""

    def ignore(exchange: Exchange) -> bool:
        if exchange.request.method == "MOVE":
            exchange.request.headers["overwrite"] = "T"
        return False

    server.dav.faults.append(ignore)
    server.dav.files["f"] = b"old"
    for way in (put, store):
        with pytest.raises(errors.DestinationExists):
            await way(server.writing, "f", b"new")
    assert server.dav.files["f"] == b"old"


@pytest_twisted.ensureDeferred
async def test_names_that_are_misread_alike(server: Rehearsal) -> None:
    """A name that a server misreads in every request is refused, since another file would be replaced."""
    usual = server.dav.path
    server.dav.path = lambda url: usual(url).partition("?")[0]  # type: ignore[method-assign]
    server.dav.files["a"] = b"another file"
    for way in (put, store):
        with pytest.raises(errors.DestinationInvalid, match="the server misreads"):
            await way(server.writing, "a?b", b"data", replace=True)
    assert server.dav.files == {"a": b"another file"}


@pytest_twisted.ensureDeferred
async def test_names_that_are_not_found_again(server: Rehearsal) -> None:
    """A name under which the server does not find a file that it lists is refused before a MOVE."""

    def lose(exchange: Exchange) -> bool:
        lost = exchange.request.headers.get("depth") == "0" and "%25" in exchange.request.target
        if lost:
            exchange.answer(404)
        return lost

    server.dav.faults.append(lose)
    with pytest.raises(errors.DestinationInvalid, match="the server misreads"):
        await put(server.writing, "100%", b"data")
    assert server.dav.files == {}


@pytest_twisted.ensureDeferred
async def test_a_directory_with_an_etag(server: Rehearsal) -> None:
    """With a server that answers the GET of a directory like that of a file, each GET is checked by PROPFIND."""

    def listing(exchange: Exchange) -> bool:
        directory = server.dav.path(exchange.request.target) in server.dav.directories
        if directory and exchange.request.method in ("GET", "HEAD"):
            exchange.answer(200, [("ETag", '"1"')], b"<html>")
        return directory and exchange.request.method in ("GET", "HEAD")

    server.dav.faults.append(listing)
    server.dav.directories.add("d")
    server.dav.files["f"] = b"data"
    for _ in range(2):
        with pytest.raises(errors.SourceForbidden, match="is a directory where a file is needed"):
            await get(server.reading, "d")
        assert await get(server.reading, "f") == (0, b"data")


@pytest_twisted.ensureDeferred
async def test_names_below_a_file(server: Rehearsal) -> None:
    """With a server that serves a file for a name below it, that name does not exist."""

    def give(exchange: Exchange) -> bool:
        below = server.dav.path(exchange.request.target).startswith("f/")
        if below and exchange.request.method in ("GET", "HEAD"):
            exchange.answer(200, [("ETag", '"1"')], b"data")
        return below and exchange.request.method in ("GET", "HEAD")

    server.dav.faults.append(give)
    server.dav.files["f"] = b"data"
    assert await get(server.reading, "f") == (0, b"data")
    for name in ("f/g", "f/g/h"):
        with pytest.raises(errors.SourceNotFound):
            await get(server.reading, name)
    assert len(server.asked("HEAD")) == 2


@pytest_twisted.ensureDeferred
async def test_no_hidden_names(server: Rehearsal) -> None:
    """If names that begin with a dot are forbidden or not listed, a part file's name has no dot."""

    def forbid(exchange: Exchange) -> bool:
        forbidden = "/." in exchange.request.target and exchange.request.method in ("PUT", "MKCOL")
        if forbidden:
            exchange.answer(403)
        return forbidden

    server.dav.faults.append(forbid)
    upload, saved = await arrive(server.writing, "d/f", b"data")
    assert saved.token == "d/datamover-1-0a1b.partial"
    assert server.dav.directories == {"", "d"}
    await server.writing.sweep("d/f", "1", check=lambda: None)
    assert server.dav.files == {}
    upload, _ = await arrive(server.writing, "d/f", b"data")
    await upload.commit(replace=False)
    assert server.dav.files == {"d/f": b"data"}


# Logins -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_token(tmp_path: Path) -> None:
    """A bearer token is sent with every request, and read again when it is refused."""
    web = Web(reactor)
    await web.start()
    token = tmp_path / "token"
    rehearsal = Rehearsal(web, tmp_path, token_file=token)
    accepted = [TOKEN]

    def fault(exchange: Exchange) -> bool:
        refused = exchange.request.headers.get("authorization") != f"Bearer {accepted[0]}"
        if refused:
            exchange.answer(401, [("WWW-Authenticate", "Bearer")])
        return refused

    rehearsal.dav.faults.append(fault)
    try:
        await put(rehearsal.writing, "f", b"data")
        accepted[0] = "another"
        with pytest.raises(errors.AuthenticationFailed, match="the login is refused"):
            await rehearsal.reading.inspect("f")
        rehearsal.keep("another\n")
        assert await get(rehearsal.reading, "f") == (0, b"data")
        assert TOKEN not in str([vars(type(rehearsal.pool))])
    finally:
        await rehearsal.pool.close()
        await web.stop()


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_replaced(tmp_path: Path) -> None:
    """A request that is refused after another one has read the new token is sent again with that."""
    web = Web(reactor)
    await web.start()
    rehearsal = Rehearsal(web, tmp_path, token_file=tmp_path / "token")
    late: list[Exchange] = []
    refused = [("WWW-Authenticate", "Bearer")]

    def fault(exchange: Exchange) -> bool:
        if exchange.request.headers.get("authorization") == "Bearer another":
            while late:
                late.pop().answer(401, refused)
            return False
        if not late:
            late.append(exchange)
        else:
            rehearsal.keep("another\n")
            exchange.answer(401, refused)
        return True

    rehearsal.dav.faults.append(fault)
    rehearsal.dav.files["f"] = b"data"
    try:
        asked = [Deferred.fromCoroutine(rehearsal.reading.inspect("f")) for _ in range(2)]
        assert [found and found.size for found in await gatherResults(asked)] == [4, 4]
    finally:
        await rehearsal.pool.close()
        await web.stop()


@pytest.mark.parametrize(
    ("challenge", "kinds"),
    [("NTLM, Negotiate", "negotiate, ntlm"), ('Digest realm="x", nonce="1", qop="auth-int"', "digest")],
)
@pytest_twisted.ensureDeferred
async def test_another_kind_of_login(server: Rehearsal, challenge: str, kinds: str) -> None:
    """The error for a server that asks for an unsupported login names the kinds."""
    server.dav.faults.append(on("PROPFIND", gives(401, WWW_Authenticate=challenge)))
    with pytest.raises(errors.AuthenticationFailed, match=rf"a login of another kind \({kinds}\) than Basic"):
        await server.reading.inspect("f")


@pytest_twisted.ensureDeferred
async def test_refused_before_the_body(server: Rehearsal) -> None:
    """A server that refuses the head of a request is sent no body."""
    server.web.refuses = lambda exchange: exchange.answer(507, [("Connection", "close")])
    data = bytes(8 * MIB)
    with pytest.raises(errors.NoSpace):
        await arrive(server.writing, "f", data)
    [refused] = server.asked("PUT")
    assert refused.headers["expect"] == "100-continue"
    assert server.dav.files == {}


@pytest.mark.parametrize("status", [411, 201])
@pytest_twisted.ensureDeferred
async def test_a_server_that_needs_sizes(server: Rehearsal, status: int) -> None:
    """A server that accepts no body of unknown length, by 411 or another status, raises a permanent error."""

    def refuse(exchange: Exchange) -> None:
        exchange.answer(status, [("Connection", "close")])

    server.web.refuses = refuse
    upload = server.writing.begin("f", KEY)
    with pytest.raises(errors.DestinationInvalid, match="the source does not report the file's size"):
        await write(upload, bytes(8 * MIB))
    await upload.close()
    assert "f" not in server.dav.files


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_continue(server: Rehearsal) -> None:
    """A server without "100 Continue" gets the body after ``CONTINUED``."""
    server.web.refuses = lambda exchange: None
    await put(server.writing, "f", b"data" * 1000)
    assert server.dav.files == {"f": b"data" * 1000}


@pytest_twisted.ensureDeferred
async def test_a_server_that_expects_nothing(server: Rehearsal) -> None:
    """A server that refuses the header Expect gets files without it from then on."""

    def refuse(exchange: Exchange) -> bool:
        expected = "expect" in exchange.request.headers
        if expected:
            exchange.answer(417)
        return expected

    server.dav.faults.append(refuse)
    server.web.refuses = lambda exchange: exchange.answer(417, [("Connection", "close")])
    for name in ("one", "two"):
        await put(server.writing, name, b"data")
    assert server.dav.files == {"one": b"data", "two": b"data"}
    assert ["expect" in each.headers for each in server.asked("PUT")].count(True) == 1


@pytest_twisted.ensureDeferred
async def test_answers_that_break_off(server: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks while a file is sent raises a retryable error, and leaves nothing behind."""
    monkeypatch.setattr(files, "BROKEN", 0.1)
    server.dav.faults.append(on("PUT", lambda exchange: exchange.reset()))
    upload = server.writing.begin("f", UploadKey("1", "a"), size=4)
    with pytest.raises(errors.ConnectionLost) as caught:
        await write(upload, b"data")
    assert (caught.value.scope, caught.value.retryable) == (Scope.DESTINATION, True)
    await upload.abort()
    assert server.dav.files == {}
