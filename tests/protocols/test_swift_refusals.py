"""What logins and Swift services answer, each rehearsed: in which words it is told, and where credentials go."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.swift import SWIFT
from datamover.protocols.swift.urls import path_in
from datamover.protocols.upload import UploadKey
from tests.protocols.conformance import read
from tests.servers.keystone import FakeKeystone
from tests.servers.web import Exchange, File, Web

KEY = UploadKey("1", "a")
DATA = b"data"
MD5 = "8d777f385d3dfec8815d20f7496026dc"

Answer = Callable[[Exchange], None]


class Rehearsal:
    """A service whose every answer a test decides on, its login, and pools that ask it."""

    def __init__(self, web: Web, directory: Path) -> None:
        self.web = web
        self.url = f"{web.url}/v1/AUTH_data"
        self.password = directory / "password"
        self.password.write_text("secret\n")
        self.password.chmod(0o600)
        self.keystone = FakeKeystone(web, [("here", self.url)])
        self.pools: list[DestinationPool] = []

    def open(self, **options: Any) -> DestinationPool:
        """Return a pool that logs in by the password; with an application credential in ``options`` by that."""
        user = {"username": "portal", "project": "data", "password_file": self.password}
        who = {} if "application_credential_id" in options else user
        table = {"auth_url": f"{self.web.url}/v3", **who, **options}
        settings = PlaceSettings("place", "swift://container/in", 0o644, 0o755, 5.0, 5.0)
        self.pools.append(SWIFT.open(settings, SWIFT.options.model_validate(table), reactor))
        return self.pools[-1]

    def answer(self, name: str, *answers: Answer) -> None:
        """Give these answers to requests for an object below the prefix, the last of them from then on."""
        left = list(answers)
        path = f"/v1/AUTH_data/container/in/{name}"
        self.web.route(path, lambda exchange: (left.pop(0) if len(left) > 1 else left[0])(exchange))

    def asked(self, name: str = "f") -> list[Any]:
        return self.web.asked(f"/v1/AUTH_data/container/in/{name}")


def gives(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda exchange: exchange.answer(status, named, body)


async def store(pool: DestinationPool, name: str = "f") -> None:
    await pool.at(Scope.DESTINATION).begin(name, KEY).store(DATA, replace=True, commit=lambda: None)


@pytest_twisted.async_yield_fixture
async def swift(tmp_path: Path) -> AsyncIterator[Rehearsal]:
    web = Web(reactor)
    await web.start()
    rehearsal = Rehearsal(web, tmp_path)
    yield rehearsal
    for pool in rehearsal.pools:
        await pool.close()
    await web.stop()


# Refusals -----------------------------------------------------------------------------------------------------

READ = [
    (404, {}, b"", errors.SourceNotFound, "does not exist"),
    (401, {}, b"", errors.AuthenticationFailed, "the token is refused, and so is a new one"),
    (403, {}, b"", errors.SourceForbidden, "may not be read"),
    (429, {"Retry_After": "7"}, b"", errors.RateLimited, "asks for fewer requests"),
    (498, {"Retry_After": "7"}, b"Slow down", errors.RateLimited, "asks for fewer requests"),
    (503, {"Retry_After": "7"}, b"", errors.RateLimited, "asks for fewer requests"),
    (503, {}, b"", errors.ServerError, "could not do it (503)"),
    (500, {}, b"internal 10.0.0.7", errors.ServerError, "could not do it (500)"),
    (409, {}, b"", errors.ServerError, "segments of it are missing"),
    (408, {}, b"", errors.ConnectionLost, "took too long"),
    (302, {"Location": "http://192.0.2.1/"}, b"", errors.ServerError, "refuses the request (302)"),
    (418, {}, b"", errors.ServerError, "refuses the request (418)"),
]
WRITE = [
    (403, {}, b"<html><h1>Forbidden</h1><p>Denied.</p></html>", errors.DestinationForbidden, "may not be written"),
    (413, {}, b"Upload exceeds quota.", errors.NoSpace, "is used up"),
    (413, {}, b"The body of your request was too large for this server.", errors.DestinationInvalid, "is larger"),
    (422, {}, b"", errors.ChecksumMismatch, "what arrived is not what was sent"),
    (507, {}, b"", errors.NoSpace, "no room left"),
    (498, {"Retry_After": "7"}, b"Slow down", errors.RateLimited, "asks for fewer requests"),
    (503, {}, b"", errors.ServerError, "look whether disks are full or object servers down"),
]


@pytest.mark.parametrize(("status", "headers", "body", "kind", "words"), READ)
@pytest_twisted.ensureDeferred
async def test_refused_to_read(
    swift: Rehearsal, status: int, headers: dict[str, str], body: bytes, kind: type[DataMoverError], words: str
) -> None:
    """Each refusal is a sentence of its own on the source's side; only administrators see the service's words."""
    swift.answer("f", gives(status, body, **headers))
    with pytest.raises(kind) as caught:
        await swift.open().at(Scope.SOURCE).origin("f").open()
    assert caught.value.scope is Scope.SOURCE
    assert words in caught.value.message
    assert "10.0.0.7" not in caught.value.message
    assert "10.0.0.7" in caught.value.full or b"10.0.0.7" not in body
    assert getattr(caught.value, "retry_after", None) == (7 if headers.get("Retry_After") else None)


@pytest.mark.parametrize(("status", "headers", "body", "kind", "words"), WRITE)
@pytest_twisted.ensureDeferred
async def test_refused_to_write(
    swift: Rehearsal, status: int, headers: dict[str, str], body: bytes, kind: type[DataMoverError], words: str
) -> None:
    """Each refusal is a sentence of its own on the destination's side."""
    refused = gives(status, body, **headers)
    swift.answer("f", lambda asked: (gives(404) if asked.request.method == "HEAD" else refused)(asked))
    with pytest.raises(kind) as caught:
        await store(swift.open())
    assert caught.value.scope is Scope.DESTINATION
    assert words in caught.value.message
    assert caught.value.full.endswith(f" (the service answers {status} Forbidden Denied.)") or b"<" not in body


