"""Cookies of a file's redirects: they are kept while that file is read, and sent nowhere else."""

from pathlib import Path

import pytest
import pytest_twisted

from datamover.errors import ServerError
from tests.protocols.reading import content_of, reading, rest_of, serving
from tests.servers.certificates import Authority
from tests.servers.web import Exchange, File, Handler, Web, redirect, status

CONTENT = b"for those who are known"


def guarded(file: Handler, login: str) -> Handler:
    """Serve a file to requests with the cookie, and redirect all others to the login."""

    def handler(exchange: Exchange) -> None:
        if "session=1" in exchange.request.headers.get("cookie", "").split("; "):
            file(exchange)
        else:
            exchange.answer(302, [("Location", f"{login}?to={exchange.request.path}")])

    return handler


def setting(*cookies: str, back: str | None = None) -> Handler:
    """Set cookies and send back."""

    def handler(exchange: Exchange) -> None:
        target = exchange.request.target.partition("to=")[2] if back is None else back
        exchange.answer(302, [("Location", target), *(("Set-Cookie", cookie) for cookie in cookies)])

    return handler


def cookies_of(web: Web, path: str) -> list[str | None]:
    return [request.headers.get("cookie") for request in web.asked(path)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cookie", ["session=1; Path=/", "session=1; Path=/; HttpOnly; Max-Age=60; SameSite=Lax"])
async def test_single_sign_on(cookie: str) -> None:
    """A redirect that sets a cookie and leads back is not a loop, for ``inspect`` and for ``open``."""
    async with serving() as web, reading() as client:
        web.route("/data/f.csv", guarded(File(CONTENT), "/login"))
        web.route("/login", setting(cookie))
        origin = client.origin(f"{web.url}/data/f.csv")
        found = await origin.inspect()
        assert (found.name, found.size) == ("f.csv", len(CONTENT))
        assert await rest_of(await origin.open()) == CONTENT
        # The second request for this file has the cookie already.
        assert cookies_of(web, "/data/f.csv") == [None, "session=1", "session=1"]
        assert len(web.asked("/login")) == 1


@pytest_twisted.ensureDeferred
async def test_single_sign_on_elsewhere() -> None:
    """Each server of a chain gets its own cookies back, and none of another's."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/f.csv", guarded(File(CONTENT), f"{other.url}/login"))
        web.route("/back", setting("session=1; Path=/"))
        other.route("/login", setting("visitor=7; Path=/", back="/consent"))
        other.route("/consent", setting("consent=yes; Path=/", back=f"{web.url}/back?to=/f.csv"))
        assert await content_of(client, f"{web.url}/f.csv") == CONTENT
        assert cookies_of(web, "/f.csv") == [None, "session=1"]
        assert cookies_of(web, "/back") == [None]
        assert cookies_of(other, "/login") == [None]
        assert cookies_of(other, "/consent") == ["visitor=7"]


@pytest_twisted.ensureDeferred
async def test_no_cookie_leaves_its_origin() -> None:
    """A cookie goes to the scheme, host and port that set it, whatever Domain it has."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/start", setting("a=1; Path=/", "b=2; Path=/; Domain=127.0.0.1", back=f"{other.url}/next"))
        other.route("/next", setting("c=3; Path=/", back=f"{web.url_of('localhost')}/end"))
        web.route("/end", File(CONTENT))
        assert await content_of(client, f"{web.url}/start") == CONTENT
        assert cookies_of(other, "/next") == [None]
        assert cookies_of(web, "/end") == [None]


@pytest_twisted.ensureDeferred
async def test_no_cookie_goes_from_one_file_to_another() -> None:
    """Each read of a file, and each call, begins without cookies."""
    async with serving() as web, reading() as client:
        web.route("/f.csv", guarded(File(CONTENT), "/login"))
        web.route("/login", setting("session=1; Path=/"))
        web.route("/call", status(200, [("Set-Cookie", "call=1")], b"{}"))
        for _ in range(2):
            web.requests.clear()
            assert await content_of(client, f"{web.url}/f.csv") == CONTENT
            await client.treq().get(f"{web.url}/call")
            assert [request.headers.get("cookie") for request in web.requests] == [None, None, "session=1", None]


@pytest_twisted.ensureDeferred
async def test_circles_all_the_same() -> None:
    """If the cookies that are sent do not change, the loop is detected at once."""
    async with serving() as web, reading() as client:
        for number, cookie in enumerate(
            ["a=1", "a=1; Domain=other.org; Path=/", "a=; Max-Age=0", "a=1; Path=/x", "a=1; Secure"]
        ):
            path = f"/{number}"
            web.route(path, setting(cookie, back=path))
            web.requests.clear()
            with pytest.raises(ServerError, match=f"redirects in a loop, to http://127.0.0.1:[0-9]+{path} again"):
                await client.origin(web.url + path).open()
            assert len(web.requests) == (2 if number == 0 else 1)


@pytest_twisted.ensureDeferred
async def test_a_circle_for_want_of_a_cookie() -> None:
    """The error for a loop names the cookies that were set and not sent, without their values."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/f", redirect(f"{other.url_of('localhost')}/login"))
        other.route("/login", setting("sid=s3cr3t; Path=/; Secure", "wide=s3cr3t; Path=/", back=f"{web.url}/f"))
        with pytest.raises(ServerError, match="redirects in a loop") as raised:
            await client.origin(f"{web.url}/f").open()
        told = "; cookies that were set on the way do not go there: 'sid' of localhost, 'wide' of localhost"
        assert raised.value.message.endswith(f"/f again{told}")


@pytest_twisted.ensureDeferred
async def test_an_endless_chain_of_cookies() -> None:
    """A server that sets another cookie each time is given up after twenty redirects."""

    def handler(exchange: Exchange) -> None:
        exchange.answer(302, [("Location", "/f"), ("Set-Cookie", f"n={len(web.requests)}")])

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        with pytest.raises(ServerError, match="redirects more than 20 times"):
            await client.origin(f"{web.url}/f").open()
        assert len(web.requests) == 21


@pytest_twisted.ensureDeferred
async def test_a_read_that_is_taken_up_again() -> None:
    """The request that resumes a read is redirected and gets its cookie, too."""
    async with serving() as web, reading() as client:
        web.route("/f.csv", guarded(File(CONTENT, etag='"1"'), "/login"))
        web.route("/login", setting("session=1; Path=/"))
        for origin in [client.origin(f"{web.url}/f.csv")] * 2:
            source = await origin.open(4, 'tag "1"')
            assert source.offset == 4
            assert await rest_of(source) == CONTENT[4:]
        assert len(web.asked("/login")) == 1


@pytest_twisted.ensureDeferred
async def test_a_secure_cookie(tmp_path: Path) -> None:
    """A Secure cookie is kept only if it came over TLS, and is sent only over TLS."""
    authority = Authority(tmp_path)
    async with serving(authority.server()) as secure, serving() as plain:
        secure.route("/start", setting("s=1; Path=/; Secure", "__Host-h=2; Path=/; Secure", back="/next"))
        secure.route("/next", redirect(f"{plain.url}/end"))
        plain.route("/end", File(CONTENT))
        allow = ("https://127.0.0.1:*/", "http://127.0.0.1:*/end")
        async with reading(ca_file=authority.file, allow=allow) as client:
            assert await content_of(client, f"{secure.url}/start") == CONTENT
        assert cookies_of(secure, "/next") == ["s=1; __Host-h=2"]
        assert cookies_of(plain, "/end") == [None]
