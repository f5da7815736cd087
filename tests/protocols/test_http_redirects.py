"""Redirects, the logins that they carry, and the addresses of host names."""

from pathlib import Path

import pytest
import pytest_twisted

from datamover.config import schema
from datamover.errors import AuthenticationFailed, ServerError, SourceNotAllowedHere
from datamover.web.policy import Prefix
from tests.protocols.reading import content_of, reading, serving
from tests.servers.certificates import Authority
from tests.servers.web import File, Handler, redirect

CONTENT = b"moved, not gone"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["/b/file.csv", "../b/file.csv", "file.csv?x=1", "{url}/b/file.csv#part"])
async def test_redirects_are_followed(code: int, target: str) -> None:
    """Every kind of redirect leads on, relative or not, and the name is the last URL's."""
    async with serving() as web, reading() as client:
        web.route("/b/start", redirect(target.replace("{url}", web.url), code))
        web.route("/b/file.csv", File(CONTENT))
        origin = client.origin(f"{web.url}/b/start")
        assert (await origin.inspect()).name == "file.csv"
        assert await content_of(client, f"{web.url}/b/start") == CONTENT


@pytest_twisted.ensureDeferred
async def test_a_redirect_in_utf8() -> None:
    """A Location in UTF-8 is percent-encoded."""
    async with serving() as web, reading() as client:
        web.route("/start", redirect("/données.csv"))
        web.route("/donn%C3%A9es.csv", File(CONTENT))
        assert (await client.origin(f"{web.url}/start").inspect()).name == "données.csv"


@pytest_twisted.ensureDeferred
async def test_a_location_in_raw_bytes() -> None:
    """A Location in bytes that are no UTF-8 leads to the file whose name has those very bytes."""

    def to(location: bytes) -> Handler:
        return lambda exchange: exchange.write(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location
        )

    async with serving() as web, reading() as client:
        for location, target, name in (
            (b"/caf\xe9.csv", "/caf%E9.csv", "café.csv"),
            (b"/caf\xc3\xa9 [1].csv?q=\xe9 x", "/caf%C3%A9%20%5B1%5D.csv?q=%E9%20x", "café [1].csv"),
            (b"///127.0.0.1:%d/a\\b.csv" % web.port, "/a%5Cb.csv", "b.csv"),
        ):
            web.requests.clear()
            web.route("/start", to(location))
            web.route(target.partition("?")[0], File(CONTENT))
            assert (await client.origin(f"{web.url}/start").inspect()).name == name
            assert [request.target for request in web.requests] == ["/start", target]


@pytest_twisted.ensureDeferred
async def test_a_range_is_asked_for_at_the_end_of_the_way() -> None:
    """A resumed read follows redirects with its range."""
    async with serving() as web, reading() as client:
        web.route("/start", redirect("/f"))
        web.route("/f", File(CONTENT, etag='"1"'))
        source = await client.origin(f"{web.url}/start").open(3, 'tag "1"')
        assert source.offset == 3
        await source.close()


@pytest_twisted.ensureDeferred
async def test_twenty_redirects_and_no_more() -> None:
    """Twenty redirects are followed, the twenty-first is an error that says so."""
    async with serving() as web, reading() as client:
        for number in range(21):
            web.route(f"/{number}", redirect(f"/{number + 1}"))
        web.route("/21", File(CONTENT))
        assert await content_of(client, f"{web.url}/1") == CONTENT
        with pytest.raises(ServerError, match="redirects more than 20 times"):
            await client.origin(f"{web.url}/0").open()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("targets", [["/0"], ["/1", "/0"], ["/1", "/2", "/1"]])