@pytest_twisted.ensureDeferred
async def test_an_etag_that_lies(swift: Rehearsal) -> None:
    """An object whose ETag is not the MD5 of what was sent has not arrived."""
    swift.answer("f", gives(201, ETag="0" * 32))
    with pytest.raises(errors.ChecksumMismatch, match="its ETag differs"):
        await store(swift.open())


@pytest_twisted.ensureDeferred
async def test_login_that_may_only_write(swift: Rehearsal) -> None:
    """What may not be looked at is stored once at most, and it is told what the login lacks."""
    swift.answer("f", lambda exchange: gives(201 if exchange.request.method == "PUT" else 403, ETag=MD5)(exchange))
    pool = swift.open()
    pool.at(Scope.DESTINATION)._tools.conditions.honoured = True  # type: ignore[attr-defined]
    lacking = "may not be looked at: have the administrator let the login read the container, too"
    with pytest.raises(errors.DestinationForbidden, match=f"stored and stays there.*'f' {lacking}"):
        await store(pool)
    with pytest.raises(errors.DestinationForbidden, match=f"'g' is not stored, since.*'f' {lacking}"):
        await store(pool, "g")
    assert not swift.asked("g")


@pytest.mark.parametrize("status", [202, 204])
@pytest_twisted.ensureDeferred
async def test_no_answer_with_an_object(swift: Rehearsal, status: int) -> None:
    """An answer of success that holds no object is not moved as one."""
    swift.answer("f", gives(status, b"" if status == 204 else DATA, ETag=MD5))
    with pytest.raises(errors.ServerError, match="could not do it"):
        await read(swift.open().at(Scope.SOURCE).origin("f"))


@pytest.mark.parametrize("mark", ["", "2-b", "1-a"])
@pytest_twisted.ensureDeferred
async def test_a_size_that_differs(swift: Rehearsal, mark: str) -> None:
    """An object of another size has not arrived; it is taken away again where it came by this upload, and else left."""
    ours = mark == "1-a"
    marks = {"X_Object_Meta_Datamover_Upload": mark} if mark else {}
    looked = gives(200, b"other", Last_Modified="Sun, 29 Nov 2026 12:00:00 GMT", **marks)
    swift.answer("f", gives(201, ETag=MD5), looked, looked, looked, gives(204))
    with pytest.raises(errors.SizeMismatch if ours else errors.DestinationExists) as caught:
        await store(swift.open())
    assert caught.value.retryable
    if ours:
        assert "5 bytes under its name, 4 were written" in caught.value.message
    assert ("DELETE" in [request.method for request in swift.asked()]) == ours


