"""The conformance suite over the protocol "toy", and that nothing but its own package had to be touched to add it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.protocols.conformance import Conformance, Outside, Premises, settings
from tests.protocols.toy import TOY
from tests.protocols.toy.protocol import ToyOptions
from tests.protocols.toy.store import STORES, Object, ObjectStore

URL = "toy://store/a/prefix"


class Bucket:
    """``conformance.Outside`` of a bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, path: str) -> bytes | None:
        found = self._store.objects.get(f"a/prefix/{path}")
        return found.data if found else None

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        self._store.objects[f"a/prefix/{path}"] = Object(data, modified)

    def names(self, directory: str = "") -> list[str]:
        prefix = f"a/prefix/{directory}/" if directory else "a/prefix/"
        keys = [key.removeprefix(prefix) for key in self._store.objects if key.startswith(prefix)]
        return sorted({key.partition("/")[0] for key in keys})

    def uploads(self) -> int:
        return len(self._store.uploads)


class ToyPremises(Premises):
    """A prefix in a store of its own."""

    def __init__(self, secret: Path) -> None:
        STORES.clear()
        self.pool = TOY.open(settings(URL), ToyOptions(access_key="me", seal_file=secret), reactor)

    @property
    def outside(self) -> Outside:
        return Bucket(STORES["store"])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that holds the secret of a login."""
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    return path


class TestToy(Conformance):
    @pytest.fixture
    def premises(self, secret: Path) -> Iterator[Premises]:
        premises = ToyPremises(secret)
        yield premises
        pytest_twisted.blockon(Deferred.fromCoroutine(premises.pool.close()))
