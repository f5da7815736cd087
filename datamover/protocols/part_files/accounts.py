"""The URLs of accounts on file servers: scheme://user@host[:port]/path."""

import posixpath
from typing import ClassVar
from urllib.parse import unquote, urlsplit


class AccountUrls:
    """The methods of ``protocols.place.PlaceProtocol`` that are about URLs of destinations."""

    schemes: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]
    """What such a URL looks like, as a clause that begins with "expected"."""
    unusable: ClassVar[str] = "\0"
    """Characters that no path may have."""

    def check_url(self, url: str) -> None:
        """Raise ValueError for a URL of another form, and for one with a password."""
        parts = urlsplit(url)
        if parts.password is not None:
            raise ValueError(f"{self.expected}; a password belongs in password_file")
        try:
            usable = bool(parts.hostname and parts.username) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.scheme not in self.schemes or "?" in url or "#" in url:
            raise ValueError(self.expected)
        path = self.path(url)
        if ".." in path.split("/") or any(character in path for character in self.unusable):
            raise ValueError(f"{self.expected}, with no '..' and no control character in it")

    def path(self, url: str) -> str:
        """Return a URL's path, decoded; bytes that are not UTF-8 as lone surrogates."""
        return unquote(urlsplit(url).path, errors="surrogateescape") or "/"

    def root(self, url: str) -> str:
        return "/" + posixpath.normpath(self.path(url)).lstrip("/")

    def host(self, url: str) -> str | None:
        return urlsplit(url).hostname

    def user(self, url: str) -> str | None:
        name = urlsplit(url).username
        return None if name is None else unquote(name)