@pytest_twisted.ensureDeferred
async def test_no_account(swift: Rehearsal) -> None:
    """Where no container can be made, for there is no such account, that is told, and no missing file."""
    swift.web.otherwise = gives(404, b"<html><body>Not <b>Found</b></body></html>")
    with pytest.raises(errors.DestinationInvalid, match="knows no such account, or is no Swift; look at storage_url"):
        await store(swift.open())


@pytest.mark.parametrize("trouble", ["a reset", "an end amid the body", "other bytes"])
@pytest_twisted.ensureDeferred
async def test_broken_while_read(swift: Rehearsal, trouble: str) -> None:
    """A body that ends early, or belongs to another object by then, is an error of the source."""
    file = File(bytes(1000), etag='"1"', cut=500 if trouble == "an end amid the body" else None)
    swift.answer("f", (lambda exchange: exchange.reset()) if trouble == "a reset" else file)
    origin = swift.open().at(Scope.SOURCE).origin("f")
    if trouble == "other bytes":
        identity = (await origin.inspect()).identity
        file.content, file.etag = bytes(2000), '"2"'
        assert (await read(origin, 500, identity))[0] == 0
        return
    with pytest.raises(errors.ConnectionLost) as caught:
        await read(origin)
    assert caught.value.scope is Scope.SOURCE


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'[{"name": 1}]', b'[{"name": "f"}]'])
@pytest_twisted.ensureDeferred
async def test_listings_that_are_none(swift: Rehearsal, body: bytes) -> None:
    """An answer that is no listing is told as such."""
    swift.web.route("/v1/AUTH_data/container", gives(200, body))
    with pytest.raises(errors.ServerError, match="cannot be read"):
        await swift.open().at(Scope.SOURCE).list("d")


# Logins -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_keystone(swift: Rehearsal) -> None:
    """A login for a project gives the token that is sent, and the storage's URL; it is made once for all."""
    swift.answer("f", File(DATA, etag=f'"{MD5}"'))
    place = swift.open().at(Scope.SOURCE)
    opening = [Deferred.fromCoroutine(read(place.origin("f"))) for _ in range(5)]
    assert await gatherResults(opening) == [(0, DATA)] * 5
    assert {request.headers["x-auth-token"] for request in swift.asked()} == {"token-1"}
    assert swift.keystone.tokens == ["token-1"]


@pytest_twisted.ensureDeferred
async def test_application_credential(swift: Rehearsal) -> None:
    """An application credential logs in for the project it was made for; a wrong one is told with its keys."""
    swift.answer("f", File(DATA, etag=f'"{MD5}"'))
    options = {"application_credential_id": "0a1b2c", "application_credential_secret_file": swift.password}
    assert await read(swift.open(**options).at(Scope.SOURCE).origin("f")) == (0, DATA)
    assert swift.asked()[-1].headers["x-auth-token"] == "token-1"
    swift.keystone.credential = "expired"
    with pytest.raises(errors.AuthenticationFailed, match="login") as caught:
        await swift.open(**options).connect()
    assert "application_credential_secret_file; it may have expired" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_two_domains(swift: Rehearsal) -> None:
    """The user may be of another domain than the project; "domain" is that of both unless they are told."""
    swift.keystone.user_domain, swift.keystone.project_domain = "People", "Work"
    swift.answer("f", File(DATA, etag='"1"'))
    for options in ({"user_domain": "People", "project_domain": "Work"}, {"domain": "Work", "user_domain": "People"}):
        assert await read(swift.open(**options).at(Scope.SOURCE).origin("f")) == (0, DATA)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await swift.open(domain="Work").at(Scope.SOURCE).origin("f").open()
    assert "the domains" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_interface(swift: Rehearsal) -> None:
    """The catalogue's internal address is used where the table asks for that one."""
    swift.web.route("/v1/AUTH_data_within/container/in/f", File(DATA, etag='"1"'))
    assert await read(swift.open(interface="internal").at(Scope.SOURCE).origin("f")) == (0, DATA)
    swift.keystone.interfaces = ("admin", "public")
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await swift.open(interface="internal").at(Scope.SOURCE).origin("f").open()
    assert "the interface 'internal'; there is admin, public: set interface" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_for_no_project(swift: Rehearsal) -> None:
    """A token that is for no project is not used."""
    swift.keystone.scoped = False
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await swift.open().at(Scope.SOURCE).origin("f").open()
    assert "for no project: check project" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_renewed_once_for_all(swift: Rehearsal) -> None:
    """Requests whose token is refused at the same time share one new login."""

    def serve(exchange: Exchange) -> None:
        if exchange.request.headers["x-auth-token"] == "token-1":
            exchange.answer(401)
        else:
            exchange.answer(200, [("ETag", MD5)], DATA)

    swift.answer("f", serve)
    place = swift.open().at(Scope.SOURCE)
    opening = [Deferred.fromCoroutine(read(place.origin("f"))) for _ in range(5)]
    assert await gatherResults(opening) == [(0, DATA)] * 5
    assert swift.keystone.tokens == ["token-1", "token-2"]


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
@pytest.mark.parametrize("lasts", [30.0, 1800.0])
@pytest_twisted.ensureDeferred
async def test_renewed_before_its_end(swift: Rehearsal, lasts: float, ahead: float) -> None:
    """A token that is about to end is not used any more; a clock that is an hour off makes no difference."""
    swift.keystone.lasts, swift.keystone.ahead = lasts, ahead
    swift.answer("f", File(DATA, etag='"1"'))
    place = swift.open().at(Scope.SOURCE)
    for _ in range(2):
        await read(place.origin("f"))
    used = ["token-1", "token-2" if lasts == 30.0 else "token-1"]
    assert [request.headers["x-auth-token"] for request in swift.asked()] == used


