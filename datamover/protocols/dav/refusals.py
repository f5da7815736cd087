"""The errors of WebDAV servers: each names the side and says what a person can do."""

from dataclasses import dataclass

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.dav.documents import TOO_EARLY
from datamover.protocols.dav.login import best_of, challenges_of
from datamover.protocols.dav.service import DavRefused
from datamover.protocols.http.answers import in_words
from datamover.protocols.http_place import refused as http_place
from datamover.protocols.http_place.refusals import HttpRefusals

TOO_LARGE = 413
LOCKED = 423
FULL = 507
LONGEST = 255
"""Bytes of the longest name on most disks."""
TOO_LONG = frozenset({400, 403, 404, 409, 414, 431, 500})
"""The statuses by which servers refuse a name that is too long."""


@dataclass(frozen=True, slots=True)
class DavRefusals(HttpRefusals):
    """The errors of the destination ``name`` as it is used on ``side``."""

    def again(self, path: str) -> DataMoverError:
        return errors.SizeMismatch(
            f"{self.what(path)} cannot be continued: the server takes files whole; it is sent from its beginning",
            scope=self.side,
        )

    def early(self, path: str, *, measured: bool) -> DataMoverError:
        """Return the error for an answer before all of a file was sent; ``measured``: the server was told its size."""
        if measured:
            what = f"{self.what(path)}: the server answered before all of the file was sent"
            return errors.ConnectionLost(what, scope=self.side)
        return errors.DestinationInvalid(
            f"destination {self.name!r}: the source does not report the file's size, and the server accepts no file "
            "without it"
        )

    def another(self, path: str, size: int | None, given: int | None, codings: tuple[str, ...]) -> DataMoverError:
        """Return the error for an answer that is not the file of ``size`` bytes that the server lists."""
        if codings:
            return self.unusable(
                path,
                f"was sent {', '.join(codings)}-compressed although the file itself was asked for: have the server "
                "honour Accept-Encoding: identity",
            )
        return errors.ServerError(
            f"{self.what(path)}: the server tells {size} bytes of it and gives {given}: is that a page, as of a login?",
            scope=self.side,
        )

    def unprocessed(self, path: str) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the server is at work on it still, such as looking for viruses", scope=self.side
        )

    def unmakeable(self, path: str, refusal: DavRefused) -> DataMoverError:
        """Return the error for a collection that cannot be made, such as a root in a directory that is missing."""
        if path or not (refusal.missing or refusal.status == 409):
            return self.of(refusal, path)
        return self.unusable(
            path, "is the destination's root, which does not exist, and neither does the directory above it; make that"
        )

    def _of(self, refusal: http_place.Refused, path: str) -> DataMoverError:
        what, status, side = self.what(path), refusal.status, self.side
        here = f"destination {self.name!r}"
        if isinstance(refusal, DavRefused) and refusal.location is not None:
            kind = errors.SourceForbidden if side is Scope.SOURCE else errors.DestinationInvalid
            return kind(
                f"{here}: the server redirects to another address, and the login is sent to the configured one alone; "
                "have the administrator name that address in url",
                scope=side,
            )
        if status in TOO_LONG and (is_long(path) or status in (414, 431)):
            if side is Scope.SOURCE:
                return self.missing(path)
            return self.unusable(path, "has a name that is too long for the server; take a shorter one")
        if status in (401, 407):
            why = "the login is refused: check username and password_file, or token_file"
            offered = challenges_of(refusal.head)
            schemes = sorted({each.scheme for each in offered})
            if offered and best_of(offered) is None and {"basic", "bearer"}.isdisjoint(schemes):
                why = (
                    f"the server wants a login of another kind ({', '.join(schemes)}) than Basic, Digest of requests "
                    "without their bodies, or a bearer token: have it offer one of these"
                )
            return errors.AuthenticationFailed(f"{here}: {why}", scope=side)
        if status == 403:
            verb = "read" if side is Scope.SOURCE else "written"
            return errors.forbidden(side, f"{what} may not be {verb}: have the administrator give the permission")
        if refusal.missing and path and side is Scope.DESTINATION:
            return self.unusable(
                path,
                f"is not taken: the server says that nothing is there ({status}), though its directory is; IIS says so "
                "of files above maxAllowedContentLength (30 MB), and of names and endings that its request filtering "
                "refuses: have that changed",
            )
        if refusal.missing:
            return self.missing(path)
        if status == 412:
            return self.exists(path)
        if status == TOO_LARGE:
            return self.unusable(path, "is larger than the server takes; raise its limit for the bodies of requests")
        if status == LOCKED:
            # A lock ends by itself (RFC 4918 6.6), or the server's own does, which some put on a file at work.
            wait = refusal.retry_after or 0.0
            return errors.ServerError(f"{what} is locked by somebody else there", scope=side, retry_after=wait)
        if status == FULL:
            return errors.NoSpace(f"{here}: its room or its quota is used up; raise it or free space", scope=side)
        if status == 408:
            return errors.ConnectionLost(f"{here}: the request took too long for the server", scope=side)
        if status == TOO_EARLY:
            return self.unprocessed(path)
        if status == 429 or (status == 503 and refusal.retry_after is not None):
            why = "the server asks for fewer requests"
            if status == 503:
                why = "the server is not available for now, as in maintenance, and asks to come again later"
            return errors.RateLimited(f"{here}: {why}", scope=side, retry_after=refusal.retry_after)
        if status in (405, 501):
            why = "is it read-only, or full, or does it not speak WebDAV?"
            return self.unusable(path, f"is not taken by the server ({in_words(status)}): {why}")
        if status == 409:
            return errors.ServerError(f"{what}: the server cannot do it now (409 Conflict)", scope=side)
        if status == 502:
            return errors.ServerError(
                f"{what}: the server could not do it (502 Bad Gateway): it is down behind a proxy, or the proxy has to "
                "rewrite the header Destination for it",
                scope=side,
            )
        if 400 <= status < 500:
            return self.unusable(path, f"is not taken by the server ({in_words(status)})")
        return errors.ServerError(f"{what}: the server could not do it ({in_words(status)})", scope=side)


def is_long(path: str) -> bool:
    """Tell whether a path has a name that is longer than most disks allow."""
    return any(len(name.encode("utf-8", "surrogateescape")) > LONGEST for name in path.split("/"))
