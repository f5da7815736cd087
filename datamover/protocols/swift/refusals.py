"""The errors of Swift services: each names the side and says what a person can do."""

from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.http_place.refusals import HttpRefusals
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.swift.limits import LONGEST_NAME


@dataclass(frozen=True, slots=True)
class SwiftRefusals(HttpRefusals):
    """The errors of the destination ``name`` as it is used on ``side``."""

    holder: ClassVar[str] = "service"

    def check_name(self, path: str, name: str) -> None:
        """Raise an error if no service accepts an object's name."""
        try:
            size = len(name.encode("utf-8"))
        except UnicodeEncodeError:
            raise self.unusable(path, "is not taken: its name is not UTF-8") from None
        if size > LONGEST_NAME:
            raise self.unusable(
                path,
                f"is not taken: its name has {size:,} bytes with the prefix of the root; {LONGEST_NAME:,} is the most",
            )

    def unnameable(self, path: str, name: str) -> DataMoverError:
        return self.unusable(path, f"holds objects that no path can name, at {name!r}: rename them")

    def no_container(self) -> DataMoverError:
        return errors.forbidden(
            self.side,
            f"destination {self.name!r}: its container does not exist, and the login may not make it: have it made",
        )

    def no_account(self) -> DataMoverError:
        return errors.DestinationInvalid(
            f"destination {self.name!r}: what answers there knows no such account, or is no Swift; look at storage_url",
            scope=self.side,
        )

    def unseen(self, refusal: Refused, path: str) -> DataMoverError:
        """Return the error for a look that is forbidden, as it is to a login that may only write."""
        error = self.of(refusal, path)
        if self.side is Scope.SOURCE:
            return error
        told = f"{self.what(path)} may not be looked at: have the administrator let the login read the container, too"
        return error.saying(told, full=error.full.replace(error.message, told))

    def _of(self, refusal: Refused, path: str) -> DataMoverError:
        what, status, side = self.what(path), refusal.status, self.side
        here = f"destination {self.name!r}"
        if status == 401:
            return errors.AuthenticationFailed(
                f"{here}: the token is refused, and so is a new one; check storage_url and project", scope=side
            )
        if status == 403:
            verb = "read" if side is Scope.SOURCE else "written"
            return errors.forbidden(
                side, f"{what} may not be {verb}: have the administrator give the login a role in the project"
            )
        if status == 404:
            return self.missing(path)
        if status == 412:
            return self.exists(path)
        if status == 413 and "toolarge" in refusal.said.lower().replace(" ", ""):
            return self.unusable(path, "is not taken: it is larger than the service takes")
        if status == 413:
            return errors.NoSpace(
                f"{here}: a quota of its container, of its segments' container or of its account is used up; "
                "raise it or free space",
                scope=side,
            )
        if status == 422:
            return self.damaged(path, "what arrived is not what was sent: the service refuses its digest")
        if status in (429, 498) or (status == 503 and refusal.retry_after is not None):
            return errors.RateLimited(
                f"{here}: the service asks for fewer requests", scope=side, retry_after=refusal.retry_after
            )
        if status == 507:
            return errors.NoSpace(f"{here}: the service has no room left", scope=side)
        if status in (408, 499):
            return errors.ConnectionLost(f"{here}: the request took too long for the service", scope=side)
        if status == 409:
            return errors.ServerError(f"{what}: segments of it are missing, or it is being changed", scope=side)
        if status == 503 and side is Scope.DESTINATION:
            # The answer does not tell these apart: a full object server's own answer is not passed on.
            return errors.ServerError(
                f"{what}: the service could not do it ({status}): have its administrator look whether disks are full "
                "or object servers down",
                scope=side,
            )
        if status >= 500 or status < 300 or status == 425:
            return errors.ServerError(f"{what}: the service could not do it ({status})", scope=side)
        return errors.ServerError(
            f"{what}: the service, or a proxy before it, refuses the request ({status}); "
            "have its administrator look why",
            scope=side,
            retryable=False,
        )