async def test_circles(targets: list[str]) -> None:
    """A redirect to an earlier URL is detected at once."""
    async with serving() as web, reading() as client:
        for number, target in enumerate(targets):
            web.route(f"/{number}", redirect(target))
        with pytest.raises(ServerError, match="redirects in a loop"):
            await client.origin(f"{web.url}/0").open()
        assert len(web.requests) == len(targets)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("ftp://127.0.0.1/f", "cannot read from 'ftp' URLs"),
        ("file:///etc/passwd", "cannot read from 'file' URLs"),
        ("http://user:s3cr3t@127.0.0.1/f", "user name or password"),
        ("http://[/f", "host of the source cannot be read"),
        ("http://169.254.169.254/latest/meta-data?s3cr3t=s3cr3t", "not allow"),
        ("http://2852039166/latest", "169.254.169.254"),
        ("http://10.0.0.1/f", "not allow"),
        ("http://[::ffff:10.0.0.1]/f", "not allow"),
        ("http://other.example.org/f?key=s3cr3t", r"other.example.org/f\?key=\*\*\*, which \[sources\] does not allow"),
    ],
)
async def test_where_no_redirect_may_lead(target: str, words: str) -> None:
    """A redirect that the rules refuse raises an error before anything is connected; it quotes no query."""
    async with serving() as web, reading(allow=("http://127.0.0.1:*/",)) as client:
        web.route("/start", redirect(target))
        origin = client.origin(f"{web.url}/start")
        for asking in (origin.inspect, origin.open):
            with pytest.raises(SourceNotAllowedHere, match=words) as raised:
                await asking()
            assert "s3cr3t=s3" not in raised.value.message.replace("s3cr3t=***", "")
            assert "key=s3cr3t" not in raised.value.message
            assert ":s3cr3t@" not in raised.value.message


@pytest_twisted.ensureDeferred
async def test_from_https_to_http(tmp_path: Path) -> None:
    """A redirect from https to http is followed only where a rule names its target."""
    authority = Authority(tmp_path)
    async with serving(authority.server()) as secure, serving() as plain:
        secure.route("/start", redirect(f"{plain.url}/f"))
        plain.route("/f", File(CONTENT))
        async with reading(ca_file=authority.file) as client:
            with pytest.raises(SourceNotAllowedHere, match="leaves https for http"):
                await client.origin(f"{secure.url}/start").open()
        assert plain.requests == []
        async with reading(ca_file=authority.file, allow=("https://127.0.0.1:*/", "http://127.0.0.1:*/f")) as client:
            assert await content_of(client, f"{secure.url}/start") == CONTENT


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/f",
        "http://2130706433:{port}/f",
        "http://0x7f.1:{port}/f",
        "http://[::1]:{port}/f",
        "http://[::ffff:127.0.0.1]:{port}/f",
        "http://0.0.0.0:{port}/f",
    ],
)
async def test_inside_addresses_are_not_connected_to(url: str) -> None:
    """A private address is refused in every spelling unless a rule names it."""
    async with serving() as web, reading(addresses=()) as client:
        web.route("/f", File(CONTENT))
        with pytest.raises(SourceNotAllowedHere):
            await client.origin(url.format(port=web.port)).open()
        assert web.requests == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("allow", [None, ("http://localhost:*/",)])
async def test_a_name_that_leads_inside(allow: tuple[str, ...] | None) -> None:
    """A host name that resolves to a private address is refused, even if a rule names the host."""
    async with serving() as web, reading(addresses=(), allow=allow) as client:
        web.route("/f", File(CONTENT))
        web.route("/start", redirect(f"{web.url_of('localhost')}/f"))
        with pytest.raises(
            SourceNotAllowedHere, match=r"localhost is at (127.0.0.1|::1), which is not a public address"
        ):
            await client.origin(f"{web.url_of('localhost')}/f").open()
        assert web.requests == []
    async with serving() as web, reading(addresses=("127.0.0.0/8",), allow=allow) as client:
        web.route("/f", File(CONTENT))
        assert await content_of(client, f"{web.url_of('localhost')}/f") == CONTENT


