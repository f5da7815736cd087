"""The declaration of the protocol "ftp": its URLs and options."""

from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from datamover.protocols.base import Ability
from datamover.protocols.part_files.accounts import AccountUrls
from datamover.protocols.place import DestinationPool, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.protocols.tls.options import TlsOptions
from datamover.security.secret_files import SecretPath
from datamover.web.paths import LONGEST_NAME

PORTS = {"ftp": 21, "ftps": 990}
ABILITIES = frozenset(
    {
        Ability.READ,
        Ability.WRITE,
        Ability.LIST,
        Ability.RESUME,
        Ability.REPLACE,
        Ability.REPLACE_ATOMICALLY,
        Ability.REMOVE,
        Ability.SET_MODE,
        Ability.SET_MODIFIED,
        Ability.FREE_SPACE,
    }
)


class FtpOptions(TlsOptions):
    """The password, and whether there is TLS."""

    password_file: SecretPath | None = None
    """Read at every login."""
    demand: Literal["require", "none"] = Field(default="require", alias="tls")
    """Of ftp:// alone."""


class Ftp(AccountUrls):
    """``protocols.place.PlaceProtocol`` of accounts on FTP servers."""

    name: ClassVar[str] = "ftp"
    schemes: ClassVar[tuple[str, ...]] = ("ftp", "ftps")
    expected: ClassVar[str] = (
        'expected ftp://USER@HOST[:PORT]/PATH, such as "ftp://portal@ftp.example.org/incoming" (from where a login '
        'begins) or "ftp://portal@ftp.example.org//srv/in" (from the server\'s root), or ftps:// for TLS from the '
        "first byte"
    )
    unusable: ClassVar[str] = "\0\r\n"
    other_schemes: ClassVar[tuple[str, ...]] = ()
    abilities: ClassVar[frozenset[Ability]] = ABILITIES
    counts_arriving: ClassVar[bool] = True
    longest_name: ClassVar[int] = LONGEST_NAME
    options: ClassVar[type[ProtocolOptions]] = FtpOptions

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool; it connects when first used."""
        from datamover.protocols.ftp.client.login import Server
        from datamover.protocols.ftp.pool import FtpPool

        self.check_url(settings.url)
        parts = urlsplit(settings.url)
        implicit = parts.scheme == "ftps"
        secure = implicit or options.demand == "require"
        server = Server(
            host=parts.hostname or "",
            port=parts.port or PORTS[parts.scheme],
            user=self.user(settings.url) or "",
            password_file=options.password_file,
            implicit=implicit,
            tls=options.tls(settings.name, reactor.seconds) if secure else None,
            connect_timeout=settings.connect_timeout,
            idle_timeout=settings.idle_timeout,
        )
        # RFC 1738, 3.2.2, as curl and lftp read it: the first slash ends the host, a second one is the path's own.
        absolute, root = self.path(settings.url).startswith("//"), self.root(settings.url)
        return FtpPool(root if absolute else f"~{root}", server, settings, ABILITIES, reactor)


FTP: PlaceProtocol = Ftp()
