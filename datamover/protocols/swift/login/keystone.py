"""The login at Keystone (Identity API v3), in the scope of a project; the catalogue lists the storage.

Source: "Identity API v3" of the OpenStack API reference, "Password authentication with scoped authorization",
"Application Credentials", and "Service catalog and endpoints".
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from twisted.web.http_headers import Headers

from datamover.errors import AuthenticationFailed
from datamover.protocols.http.answers import Head
from datamover.protocols.http.content import whole
from datamover.protocols.http.dates import http_date
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place.json_documents import short_json
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.swift.login.access import Granted
from datamover.web.url import WebUrl


@dataclass(frozen=True, slots=True)
class Password:
    """A user's login by a password, for a project."""

    username: str
    user_domain: str
    project: str
    project_domain: str

    keys: ClassVar[str] = "username, password_file, project and the domains"

    def request(self, secret: str) -> dict[str, Any]:
        """Return what is asked for."""
        user = {"name": self.username, "domain": {"name": self.user_domain}, "password": secret}
        scope = {"project": {"name": self.project, "domain": {"name": self.project_domain}}}
        return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}


@dataclass(frozen=True, slots=True)
class ApplicationCredential:
    """A login by an application credential, which belongs to one user and one project."""

    id: str

    keys: ClassVar[str] = "application_credential_id and application_credential_secret_file; it may have expired"

    def request(self, secret: str) -> dict[str, Any]:
        """Return what is asked for."""
        told = {"id": self.id, "secret": secret}
        return {"identity": {"methods": ["application_credential"], "application_credential": told}}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which of the catalogue's endpoints of object storage is used."""

    region: str | None = None
    """None: the only one that has storage."""
    interface: str = "public"


class Keystone:
    """``access.Login`` at one Keystone."""

    def __init__(
        self,
        treq: TreqClient,
        url: WebUrl,
        identity: Password | ApplicationCredential,
        secret: Callable[[], Awaitable[str]],
        endpoint: Endpoint | None,
    ) -> None:
        """``url`` ends in "/v3"; ``endpoint`` is None if the catalogue is not needed."""
        self.keys = identity.keys
        self._treq = treq
        self._url = url
        self._identity = identity
        self._secret = secret
        self._endpoint = endpoint

    async def log_in(self) -> Granted:
        """Ask for a token. Raises Refused for an answer that is no success, else what ``access.Login`` says."""
        body = json.dumps({"auth": self._identity.request(await self._secret())}).encode()
        headers = Headers({"Content-Type": ["application/json"], "Accept": ["application/json"]})
        response = await self._treq.post(f"{self._url.text}/auth/tokens", headers=headers, data=body)
        head, answer = await whole(response)
        if not 200 <= head.status < 300:
            raise Refused(head)
        token = head.header("X-Subject-Token")
        try:
            told = short_json(answer)["token"]
        except (ValueError, TypeError, KeyError):
            told = None
        if not token or not isinstance(told, dict):
            raise AuthenticationFailed(f"{self._url.told} answered without a token; check auth_url")
        storage = "" if self._endpoint is None else storage_of(told, self._endpoint)
        return Granted(token, storage, _lasts(told, head))


def storage_of(token: dict[str, Any], endpoint: Endpoint) -> str:
    """Return the URL of the account's storage. Raises AuthenticationFailed if the catalogue lists none, or several.

    A token without a project has no catalogue.
    """
    if not isinstance(token.get("project"), dict):
        raise AuthenticationFailed("the login gives a token that is for no project: check project")
    told = [
        (str(each.get("interface") or ""), str(each.get("region_id") or each.get("region") or ""), each)
        for each in _endpoints(token)
    ]
    found = [
        (region, str(each.get("url") or "")) for interface, region, each in told if interface == endpoint.interface
    ]
    regions = sorted({name for name, _ in found})
    if endpoint.region is None and len(regions) > 1:
        raise AuthenticationFailed(f"there is storage in the regions {', '.join(regions)}; set region to one of them")
    urls = [url for name, url in found if endpoint.region in (None, name)]
    if urls:
        return urls[0]
    if regions:
        raise AuthenticationFailed(
            f"the catalogue lists no object storage in the region {endpoint.region!r}; there is in {', '.join(regions)}"
        )
    interfaces = sorted({interface for interface, _, _ in told if interface})
    if interfaces:
        raise AuthenticationFailed(
            f"the catalogue lists no object storage with the interface {endpoint.interface!r}; there is "
            f"{', '.join(interfaces)}: set interface"
        )
    raise AuthenticationFailed("the catalogue lists no object storage; check project")


def _endpoints(token: dict[str, Any]) -> Iterator[dict[str, Any]]:
    catalogue = token.get("catalog")
    for service in catalogue if isinstance(catalogue, list) else ():
        if isinstance(service, dict) and service.get("type") == "object-store":
            endpoints = service.get("endpoints")
            yield from (each for each in (endpoints if isinstance(endpoints, list) else ()) if isinstance(each, dict))


def _lasts(token: dict[str, Any], head: Head) -> float | None:
    """Return how many seconds a token is valid, by the server's clock."""
    now = http_date(head.header("Date"))
    try:
        moment = datetime.fromisoformat(str(token.get("expires_at")))
    except ValueError:
        return None
    return None if now is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