@pytest_twisted.ensureDeferred
async def test_a_rule_for_one_path_allows_no_other() -> None:
    """A rule for a path at a private address allows no other path, also over a kept connection."""
    async with serving() as web, reading(addresses=(), allow=("http://127.0.0.1:*/open/",)) as client:
        web.route("/open/f", File(CONTENT))
        web.route("/open/start", redirect("/shut/f"))
        web.route("/shut/f", File(CONTENT))
        assert await content_of(client, f"{web.url}/open/f") == CONTENT
        for path in ("/shut/f", "/open/start", "/open/../shut/f", "/open/%2e%2e/shut/f", "/open/..%2fshut/f"):
            with pytest.raises(SourceNotAllowedHere):
                await client.origin(web.url + path).open()
        assert web.asked("/shut/f") == []


@pytest_twisted.ensureDeferred
async def test_a_login_goes_where_it_belongs(tmp_path: Path) -> None:
    """A login is sent only below its prefix, and not on redirects to another path, port or host."""
    secret = tmp_path / "token"
    secret.write_text("s3cr3t\n")
    secret.chmod(0o600)
    async with serving() as web, serving() as other:
        login = schema.Credential(url=f"{web.url}/data", token_file=secret)
        for server in (web, other):
            server.route("/data/f", File(CONTENT))
            server.route("/f", File(CONTENT))
        web.route("/data/out", redirect("/f"))
        web.route("/data/away", redirect(f"{other.url}/data/f"))
        web.route("/data/name", redirect(f"{web.url_of('localhost')}/data/f"))
        web.route("/in", redirect("/data/f"))
        async with reading(credentials=(login,)) as client:
            for path in ("/data/f", "/data/out", "/data/away", "/data/name", "/in", "/database"):
                web.route("/database", File(CONTENT))
                web.requests.clear()
                other.requests.clear()
                assert await content_of(client, web.url + path) == CONTENT
                for server in (web, other):
                    for request in server.requests:
                        belongs = request.path.startswith("/data/") and request.headers["host"] == web.url[7:]
                        assert request.headers.get("authorization") == ("Bearer s3cr3t" if belongs else None)


@pytest_twisted.ensureDeferred
async def test_a_login_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing secret is an error that names its file, before anything is sent."""
    async with serving() as web:
        login = schema.Credential(url=web.url, username="me", password_file=tmp_path / "missing")
        async with reading(credentials=(login,)) as client:
            with pytest.raises(AuthenticationFailed, match="missing: No such file"):
                await client.origin(f"{web.url}/f").open()
        assert web.requests == []


@pytest_twisted.ensureDeferred
async def test_a_redirect_out_of_a_clients_own_sources(tmp_path: Path) -> None:
    """A client is not redirected to what its own rules refuse; others are."""
    token = tmp_path / "token"
    token.write_text("s3cr3t")
    token.chmod(0o600)
    async with serving() as web:
        login = schema.Credential(url=f"{web.url}/private/", token_file=token)
        own = {"reader": (Prefix.parse(f"{web.url}/open/"),), "nobody": ()}
        async with reading(credentials=(login,), narrowed=own) as client:
            web.route("/open/start", redirect("/private/file.csv"))
            web.route("/open/inside", redirect("/open/file.csv"))
            web.route("/private/file.csv", File(b"private"))
            web.route("/open/file.csv", File(CONTENT))
            start = f"{web.url}/open/start"
            for asking in (client.origin(start, client="reader").inspect, client.origin(start, client="reader").open):
                with pytest.raises(SourceNotAllowedHere, match="which the sources of client 'reader' do not allow"):
                    await asking()
            assert not web.asked("/private/file.csv")
            inside = await client.origin(f"{web.url}/open/inside", client="reader").open()
            assert await inside.read() == CONTENT
            await inside.close()
            for url, who in ((f"{web.url}/private/file.csv", "reader"), (start, "nobody")):
                with pytest.raises(SourceNotAllowedHere, match=f"not an allowed source for client '{who}'"):
                    await client.origin(url, client=who).inspect()
            with pytest.raises(SourceNotAllowedHere, match="not an allowed source for client 'nobody'"):
                await client.treq("nobody").post(f"{web.url}/open/file.csv", data=b"{}")
            anybody = await client.origin(start, client="somebody").open()
            assert await anybody.read() == b"private"
            await anybody.close()
