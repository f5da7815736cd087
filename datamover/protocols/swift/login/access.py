"""The result of a login, a token and the account's URL, and ``SwiftLogin``, the interface of the kinds of login."""

from dataclasses import dataclass, field
from typing import Protocol

from datamover.errors import AuthenticationFailed, DataMoverError
from datamover.web.url import WebUrl


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to a login."""

    token: str = field(repr=False)
    storage_url: str
    """The account's URL in the answer, "" if it has none."""
    lasts: float | None
    """Seconds that the token is valid, None if unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """A token, and the account that it is for. Two are never equal."""

    token: str = field(repr=False)
    account: WebUrl


class SwiftLogin(Protocol):
    """A kind of login."""

    @property
    def keys(self) -> str:
        """The keys of the destination's table to check if a login is refused."""
        ...

    async def log_in(self) -> Granted:
        """Ask for a token. Raises AuthenticationFailed, and what ``PolicyAgent.send`` raises."""
        ...


def account_of(told: str, login: WebUrl, configured: WebUrl | None) -> WebUrl:
    """Return the URL of the account, to which the token is sent: the ``configured`` one, else the one ``told``.

    A configured URL without a path gets the path of the one that was told. Raises AuthenticationFailed if the token
    would go to a host that the destination's table does not name, or unencrypted although the login was encrypted.
    """
    if configured is not None and configured.path.strip("/"):
        return configured
    try:
        url = WebUrl.parse(told)
    except DataMoverError:
        raise AuthenticationFailed(
            "the login told no URL of the account's storage; set storage_url to that of the account"
        ) from None
    if configured is not None:
        return WebUrl(configured.scheme, configured.host, configured.port, url.path, None)
    if url.host != login.host or (login.scheme, url.scheme) == ("https", "http"):
        raise AuthenticationFailed(
            f"the login tells that the storage is at {url.scheme}://{url.authority}, which the configuration does not "
            "name, and the token is sent to no other host than its own; if that is the right one, set storage_url"
        )
    return WebUrl(url.scheme, url.host, url.port, url.path, None)
