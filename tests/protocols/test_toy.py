"""The conformance suite over the protocol "toy", and that nothing but its own package had to be touched to add it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.place import DestinationPool, Place, PlaceProtocol
from datamover.protocols.upload import Upload
from tests.protocols.conformance import Conformance, Outside, Premises, settings
from tests.protocols.toy import TOY
from tests.protocols.toy.protocol import ABILITIES, ToyOptions
from tests.protocols.toy.store import STORES, Object, ObjectStore

CHECKOUT = Path(__file__).parents[2]
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


ADDED = """
import json, sys
from pathlib import Path

import datamover.protocols
from tests.protocols.toy import TOY

datamover.protocols.PLACES = (*datamover.protocols.PLACES, TOY)

from twisted.internet import reactor

from datamover.config.load import load
from datamover.errors import ConfigError, UnsupportedScheme
from datamover.requests.files import Rules, text_source
from datamover.runtime.snapshot import Runtime
from datamover.web.url import WebUrl

file, secret = Path(sys.argv[1]), Path(sys.argv[2])
runtime = Runtime.build(load(file), reactor)
told = [runtime.registry.describe("bucket")]
for scheme in ("toy", "toys", "tome"):
    try:
        text_source(f"{scheme}://store/f", "source", Rules("me", {"bucket": 255}, None, WebUrl.parse, 10, 5))
    except UnsupportedScheme as error:
        told.append(error.message)
secret.chmod(0o644)
try:
    Runtime.build(load(file), reactor)
except ConfigError as error:
    told.append(error.message)
print(json.dumps(told))
"""
"""A process whose tuple of protocols names one more; nothing else of it is changed."""


def test_added_by_one_name(tmp_path: Path, secret: Path) -> None:
    """A protocol that the tuple names is configured, described, told of to who names its files by URL, and guarded."""
    file = tmp_path / "datamover.toml"
    file.write_text(
        f'[service]\ndata_directory = "{tmp_path}/data"\n'
        f'[destinations.bucket]\nurl = "{URL}"\naccess_key = "me"\nseal_file = "{secret}"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", ADDED, str(file), str(secret)], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    described, by_scheme, by_other_scheme, unknown, exposed = json.loads(done.stdout)
    assert described["protocol"] == "toy"
    assert set(described["abilities"]) == {ability.value for ability in ABILITIES}
    for message, scheme in ((by_scheme, "toy"), (by_other_scheme, "toys")):
        assert f"{scheme}:// sources are not read by URL: name the registered place" in message
    assert "registered place" not in unknown
    assert exposed.startswith(f"{file}: destinations.bucket.seal_file: {secret} has permissions 0644")


@pytest.mark.parametrize("seam", [PlaceProtocol, DestinationPool, Place, Upload])
def test_the_page_tells_every_member(seam: type) -> None:
    """docs/protocols.md tells what each member of the seams is for."""
    told = set(re.findall(r"`(\w+)`", (CHECKOUT / "docs/protocols.md").read_text()))
    members = {name for name in (*vars(seam), *seam.__annotations__) if not name.startswith("_")}
    assert members
    assert members <= told


def test_the_page_names_what_there_is() -> None:
    """Every file and folder that docs/protocols.md names is there."""
    paths = re.findall(r"`((?:datamover|tests|docs)/[\w/.]+)`", (CHECKOUT / "docs/protocols.md").read_text())
    assert len(paths) > 8
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []
