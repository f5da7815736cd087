"""The errors of S3 services: each names the side and says what a person can do."""

import re
from dataclasses import dataclass
from typing import ClassVar

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.http.answers import REDIRECTS
from datamover.protocols.http_place import refused as http_place
from datamover.protocols.http_place.refusals import HttpRefusals
from datamover.protocols.s3.address import BucketAddress
from datamover.protocols.s3.service import CIRCLE, PARTS_REFUSED, S3Refused

_LOGIN = {
    "ExpiredToken": "the session token has expired; renew session_token_file, or credentials_file",
    "InvalidToken": "the session token is not valid; check session_token_file, or credentials_file",
    "TokenRefreshRequired": "the session token has expired; renew session_token_file, or credentials_file",
    "InvalidAccessKeyId": "the service does not know access_key_id",
    "SignatureDoesNotMatch": "the secret in secret_key_file is not that of access_key_id",
    "AuthFailure": "the key is not accepted; check access_key_id and secret_key_file",
    "UserSuspended": "the user of the key is suspended; ask the administrator of the service",
    "NotSignedUp": "the account of the key is not signed up for S3",
    "AccountProblem": "there is a problem with the account of the key; ask the provider",
}
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_BUSY = frozenset({"SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException"})
_UNAVAILABLE = (
    ", or cannot serve any; if that lasts, have its administrator look whether disks are full or servers down"
)
_FULL = frozenset({"InsufficientStorage", "XMinioStorageFull", "StorageFull", "InsufficientCapacity"})
_QUOTA = frozenset({"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "QuotaExceededException"})
_MAYBE_QUOTA = frozenset({"EntityTooLarge", "AccessDenied"})
"""Swift's codes for "Upload exceeds quota."."""
_DAMAGED = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
)
_GONE = frozenset({"NoSuchUpload", *PARTS_REFUSED})
_MALFORMED = frozenset({"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"})
_ELSEWHERE = frozenset({"PermanentRedirect", "TemporaryRedirect", "Redirect", *_MALFORMED})
_OTHER_REGION = "IllegalLocationConstraintException"
_AMAZON = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")
_FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled"})
_INVALID = {
    "KeyTooLongError": "its key, with the destination's prefix, has more bytes than the service takes",
    "KeyTooLong": "its key, with the destination's prefix, has more bytes than the service takes",
    "InvalidURI": "its name cannot be a key: the service refuses it",
    "InvalidObjectName": "its name cannot be a key: the service refuses it",
    "EntityTooLarge": "it is larger than the service takes",
    "XMinioInvalidObjectName": "its name cannot be a key: the service refuses it",
    "InvalidStorageClass": "the service does not know storage_class",
    "InvalidObjectState": "its storage class keeps it archived: have the administrator restore it first",
    "KMS.NotFoundException": "the service does not know the key in encryption_key_id",
    "KMS.DisabledException": "the key in encryption_key_id is disabled",
}


@dataclass(frozen=True, slots=True)
class S3Refusals(HttpRefusals):
    """The errors of the destination ``name``, whose bucket is at ``address``, as it is used on ``side``."""

    holder: ClassVar[str] = "service"
    address: BucketAddress

    def met(self, error: DataMoverError) -> DataMoverError:
        met = HttpRefusals.met(self, error)
        if self.address.path_style or not isinstance(error, errors.ConnectFailed | errors.TLSFailed):
            return met
        hint = f"path_style = true has {self.address.endpoint.host} asked instead"
        return met.saying(met.message, full=f"{met.full}; {hint}")

    def _of(self, refusal: http_place.Refused, path: str) -> DataMoverError:
        what, code, status, side = self.what(path), refusal.code, refusal.status, self.side
        here = f"destination {self.name!r}"
        if code == "NoSuchBucket":
            kind = errors.SourceNotFound if side is Scope.SOURCE else errors.DestinationInvalid
            return kind(f"{here}: its bucket does not exist; datamover makes no buckets: have it made", scope=side)
        if code in _LOGIN:
            return errors.AuthenticationFailed(f"{here}: the login is refused: {_LOGIN[code]}", scope=side)
        if code in _CLOCK:
            return errors.AuthenticationFailed(
                f"{here}: the clocks differ by more than the service allows: it says {refusal.date or 'no time'}; "
                "set the clock of this machine",
                scope=side,
            )
        if code == CIRCLE:
            return errors.ServerError(f"{here}: the service redirects in a circle; ask its administrator", scope=side)
        if code in _ELSEWHERE or code == _OTHER_REGION or status in REDIRECTS:
            return self._elsewhere(refusal)
        if code in _BUSY or code == "ServiceUnavailable" or status in (429, 503):
            # Swift answers so if its disks are full or away.
            doubt = "" if code in _BUSY or refusal.retry_after is not None else _UNAVAILABLE
            return errors.RateLimited(
                f"{here}: the service asks for fewer requests{doubt}", scope=side, retry_after=refusal.retry_after
            )
        if code in _QUOTA or (code in _MAYBE_QUOTA and "quota" in refusal.said.lower()):
            return errors.NoSpace(f"{here}: its quota is used up; raise it or free space", scope=side)
        if "cap exceeded" in refusal.said.lower():
            return self._capped(refusal)
        if code in _FULL or status == 507:
            return errors.NoSpace(f"{here}: the service has no room left", scope=side)
        if code in _INVALID:
            verb = "read" if side is Scope.SOURCE or code == "InvalidObjectState" else "taken"
            return self.unusable(path, f"is not {verb}: {_INVALID[code]}")
        if status == 413:
            why = "a proxy before the service takes no request of that size; have that changed, or lower part_size"
            return self.unusable(path, f"is not taken: {why}")
        if code in _DAMAGED:
            return self.damaged(path, "what arrived is not what was sent: the service refuses its digest")
        if isinstance(refusal, S3Refused) and refusal.uneven:
            return errors.SizeMismatch(f"{what}: the service wants parts of one size; it is sent so next", scope=side)
        if isinstance(refusal, S3Refused) and refusal.most_parts is not None:
            return errors.SizeMismatch(
                f"{what}: the service takes {refusal.most_parts} parts of an upload; it is sent in larger ones next; "
                "for a source that tells no size, raise part_size",
                scope=side,
            )
        if code in _GONE:
            return self.gone(path)
        if code == "PreconditionFailed" or status == 412:
            return self.exists(path)
        if status == 404 and not code and (not path or side is Scope.DESTINATION):  # A service tells what is missing.
            kind = errors.SourceNotFound if side is Scope.SOURCE else errors.DestinationInvalid
            return kind(
                f"{here}: what answers there knows no such bucket, or is no S3 service; look at endpoint", scope=side
            )
        if code in ("NoSuchKey", "NoSuchVersion") or status == 404:
            return self.missing(path)
        if code in _FORBIDDEN or status in (401, 403):
            needed = refusal.permission if isinstance(refusal, S3Refused) else None
            verb = needed.verb if needed else "read" if side is Scope.SOURCE else "written"
            which = f"the permission {needed.name}" if needed else "the permission"
            return errors.forbidden(side, f"{what} may not be {verb}: have the administrator give the key {which}")
        if code in ("RequestTimeout", "RequestTimeoutException") or status == 408:
            return errors.ConnectionLost(f"{here}: the request took too long for the service", scope=side)
        if (
            status >= 500 or status < 300 or status in (409, 425)
        ):  # The answer to a completion is 200 with the error inside.
            return errors.ServerError(f"{what}: the service could not do it ({code or status})", scope=side)
        return errors.ServerError(
            f"{what}: the service, or a proxy before it, refuses the request ({code or status}); "
            "have its administrator look why",
            scope=side,
            retryable=False,
        )

    def _capped(self, refusal: http_place.Refused) -> DataMoverError:
        """Return the error for a cap that the account has reached (Backblaze B2, which says so with AccessDenied)."""
        here, stored = f"destination {self.name!r}", "storage cap" in refusal.said.lower()
        kind = errors.NoSpace if stored else errors.RateLimited
        which = "bytes that are stored" if stored else "requests or downloads of the day"
        return kind(
            f"{here}: the account has reached its cap of {which}: have the administrator raise it at the provider",
            scope=self.side,
        )

    def _elsewhere(self, refusal: http_place.Refused) -> DataMoverError:
        """Return the error for a request that belongs to another host, or had to be signed for another region."""
        region = refusal.region if isinstance(refusal, S3Refused) else None
        only = "the key is sent to the configured host alone"
        if region is not None:
            endpoint = (
                "leave endpoint out" if _AMAZON.search(self.address.endpoint.host) else "set endpoint to that region's"
            )
            why = f'its bucket is in another region, and {only}: set region = "{region}", and {endpoint}'
        elif refusal.code == _OTHER_REGION:
            why = f"its bucket is in another region, and {only}: look at region and endpoint"
        elif refusal.code in _MALFORMED:
            return errors.AuthenticationFailed(
                f"destination {self.name!r}: the service cannot read the signature; look at access_key_id and region",
                scope=self.side,
            )
        else:
            why = f"the service sends whoever asks to another address, and {only}: look at endpoint and path_style"
        kind = errors.SourceForbidden if self.side is Scope.SOURCE else errors.DestinationInvalid
        return kind(f"destination {self.name!r}: {why}", scope=self.side)
