"""The declaration of the protocol "dav": its URLs and options."""

from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from datamover.config.types import Size, within
from datamover.errors import DataMoverError
from datamover.protocols.base import Ability
from datamover.protocols.dav.address import SCHEMES, DavAddress, decoded
from datamover.protocols.http_place.agent import agent_for
from datamover.protocols.object_store.limits import S3_LIMITS
from datamover.protocols.place import DestinationPool, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.protocols.tls.options import TlsOptions
from datamover.security.secret_files import SecretPath
from datamover.web.paths import LONGEST_NAME

ABILITIES = frozenset(
    {
        Ability.READ,
        Ability.WRITE,
        Ability.LIST,
        Ability.RESUME,
        Ability.REPLACE,
        Ability.REMOVE,
        Ability.SET_MODIFIED,
        Ability.FREE_SPACE,
    }
)

_EXPECTED = 'expected davs://HOST[:PORT]/PATH, or dav:// without TLS, such as "davs://cloud.example.org/dav/portal"'


class DavOptions(TlsOptions):
    """The login, and how large files are sent."""

    username: str | None = None
    password_file: SecretPath | None = None
    token_file: SecretPath | None = None
    chunk_size: Annotated[Size, within("a size from 5MiB to 5GiB", least=S3_LIMITS.least, most=S3_LIMITS.largest)] = (
        16 * 2**20
    )

    @model_validator(mode="after")
    def _has_login(self) -> Self:
        pair = (self.username is not None, self.password_file is not None)
        if pair[0] != pair[1]:
            raise ValueError("expected username and password_file together")
        if all(pair) and self.token_file is not None:
            raise ValueError("expected username and password_file, or token_file, and not both")
        if self.username is not None and (not self.username.isprintable() or not self.username):
            raise ValueError("expected a username that can be printed")
        if self.username is not None and ":" in self.username:
            raise ValueError("expected a username without ':' (RFC 7617)")
        return self


class DavProtocol:
    """``protocols.place.PlaceProtocol`` of collections on web servers."""

    name: ClassVar[str] = "dav"
    schemes: ClassVar[tuple[str, ...]] = tuple(SCHEMES)
    other_schemes: ClassVar[tuple[str, ...]] = ("webdav", "webdavs")
    abilities: ClassVar[frozenset[Ability]] = ABILITIES
    counts_arriving: ClassVar[bool] = False
    longest_name: ClassVar[int] = LONGEST_NAME
    options: ClassVar[type[ProtocolOptions]] = DavOptions

    def check_url(self, url: str) -> None:
        """Raise ValueError unless the URL is dav[s]://HOST[:PORT][/PATH]."""
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError(f"{_EXPECTED}; the name of the user goes into username")
        try:
            parts = urlsplit(url)
            address = DavAddress.parse(url)
        except (ValueError, DataMoverError):
            raise ValueError(_EXPECTED) from None
        if parts.scheme.lower() not in SCHEMES or "?" in url or "#" in url:
            raise ValueError(_EXPECTED)
        segments = decoded(parts.path).split("/")
        if not {".", ".."}.isdisjoint(segments) or "\0" in decoded(address.root.path):
            raise ValueError(f"{_EXPECTED}, with no '.' or '..' in it")

    def root(self, url: str) -> str:
        return DavAddress.parse(url).path

    def host(self, url: str) -> str | None:
        return DavAddress.parse(url).root.host

    def user(self, url: str) -> str | None:
        return None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool; it connects when first used."""
        from datamover.protocols.dav.login import LoginFiles
        from datamover.protocols.dav.pool import DavPool

        self.check_url(settings.url)
        address = DavAddress.parse(settings.url)
        agent = agent_for(settings, [address.root.text], options.tls(settings.name, reactor.seconds), reactor)
        login = LoginFiles(options.username, options.password_file, options.token_file)
        return DavPool(agent, address, login, options.chunk_size, settings.name, ABILITIES, reactor)


DAV: PlaceProtocol = DavProtocol()
