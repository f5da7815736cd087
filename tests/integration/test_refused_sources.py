"""What a refused source tells an administrator: the line that allows it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest

from datamover.security.passwords import hash_password
from tests.servers.nginx import Nginx
from tests.servers.service import Service


@pytest.fixture
def web(open_directory: Path) -> Iterator[Nginx]:
    (open_directory / "web").mkdir()
    (open_directory / "web/a.csv").write_text("a,b\n")
    with Nginx(open_directory / "web") as web:
        yield web


def refused(proxy: Any, source: str) -> str:
    with pytest.raises(Fault) as caught:
        proxy.jobs.submit({"source": source, "destination": "local", "path": "in/"})
    assert caught.value.faultCode == 1005
    return str(caught.value.faultString)


def test_the_line_that_is_told_allows_it(open_directory: Path, web: Nginx) -> None:
    """The administrator copies the line from the fault into the file and reloads: the source is moved from."""
    service = Service(open_directory, "")
    service.start()
    try:
        source = f"{web.url}/a.csv"
        told = re.search(r'write (\[sources\]) (allow = \["http://127\.0\.0\.1:\*/"\])', refused(service.proxy, source))
        assert told is not None
        with service.config.open("a") as file:
            file.write(f"{told[1]}\n{told[2]}\n")
        service.proxy.service.reload()
        job = service.proxy.jobs.submit({"source": source, "destination": "local", "path": "in/"})["id"]
        assert service.ended(job)["status"] == "COMPLETED"
        assert (open_directory / "data/files/in/a.csv").read_text() == "a,b\n"
        assert 'add "http://10.1.2.3:*/" to [sources] allow' in refused(service.proxy, "http://10.1.2.3/x")
    finally:
        service.stop()


def test_a_client_is_sent_to_the_administrator(open_directory: Path) -> None:
    """Who is no administrator learns whom to ask, and nothing of the configuration."""
    service = Service(open_directory, f'[clients.portal]\npassword_hash = "{hash_password("secret")}"\n')
    service.start_behind_a_login()
    try:
        with ServerProxy(service.url.replace("://", "://portal:secret@")) as proxy:
            told = refused(proxy, "http://127.0.0.1/a.csv")
        assert told.endswith("ask the administrator")
        assert "to allow it" not in told
    finally:
        service.stop()
