"""The declaration of the protocol "s3": its URLs and options."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from datamover.config.types import Size, within
from datamover.errors import ConfigError, DataMoverError
from datamover.protocols.base import Ability
from datamover.protocols.http_place.agent import agent_for
from datamover.protocols.object_store.limits import S3_LIMITS
from datamover.protocols.object_store.urls import check_prefix, container_of, prefix_of
from datamover.protocols.place import DestinationPool, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.protocols.s3.address import LONGEST_KEY, BucketAddress, amazon
from datamover.protocols.tls.options import TlsOptions
from datamover.security.secret_files import SecretPath
from datamover.web.url import WebUrl

ABILITIES = frozenset(
    {
        Ability.READ,
        Ability.WRITE,
        Ability.LIST,
        Ability.RESUME,
        Ability.REPLACE,
        Ability.REPLACE_ATOMICALLY,
        Ability.REMOVE,
        Ability.SET_MODIFIED,
        Ability.FLUSH,
        Ability.WRITE_WIDE,
    }
)

_EXPECTED = 'expected s3://BUCKET or s3://BUCKET/PREFIX, such as "s3://datasets/portal"'
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WORD = re.compile(r"[\x21-\x7e]{1,2048}")


def _endpoint(value: str) -> str:
    try:
        url = WebUrl.parse(value)
    except DataMoverError:
        url = None
    if url is None or url.query is not None:
        raise ValueError('expected the address of an S3 service, such as "https://s3.example.org"')
    return value


def _region(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError('expected the name of a region, such as "us-east-1"')
    return value


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError("expected one word of printable ASCII")
    return value


Word = Annotated[str, AfterValidator(_word)]


class S3Options(TlsOptions):
    """The service of the bucket, the signing key, and how objects are stored."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """None: Amazon's in the region."""
    region: Annotated[str, AfterValidator(_region)] = "us-east-1"
    access_key_id: Word | None = None
    secret_key_file: SecretPath | None = None
    session_token_file: SecretPath | None = None
    credentials_file: SecretPath | None = None
    """In place of these three."""
    profile: Word = "default"
    """Of ``credentials_file``."""
    path_style: bool | None = Field(default=None, strict=True)
    """None: true if an endpoint is given."""
    part_size: Annotated[Size, within("a size from 5MiB to 5GiB", least=S3_LIMITS.least, most=S3_LIMITS.largest)] = (
        16 * 2**20
    )
    storage_class: Word | None = None
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    encryption_key_id: Word | None = None
    md5_etags: bool = Field(default=True, strict=True)
    """Whether ETags that look like MD5s are the MD5s of what is stored."""

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.credentials_file is None:
            if self.access_key_id is None or self.secret_key_file is None:
                raise ValueError("expected access_key_id and secret_key_file, or credentials_file")
            if "profile" in self.model_fields_set:
                raise ValueError("expected credentials_file beside profile")
        elif beside := sorted({"access_key_id", "secret_key_file", "session_token_file"} & self.model_fields_set):
            raise ValueError(f"expected no {beside[0]} beside credentials_file, which holds the whole key")
        return self

    @model_validator(mode="after")
    def _has_encryption(self) -> Self:
        if self.encryption_key_id is not None and self.encryption not in ("aws:kms", "aws:kms:dsse"):
            raise ValueError('expected encryption = "aws:kms" beside encryption_key_id')
        return self


class S3Protocol:
    """``protocols.place.PlaceProtocol`` of prefixes in buckets."""

    name: ClassVar[str] = "s3"
    schemes: ClassVar[tuple[str, ...]] = ("s3",)
    other_schemes: ClassVar[tuple[str, ...]] = ("s3a", "s3n")
    abilities: ClassVar[frozenset[Ability]] = ABILITIES
    counts_arriving: ClassVar[bool] = False
    longest_name: ClassVar[int] = LONGEST_KEY
    options: ClassVar[type[ProtocolOptions]] = S3Options

    def check_url(self, url: str) -> None:
        """Raise ValueError unless the URL is s3://BUCKET[/PREFIX]."""
        if urlsplit(url).scheme != "s3" or not _BUCKET.fullmatch(container_of(url)) or "?" in url or "#" in url:
            raise ValueError(_EXPECTED)
        check_prefix(url, _EXPECTED)

    def root(self, url: str) -> str:
        return f"/{prefix_of(url)}"

    def host(self, url: str) -> str:
        """Return "", since the host of the service is an option."""
        return ""

    def user(self, url: str) -> str | None:
        return None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool; it connects when first used."""
        from datamover.protocols.s3.credentials import KeyFiles, SharedFile
        from datamover.protocols.s3.objects import ARCHIVED, Storing
        from datamover.protocols.s3.pool import S3Pool

        self.check_url(settings.url)
        if settings.read_back and options.storage_class in ARCHIVED:
            raise ConfigError(
                f'destinations.{settings.name}.verify: "read-back": expected "size" beside storage_class = '
                f'"{options.storage_class}", whose objects are read only once they were restored'
            )
        endpoint = WebUrl.parse(options.endpoint or amazon(options.region))
        path_style = options.endpoint is not None if options.path_style is None else options.path_style
        address = BucketAddress(endpoint, container_of(settings.url), path_style)
        urls = [address.url("").text, endpoint.text]
        agent = agent_for(settings, urls, options.tls(settings.name, reactor.seconds), reactor, below=True)
        key = (
            KeyFiles(options.access_key_id, options.secret_key_file, options.session_token_file)
            if options.credentials_file is None
            else SharedFile(options.credentials_file, options.profile)
        )
        return S3Pool(
            agent,
            address,
            options.region,
            prefix_of(settings.url),
            key,
            Storing(options.storage_class, options.encryption, options.encryption_key_id),
            options.part_size,
            options.md5_etags,
            settings.name,
            ABILITIES,
            reactor,
        )


S3: PlaceProtocol = S3Protocol()