@pytest.mark.parametrize(
    ("told", "options", "words"),
    [
        ([("a", "http://other.example.org/v1/AUTH_data")], {}, "set storage_url"),
        ([("a", "http://127.0.0.2/v1/AUTH_data")], {}, "set storage_url"),
        ([("a", "ftp://127.0.0.1/v1/AUTH_data")], {}, "set storage_url"),
        ([("a", "{url}"), ("b", "{url}")], {}, "in the regions a, b; set region"),
        ([("a", "{url}")], {"region": "c"}, "no object storage in the region 'c'; there is in a"),
        ([], {}, "check project"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_catalogues(swift: Rehearsal, told: list[tuple[str, str]], options: dict[str, str], words: str) -> None:
    """A catalogue that leads to another host, or to none or several, is told with what to set; no token goes there."""
    swift.keystone.endpoints = [(region, url.format(url=swift.url)) for region, url in told]
    swift.answer("f", File(DATA, etag='"1"'))
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await swift.open(**options).at(Scope.SOURCE).origin("f").open()
    assert words in caught.value.full
    assert swift.asked() == []


@pytest.mark.parametrize("options", [{"region": "b"}, {"storage_url": "{url}"}, {"storage_url": "{host}"}])
@pytest_twisted.ensureDeferred
async def test_storage_that_is_named(swift: Rehearsal, options: dict[str, str]) -> None:
    """The region chooses among several, and what the table names is asked, whatever the catalogue tells."""
    elsewhere = "http://other.example.org/v1/AUTH_data"
    swift.keystone.endpoints = [("a", elsewhere), ("b", swift.url)] if "region" in options else [("a", elsewhere)]
    swift.answer("f", File(DATA, etag='"1"'))
    table = {key: value.format(url=swift.url, host=swift.web.url) for key, value in options.items()}
    assert await read(swift.open(**table).at(Scope.SOURCE).origin("f")) == (0, DATA)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (gives(401), errors.AuthenticationFailed, "check username, password_file, project and the domains"),
        (gives(404), errors.AuthenticationFailed, "check auth_url"),
        (gives(300), errors.AuthenticationFailed, "check auth_url"),
        (gives(201, b"{}"), errors.AuthenticationFailed, "without a token"),
        (gives(201, b"<html>", X_Subject_Token="t"), errors.AuthenticationFailed, "without a token"),
        (gives(503), errors.ServerError, "503"),
        (gives(429, Retry_After="7"), errors.RateLimited, "fewer requests"),
        (lambda exchange: exchange.reset(), errors.ConnectionLost, "connection"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_logins_that_fail(swift: Rehearsal, answer: Answer, kind: type[DataMoverError], words: str) -> None:
    """What a login answers is told as what it is, with the side's scope."""
    swift.web.route("/v3/auth/tokens", answer)
    with pytest.raises(kind) as caught:
        await store(swift.open())
    assert words in caught.value.full
    assert "secret" not in caught.value.full
    assert caught.value.scope is Scope.DESTINATION


@pytest_twisted.ensureDeferred
async def test_storage_without_tls(swift: Rehearsal) -> None:
    """The old login's X-Storage-Url is held against the table as a catalogue is."""
    swift.web.route("/auth/v1.0", gives(200, X_Auth_Token="t", X_Storage_Url="http://other.example.org/v1/AUTH_data"))
    pool = swift.open(auth_url=f"{swift.web.url}/auth/v1.0", project=None)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await store(pool)
    assert "set storage_url" in caught.value.full


# Options ------------------------------------------------------------------------------------------------------

CREDENTIAL = {"application_credential_id": "a", "application_credential_secret_file": "/secret"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auth_url": "https://keystone.example.org/v2.0"}, 'ends in "/v3"'),
        ({"auth_url": "keystone"}, 'ends in "/v3"'),
        ({"storage_url": "swift.example.org"}, "expected the address of the account"),
        ({"project": None}, "expected project"),
        ({"part_size": "1kB"}, "from 1MiB to 5GiB"),
        ({"part_size": "6GiB"}, "from 1MiB to 5GiB"),
        ({"segments_container": "a/b"}, "without '/'"),
        ({"username": ""}, "1 to 255 characters"),
        ({"username": None}, "expected username and password_file, or an application credential"),
        ({"application_credential_id": "a"}, "together"),
        ({**CREDENTIAL, "auth_url": "https://h/v1.0"}, 'ends in "/v3" beside an application credential'),
        (CREDENTIAL, "expected no password_file beside an application credential"),
        ({"interface": "outer"}, "'public', 'internal' or 'admin'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """What cannot be used is told with what was expected."""
    table = {
        "auth_url": "https://keystone.example.org/v3",
        "username": "portal",
        "project": "data",
        "password_file": "/password",
    }
    with pytest.raises(ValueError, match=words):
        SWIFT.options.model_validate({**table, **options})


@pytest.mark.parametrize(
    "url",
    ["swift://", "swift:///a", "swift://u@c/a", "swift://c/../a", "swift://c/a?b", "swift://c%2Fd/a", "swift://%ff"],
)
def test_urls_that_cannot_be(url: str) -> None:
    """A URL that names no container, or no place below it, is refused."""
    with pytest.raises(ValueError, match="expected swift://CONTAINER"):
        SWIFT.check_url(url)


@pytest.mark.parametrize(
    ("account", "path", "found"),
    [
        ("", "/data/a", "/a"),
        ("", "/v1/AUTH_portal/data/a", "/a"),
        ("", "/v1.0/portal/data/a", "/a"),
        ("", "/swift/v1/data/a", "/a"),
        ("", "/swift/v1/AUTH_portal/data/a", "/a"),
        ("", "/swift/v1/data/data/a", "/data/a"),
        ("", "/v1/AUTH_portal/data", "/"),
        ("", "/v1/AUTH_portal/other/data/a", None),
        ("", "/store/v1/data/a", None),
        ("/swift/v1", "/swift/v1/data/a", "/a"),
        ("/swift/v1", "/data/swift/v1/a", "/swift/v1/a"),
        ("/swift/v1/", "/swift/v1/AUTH_portal/data/a", None),
        ("/store/v1/AUTH_1", "/store/v1/AUTH_1/data/", "/"),
        ("/v1/AUTH_1", "/v1/AUTH_2/data/a", None),
        ("/v1/AUTH_1", "/v1/AUTH_1", None),
        ("/v1/AUTH_1", "/database/a", None),
    ],
)
def test_paths_in_a_container(account: str, path: str, found: str | None) -> None:
    """The container follows the path of the account, if that stands there, whether it names an account or not."""
    assert path_in("data", path, account) == found


def test_the_path_of_an_account_is_no_container() -> None:
    """A container that has the name that the account's path begins with is not taken for another one."""
    assert path_in("swift", "/swift/v1/data/a", "/swift/v1") is None
    assert path_in("swift", "/swift/v1/swift/a", "/swift/v1") == "/a"
