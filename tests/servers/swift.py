"""A real OpenStack Swift on 127.0.0.1, by its own protocol, with tempauth, quotas and large objects of both kinds."""

import json
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.servers.ports import free_port
from tests.servers.s3 import BUCKET, Swift, SwiftS3

CONTAINER = "container"
MEMCACHED = shutil.which("memcached") or "/usr/bin/memcached"
_MORE = """
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:dlo]
use = egg:swift#dlo
[filter:container_quotas]
use = egg:swift#container_quotas
[filter:account_quotas]
use = egg:swift#account_quotas
"""


class SwiftAccount(ABC):
    """One account of a service that speaks Swift's protocol, which ``ask`` reaches past datamover."""

    port: int
    user = "test:tester"
    key = "testing"

    @property
    def auth_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/auth/v1.0"

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""

    @cached_property
    def account(self) -> str:
        """The path of the account."""
        return urlsplit(self._log_in(self.user, self.key)["x-storage-url"]).path

    @cached_property
    def _tokens(self) -> dict[tuple[str, str], str]:
        """What was given for a user and a key; a token may have become invalid since."""
        return {}

    def ask(
        self,
        method: str,
        container: str = "",
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        user: str = "",
        key: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (their names in lower case) and body of the answer to one request."""
        path = self.account + (f"/{quote(container)}" if container else "") + (f"/{quote(name)}" if name else "")
        path += f"?{urlencode(query)}" if query else ""
        login = user or self.user, key or self.key
        while True:
            known = self._tokens.get(login)
            token = known or self._log_in(*login)["x-auth-token"]
            answer = self._exchange(method, path, {"X-Auth-Token": token, **(headers or {})}, body)
            if known is None or answer[0] != 401:
                self._tokens[login] = token
                return answer
            del self._tokens[login]

    def names(self, container: str = CONTAINER, prefix: str = "") -> list[str]:
        """Return the names of the objects in a container."""
        status, _, body = self.ask("GET", container, query={"format": "json", "prefix": prefix})
        return [each["name"] for each in json.loads(body)] if status == 200 else []

    def clear(self) -> None:
        """Remove all objects and containers but ``CONTAINER``, and the quotas."""
        _, _, body = self.ask("GET", query={"format": "json"})
        containers: Iterable[str] = [each["name"] for each in json.loads(body or b"[]")]
        for container in containers:
            for name in self.names(container):
                self.ask("DELETE", container, name)
            if container != CONTAINER:
                self.ask("DELETE", container)
        self.ask("PUT", CONTAINER, headers={f"X-Container-Meta-Quota-{of}": "" for of in ("Bytes", "Count")})

    def _log_in(self, user: str, key: str) -> dict[str, str]:
        """Return the headers of the answer to a login."""
        login = {"X-Auth-User": user, "X-Auth-Key": key}
        status, headers, _ = self._exchange("GET", "/auth/v1.0", login, b"")
        assert status in (200, 204), status
        return headers

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


class SwiftServer(SwiftAccount, Swift):
    """Swift with one container, which ``ask`` reaches past datamover, and one bucket."""

    pipeline = (
        "catch_errors gatekeeper cache listing_formats s3api tempauth copy container_quotas account_quotas slo dlo "
        "versioned_writes symlink proxy-server"
    )

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._memcached = free_port()
        self.more = _MORE.format(memcached=self._memcached)

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""
        return {"auth_url": self.auth_url, "username": "test:tester", "password_file": str(self.secret_key_file)}

    @cached_property
    def s3(self) -> SwiftS3:
        """The same user by S3."""
        return SwiftS3(self.port, self.secret_key_file)

    def start(self) -> None:
        self.launch_cache()
        super().start()
        self.ask("PUT", CONTAINER)

    def reset(self) -> None:
        """Have nothing but an empty container and an empty bucket, as when it was started."""
        self.clear()
        self.ask("DELETE", CONTAINER)
        self.ask("PUT", CONTAINER)
        self.boto.create_bucket(Bucket=BUCKET)

    def clear(self) -> None:
        super().clear()
        self.set_account_quota("")

    def set_account_quota(self, size: str) -> None:
        """Set how many bytes the account may have, "" for as many as there are."""
        headers = {"X-Account-Meta-Quota-Bytes": size}
        status, _, _ = self.ask("POST", headers=headers, user="admin:admin", key="admin")
        assert status == 204

    def launch_cache(self) -> None:
        options = ("-u", "root", "-l", "127.0.0.1", "-p", str(self._memcached), "-m", "16")
        self._run(MEMCACHED, *options, port=self._memcached)

    def forget_tokens(self) -> None:
        """Make all tokens that were given invalid."""
        with socket.create_connection(("127.0.0.1", self._memcached)) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(100).startswith(b"OK")
