"""Rows that move a large file to a WebDAV server, Apache, and back."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.field import Field
from benchmarks.moving import Amount, alternate, size_text
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from tests.servers.dav import PASSWORD, USERNAME, Apache, DavServer, give, running
from tests.servers.rclone import CURRENT


def put(scale: Scale) -> Result:
    """The local disk to WebDAV."""
    with _field() as (field, server):
        size = scale.bytes(2**30)
        source = field.file(field.here / "source.bin", size)
        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": "here", "path": "source.bin"}, "destination": "dav", "path": "moved.bin"}
            ),
            "rclone": lambda: field.rclone("copyto", str(source), "dav:moved.bin"),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
        assert (server.root / "moved.bin").stat().st_size == size
    return Result("dav-put", f"local → WebDAV (Apache), {size_text(size)}", "MB/s", values, [Goal("rclone", 1.2)])


def get(scale: Scale) -> Result:
    """WebDAV to the local disk."""
    with _field() as (field, server):
        size = scale.bytes(2**30)
        give(field.file(server.root / "source.bin", size))
        target = field.here / "moved.bin"

        def rclone() -> None:
            field.rclone("copyto", "dav:source.bin", str(target))
            field.flush()

        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": "dav", "path": "source.bin"}, "destination": "here", "path": "moved.bin"}
            ),
            "rclone": rclone,
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    return Result("dav-get", f"WebDAV (Apache) → local, {size_text(size)}", "MB/s", values, [Goal("rclone", 1.2)])


@contextmanager
def _field() -> Iterator[tuple[Field, DavServer]]:
    with running(Apache) as server:
        keys = "".join(f'{key} = "{value}"\n' for key, value in server.options.items())
        with Field(f'[destinations.dav]\nurl = "{server.url}"\n{keys}') as field:
            field.roots.append(server.root)
            hidden = subprocess.run([CURRENT, "obscure", PASSWORD], capture_output=True, text=True, check=True).stdout
            with field.rclone_config.open("a") as config:
                url = server.url.replace("dav:", "http:")
                config.write(
                    f"\n[dav]\ntype = webdav\nurl = {url}\nvendor = other\nuser = {USERNAME}\npass = {hidden}\n"
                )
            yield field, server
