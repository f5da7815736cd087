"""The login at Keystone (Identity API v3): a password, in the scope of a project; the catalogue tells of storage.

Source: "Identity API v3" of the OpenStack API reference, "Password authentication with scoped authorization".
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twisted.web.http_headers import Headers

from datamover.errors import AuthenticationFailed
from datamover.protocols.http.answers import Head
from datamover.protocols.http.content import whole
from datamover.protocols.http.dates import http_date
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.swift.login.access import Granted
from datamover.web.url import WebUrl


@dataclass(frozen=True, slots=True)
class Account:
    """Who logs in, for what."""

    username: str
    project: str
    domain: str
    """Of the user and the project."""
    region: str | None
    """None: the only one in which there is storage."""


class Keystone:
    """``access.Login`` at one Keystone."""

    def __init__(
        self,
        treq: TreqClient,
        url: WebUrl,
        account: Account,
        password: Callable[[], Awaitable[str]],
        *,
        stored_elsewhere: bool,
    ) -> None:
        """``url`` ends in "/v3"; ``stored_elsewhere``: the catalogue is not needed."""
        self._treq = treq
        self._url = url
        self._account = account
        self._password = password
        self._needs_catalogue = not stored_elsewhere

    async def log_in(self) -> Granted:
        """Ask for a token. Raises Refused for an answer that is no success, else what ``access.Login`` says."""
        body = request_of(self._account, await self._password())
        headers = Headers({"Content-Type": ["application/json"], "Accept": ["application/json"]})
        response = await self._treq.post(f"{self._url.text}/auth/tokens", headers=headers, data=body)
        head, answer = await whole(response)
        if not 200 <= head.status < 300:
            raise Refused(head)
        token = head.header("X-Subject-Token")
        try:
            told = json.loads(answer)["token"]
        except (ValueError, TypeError, KeyError):
            told = None
        if not token or not isinstance(told, dict):
            raise AuthenticationFailed(f"{self._url.told} answered without a token; look at auth_url")
        storage = storage_of(told, self._account.region) if self._needs_catalogue else ""
        return Granted(token, storage, _lasts(told, head))


def request_of(account: Account, password: str) -> bytes:
    """Return the body that asks for a token."""
    domain = {"name": account.domain}
    user = {"name": account.username, "domain": domain, "password": password}
    scope = {"project": {"name": account.project, "domain": domain}}
    asked = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    return json.dumps(asked).encode()


def storage_of(token: dict[str, Any], region: str | None) -> str:
    """Return the public URL of the account's storage. Raises AuthenticationFailed where the catalogue tells none."""
    found = [
        (str(each.get("region_id") or each.get("region") or ""), str(each.get("url") or ""))
        for each in _endpoints(token)
        if each.get("interface") == "public"
    ]
    regions = sorted({name for name, _ in found})
    if region is None and len(regions) > 1:
        raise AuthenticationFailed(f"there is storage in the regions {', '.join(regions)}; set region to one of them")
    urls = [url for name, url in found if region in (None, name)]
    if not urls:
        where = "" if region is None else f" in the region {region!r}"
        others = f"; there is in {', '.join(regions)}" if regions else "; look at project"
        raise AuthenticationFailed(f"the catalogue tells of no object storage{where}{others}")
    return urls[0]


def _endpoints(token: dict[str, Any]) -> Iterator[dict[str, Any]]:
    catalogue = token.get("catalog")
    for service in catalogue if isinstance(catalogue, list) else ():
        if isinstance(service, dict) and service.get("type") == "object-store":
            endpoints = service.get("endpoints")
            yield from (each for each in (endpoints if isinstance(endpoints, list) else ()) if isinstance(each, dict))


def _lasts(token: dict[str, Any], head: Head) -> float | None:
    """Return how many seconds a token lasts, by the clock of the one who gave it."""
    now = http_date(head.header("Date"))
    try:
        moment = datetime.fromisoformat(str(token.get("expires_at")))
    except ValueError:
        return None
    return None if now is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
