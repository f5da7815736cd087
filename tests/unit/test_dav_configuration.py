"""What a WebDAV destination's table may say, and the URLs and paths that are made of it."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from datamover.config.load import load
from datamover.errors import ConfigError
from datamover.protocols.dav import DAV
from datamover.protocols.dav.address import Cloud, DavAddress, cloud_of, segments_of
from datamover.registry.destinations import Registry


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('url = "davs:///path"', "expected davs://HOST"),
        ('url = "dav://h/a?b"', "expected davs://HOST"),
        ('url = "dav://h/a#b"', "expected davs://HOST"),
        ('url = "dav://h:99999/a"', "expected davs://HOST"),
        ('url = "dav://me@h/a"', "the name of the user goes into username"),
        ('url = "dav://h/a/../b"', "with no '.' or '..' in it"),
        ('url = "dav://h/a/%2e%2E/b"', "with no '.' or '..' in it"),
        ('url = "dav://h/a%00"', "with no '.' or '..' in it"),
        ('url = "dav://h/"\nusername = "me"', "expected username and password_file together"),
        ('url = "dav://h/"\npassword_file = "/p"', "expected username and password_file together"),
        ('url = "dav://h/"\nusername = "a:b"\npassword_file = "/p"', "expected a username without ':'"),
        (
            'url = "dav://h/"\nusername = "me"\npassword_file = "/p"\ntoken_file = "/t"',
            "expected username and password_file, or token_file",
        ),
        ('url = "dav://h/"\nchunk_size = "1MiB"', "expected a size from 5MiB to 5GiB"),
        ('url = "davs://h/"\nca_file = "/nowhere"', "expected a readable file of PEM certificates"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, table: str, words: str) -> None:
    """Each mistake is told with the file, the key and what was expected."""
    path = tmp_path / "datamover.toml"
    path.write_text(f"[destinations.cloud]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        Registry.from_config(load(path), Clock())
    assert caught.value.message.startswith(f"{path}: destinations.cloud")
    assert words in caught.value.message


def test_urls() -> None:
    """Host and root are what the URL says; names are encoded, all that a server could misread."""
    url = "davs://Cloud.example.org:8443/remote.php/dav/files/a%20user/"
    assert (DAV.host(url), DAV.root(url), DAV.user(url)) == (
        "cloud.example.org",
        "/remote.php/dav/files/a user",
        None,
    )
    address = DavAddress.parse(url)
    assert address.url("a b/%?#é\udcff").text == (
        "https://cloud.example.org:8443/remote.php/dav/files/a%20user/a%20b/%25%3F%23%C3%A9%FF"
    )
    assert address.url("", collection=True).path == "/remote.php/dav/files/a%20user/"
    assert DavAddress.parse("dav://h").url("").text == "http://h/"
    assert DavAddress.parse("dav://[::1]:80/").url("f").text == "http://[::1]/f"


@pytest.mark.parametrize(
    ("url", "cloud"),
    [
        ("davs://h/remote.php/dav/files/u", Cloud("", "u")),
        ("davs://h/nextcloud/remote.php/dav/files/u%20v/sub", Cloud("/nextcloud", "u%20v")),
        ("davs://h/remote.php/webdav/sub", Cloud("", "me")),
        ("davs://h/remote.php/dav/uploads/u", None),
        ("davs://h/public.php/webdav", None),
    ],
)
def test_clouds(url: str, cloud: Cloud | None) -> None:
    """A cloud is known by the form of its paths."""
    assert cloud_of(DavAddress.parse(url), "me") == cloud


@pytest.mark.parametrize(
    ("href", "segments"),
    [
        ("/dav/a%20b/", ("dav", "a b")),
        ("http://other.example.org/dav/%C3%bc", ("dav", "ü")),
        ("https://other.example.org", ()),
        ("/dav//x", ("dav", "x")),
        ("dav/x", ("dav", "x")),
        ("/dav/a%2Fb", ("dav", "a/b")),
        ("/dav/raw ü", ("dav", "raw ü")),
        ("/dav/100%", ("dav", "100%")),
        ("/dav/%FF", ("dav", "\udcff")),
    ],
)
def test_hrefs(href: str, segments: tuple[str, ...]) -> None:
    """Of an href the names of its path are taken, decoded."""
    assert segments_of(href) == segments
