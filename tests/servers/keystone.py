"""A login that speaks Keystone's protocol (Identity API v3), as far as storage needs it, on a test's web server.

It refuses what a real one refuses: other passwords, users, projects and domains, and requests of another form.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.servers.exchange import Exchange
from tests.servers.web import Web


@dataclass(slots=True)
class FakeKeystone:
    """What is routed at "/v3/auth/tokens"; each login gives another token."""

    web: Web
    endpoints: Sequence[tuple[str, str]] = ()
    """Of object storage: region, URL."""
    username: str = "portal"
    password: str = "secret"
    project: str = "data"
    user_domain: str = "Default"
    project_domain: str = "Default"
    credential: str = "0a1b2c"
    """The id of an application credential; ``password`` is its secret, too."""
    interfaces: Sequence[str] = ("admin", "public", "internal")
    scoped: bool = True
    """Whether its tokens are for a project."""
    lasts: float = 3600.0
    """Seconds."""
    ahead: float = 0.0
    """Seconds that its clock is ahead."""
    tokens: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web.route("/v3/auth/tokens", self._answer)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.request.method != "POST" or not self._knows(exchange.request.body):
            exchange.answer(401, [("WWW-Authenticate", 'Keystone uri="http://x"')], b'{"error": {"code": 401}}')
            return
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        now = datetime.now(UTC) + timedelta(seconds=self.ahead)
        ends = now + timedelta(seconds=self.lasts)
        endpoints = [
            {"interface": interface, "region": region, "region_id": region, "url": url}
            for region, url in self.endpoints
            for interface, url in (("admin", "http://192.0.2.1/"), ("public", url), ("internal", f"{url}_within"))
            if interface in self.interfaces
        ]
        catalogue = [
            {"type": "identity", "name": "keystone", "endpoints": []},
            {"type": "object-store", "name": "swift", "endpoints": endpoints},
        ]
        token: dict[str, Any] = {
            "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
            "methods": ["password"],
        }
        if self.scoped:
            token |= {"project": {"name": self.project}, "catalog": catalogue}
        headers = [("X-Subject-Token", self.tokens[-1]), ("Content-Type", "application/json")]
        headers.append(("Date", now.strftime("%a, %d %b %Y %H:%M:%S GMT")))
        exchange.answer(201, headers, json.dumps({"token": token}).encode())

    def _knows(self, body: bytes) -> bool:
        user = {"name": self.username, "domain": {"name": self.user_domain}, "password": self.password}
        project = {"name": self.project, "domain": {"name": self.project_domain}}
        by_password = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
        credential = {"id": self.credential, "secret": self.password}
        by_credential = {"identity": {"methods": ["application_credential"], "application_credential": credential}}
        return json.loads(body) in ({"auth": by_password}, {"auth": by_credential})
