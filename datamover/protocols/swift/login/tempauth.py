"""The old login (v1, tempauth, swauth, radosgw), with the user and the key in headers.

Source: the "Auth Systems" overview of OpenStack Swift.
"""

from collections.abc import Awaitable, Callable

from twisted.web.http_headers import Headers

from datamover.errors import AuthenticationFailed
from datamover.protocols.http.content import whole
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.swift.login.access import Granted
from datamover.web.url import WebUrl


class TempAuth:
    """``access.Login`` of a user, such as "account:user"."""

    keys = "username, password_file and project"

    def __init__(self, treq: TreqClient, url: WebUrl, user: str, password: Callable[[], Awaitable[str]]) -> None:
        self._treq = treq
        self._url = url
        self._user = user
        self._password = password

    async def log_in(self) -> Granted:
        """Ask for a token. Raises Refused for an answer that is no success, else what ``access.Login`` says."""
        headers = Headers({"X-Auth-User": [self._user], "X-Auth-Key": [await self._password()]})
        response = await self._treq.get(self._url.text, headers=headers)
        head, _ = await whole(response)
        if not 200 <= head.status < 300:
            raise Refused(head)
        token = head.header("X-Auth-Token") or head.header("X-Storage-Token")
        if not token:
            raise AuthenticationFailed(f"{self._url.told} answered without a token; check auth_url")
        lasts = (head.header("X-Auth-Token-Expires") or "").strip()
        return Granted(token, head.header("X-Storage-Url") or "", float(lasts) if _is_number(lasts) else None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
