"""The page at / that a browser gets."""

import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from datamover.security.passwords import hash_password
from tests.servers import postgres
from tests.servers.service import Service

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def ask(service: Service, accept: str | None = BROWSER, path: str = "/", **more: Any) -> tuple[int, Any, str]:
    headers = {**({"Accept": accept} if accept else {}), **more.pop("headers", {})}
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}{path}", headers=headers, **more)
    try:
        with urllib.request.urlopen(request) as page:
            return page.status, page.headers, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    open_directory = Path(tempfile.mkdtemp())
    open_directory.chmod(0o755)
    hashed = hash_password("secret")
    tables = f'[database]\nurl = "{postgres.shared().fresh()}"\n[clients.portal]\npassword_hash = "{hashed}"\n'
    service = Service(open_directory, tables)
    service.start_behind_a_login()
    yield service
    service.stop()
    shutil.rmtree(open_directory)


def test_a_browser_gets_a_page(service: Service) -> None:
    """Without a login it says what this is, whether it is ready, how to call it; it loads nothing, is never framed."""
    status, headers, page = ask(service)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "a service that moves files for other programs" in page
    assert "<strong>ready</strong>" in page
    assert f"<code>http://127.0.0.1:{service.port}/data_mover</code>" in page
    assert "share/doc/datamover" in page
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign, assignment]
    parser.feed(page)
    assert not {"script", "style", "img", "link", "form", "iframe"} & set(tags)
    assert not re.search(r"portal|local|archive|0\.1", page.replace(f"127.0.0.1:{service.port}", ""))


def test_nobody_else_does(service: Service) -> None:
    """What does not ask for HTML is answered as before, and so is a POST, a foreign Host and a web page's request."""
    plain = (404, "The interface is at /data_mover and /RPC2.\n")
    for accept in (None, "*/*", "application/json"):
        status, headers, told = ask(service, accept)
        assert (status, told) == plain or status == 405
        assert headers["Content-Type"].startswith("text/plain")
    posted = ask(service, data=b"<x/>", headers={"Content-Type": "text/xml"})
    assert posted[0] == 404
    assert posted[2] == plain[1]
    assert ask(service, headers={"Host": "evil.example.org"})[0] == 421
    assert ask(service, headers={"Origin": "https://evil.example.org"})[0] == 403


@pytest.mark.parametrize("path", ["/x/", "//x", "//", "/x//y"])
def test_other_paths(service: Service, path: str) -> None:
    """The page is at / alone; an empty segment elsewhere does not lead to it."""
    status, _, text = ask(service, path=path)
    assert (status, "<html" in text) == (405, False)
