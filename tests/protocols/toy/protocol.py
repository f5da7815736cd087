"""What the protocol "toy" declares: its URLs and its options; and the pool of one bucket."""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from datamover.errors import AuthenticationFailed, Scope
from datamover.protocols.base import Ability, Lack
from datamover.protocols.place import PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.security import secret_files
from datamover.security.secret_files import SecretPath
from tests.protocols.toy.client import ToyClient, ToyRefusals
from tests.protocols.toy.place import ToyPlace
from tests.protocols.toy.store import STORES, ObjectStore, Refused

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
    }
)


class ToyOptions(ProtocolOptions):
    """Who logs in."""

    access_key: str
    seal_file: SecretPath
    """Holds the secret that belongs to the key."""


class ToyPool:
    """``protocols.place.DestinationPool`` of one prefix of a bucket."""

    lacks: Sequence[Lack] = ()

    def __init__(self, store: ObjectStore, prefix: str, settings: PlaceSettings, options: ToyOptions) -> None:
        self._store = store
        self._name = settings.name
        self._options = options
        lacks = frozenset(Ability) - ABILITIES
        self._places = {
            side: ToyPlace(ToyClient(store, prefix, ToyRefusals(settings.name, side), self._log_in), lacks)
            for side in (Scope.SOURCE, Scope.DESTINATION)
        }
        self._logged_in = False

    def at(self, side: Scope) -> ToyPlace:
        return self._places[side]

    async def connect(self) -> None:
        await self._log_in(Scope.DESTINATION)

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _log_in(self, side: Scope) -> None:
        if self._logged_in:
            return
        try:
            secret = secret_files.read(self._options.seal_file).decode().strip()
            await self._store.log_in(self._options.access_key, secret)
        except (Refused, secret_files.Unusable) as error:
            raise AuthenticationFailed(f"destination {self._name!r} refuses the login: {error}", scope=side) from error
        self._logged_in = True


class Toy:
    """``protocols.place.PlaceProtocol`` of prefixes in buckets: ``toy://HOST/PREFIX``."""

    name: ClassVar[str] = "toy"
    schemes: ClassVar[tuple[str, ...]] = ("toy",)
    other_schemes: ClassVar[tuple[str, ...]] = ("toys",)
    abilities: ClassVar[frozenset[Ability]] = ABILITIES
    counts_arriving: ClassVar[bool] = False
    longest_name: ClassVar[int] = 1000
    options: ClassVar[type[ProtocolOptions]] = ToyOptions

    def check_url(self, url: str) -> None:
        if not urlsplit(url).hostname:
            raise ValueError("expected toy://HOST/PREFIX")

    def root(self, url: str) -> str:
        return "/" + urlsplit(url).path.strip("/")

    def host(self, url: str) -> str | None:
        return urlsplit(url).hostname

    def user(self, url: str) -> None:
        return None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> ToyPool:
        store = STORES.setdefault(self.host(settings.url) or "", ObjectStore())
        return ToyPool(store, self.root(settings.url).strip("/"), settings, options)


TOY: PlaceProtocol = Toy()
