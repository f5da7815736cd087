"""Rows that move a file to vsftpd and back, beside lftp, with and without TLS."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.field import Field, run
from benchmarks.moving import Amount, alternate, size_text
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from tests.servers.certificates import Authority
from tests.servers.ftp import PASSWORD, USER, FtpServer, Vsftpd


def put(scale: Scale, *, secure: bool) -> Result:
    """The local disk to FTP."""
    with _field(secure) as (field, server):
        size = scale.bytes(2**30)
        source = field.file(field.here / "source.bin", size)
        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": "here", "path": "source.bin"}, "destination": "ftp", "path": "moved.bin"}
            ),
            "lftp": lambda: _lftp(server, f"put {source} -o {server.root}/moved.bin"),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    title = f"local → FTP{' with TLS' * secure}, {size_text(size)}, loopback"
    return Result("ftps-put" if secure else "ftp-put", title, "MB/s", values, [Goal("lftp", 1.0)])


def get(scale: Scale, *, secure: bool) -> Result:
    """FTP to the local disk."""
    with _field(secure) as (field, server):
        size = scale.bytes(2**30)
        source, target = field.file(server.root / "source.bin", size), field.here / "moved.bin"

        def lftp() -> None:
            _lftp(server, f"get {source} -o {target}")
            field.flush()

        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": "ftp", "path": "source.bin"}, "destination": "here", "path": "moved.bin"}
            ),
            "lftp": lftp,
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    title = f"FTP{' with TLS' * secure} → local, {size_text(size)}, loopback"
    return Result("ftps-get" if secure else "ftp-get", title, "MB/s", values, [Goal("lftp", 1.0)])


@contextmanager
def _field(secure: bool) -> Iterator[tuple[Field, FtpServer]]:
    with tempfile.TemporaryDirectory(prefix="datamover-bench-", dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = Vsftpd(directory, Authority(directory) if secure else None)
        server.start()
        options = "".join(f'{key} = "{value}"\n' for key, value in server.options.items())
        try:
            with Field(f'[destinations.ftp]\nurl = "{server.url}"\n{options}') as field:
                field.roots.append(server.root)
                yield field, server
        finally:
            server.stop()


def _lftp(server: FtpServer, command: str) -> None:
    if server.authority is None:
        settings = "set ftp:ssl-allow no"
    else:
        settings = f"set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ssl:ca-file {server.authority.file}"
    run("lftp", "-c", f"{settings}; open -u {USER},{PASSWORD} -p {server.port} ftp://127.0.0.1; {command}")
