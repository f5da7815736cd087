"""Rows that move files: the throughput of datamover's whole path and of the peers, measured in turns."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.field import FILES_AT_ONCE, OURS_AT_ONCE, Field, run
from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from datamover.engine.transfer.digest import MAIN

Ways = Mapping[str, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount that one turn moves, in the unit of the row."""

    number: float
    unit: str


def alternate(field: Field, ways: Ways, amount: Amount, rounds: int) -> dict[str, list[float]]:
    """Return the amount a second of every way in each round; each way gets one turn a round."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            field.clear()
            start = time.perf_counter()
            way()
            values[name].append(amount.number / (time.perf_counter() - start))
    return values


def get(scale: Scale, *, far: bool) -> Result:
    """SFTP to the local disk."""
    with Field() as field:
        size = scale.bytes(300e6 if far else 2**30)
        field.file(field.sshd.root / "source.bin", size)
        port = field.far_port if far else field.sshd.port
        remote = "far" if far else "there"
        source, target = field.sshd.root / "source.bin", field.here / "moved.bin"

        def openssh() -> None:
            field.sftp(port, f"get {source} {target}\n")
            field.flush()

        def rclone() -> None:
            field.rclone("copyto", f"{remote}:{source}", str(target))
            field.flush()

        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": remote, "path": "source.bin"}, "destination": "here", "path": "moved.bin"}
            ),
            "OpenSSH sftp": openssh,
            "rclone": rclone,
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    goals = [Goal("OpenSSH sftp", 6.0 if far else 1.4), Goal("rclone", 3.5 if far else 2.5)]
    title = f"SFTP → local, {size_text(size)}, {'50 ms RTT' if far else 'loopback'}"
    return Result("sftp-get-far" if far else "sftp-get", title, "MB/s", values, goals)


def put(scale: Scale, *, far: bool) -> Result:
    """The local disk to SFTP."""
    with Field() as field:
        size = scale.bytes(300e6 if far else 2**30)
        field.file(field.here / "source.bin", size)
        port = field.far_port if far else field.sshd.port
        remote = "far" if far else "there"
        source, target = field.here / "source.bin", field.sshd.root / "moved.bin"
        ways = {
            OURS: lambda: field.move(
                {"source": {"destination": "here", "path": "source.bin"}, "destination": remote, "path": "moved.bin"}
            ),
            "OpenSSH sftp": lambda: field.sftp(port, f"put {source} {target}\n"),
            "rclone": lambda: field.rclone("copyto", str(source), f"{remote}:{target}"),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    goals = [Goal("OpenSSH sftp", 3.0 if far else 1.3), Goal("rclone", 3.0 if far else 1.5)]
    title = f"local → SFTP, {size_text(size)}, {'50 ms RTT' if far else 'loopback'}"
    return Result("sftp-put-far" if far else "sftp-put", title, "MB/s", values, goals)


def http_get(scale: Scale) -> Result:
    """HTTP to the local disk, with the checksum of the request verified."""
    with Field() as field:
        size = scale.bytes(2**30)
        file = field.file(field.web_root / "source.bin", size)
        url, target = f"{field.nginx.url}/source.bin", str(field.here / "moved.bin")
        digest = _digest(file)

        def flushed(way: Callable[[], None]) -> Callable[[], None]:
            def both() -> None:
                way()
                field.flush()

            return both

        ways = {
            OURS: lambda: field.move(
                {"source": url, "destination": "here", "path": "moved.bin", "checksum": f"{MAIN}:{digest}"}
            ),
            "curl (unchecked)": flushed(lambda: run("curl", "-sSf", "-o", target, url)),
            "aria2 -x8": flushed(
                lambda: run("aria2c", "-q", "-x8", "-s8", "-d", str(field.here), "-o", "moved.bin", url)
            ),
            "rclone": flushed(lambda: field.rclone("copyto", "web:source.bin", target)),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    goals = [Goal("curl (unchecked)", 1.0), Goal("aria2 -x8", 1.2), Goal("rclone", 1.2)]
    return Result("http-get", f"HTTP → local, {size_text(size)}, sha256 checked", "MB/s", values, goals)


def http_put(scale: Scale) -> Result:
    """HTTP to SFTP."""
    with Field() as field:
        size = scale.bytes(2**30)
        field.file(field.web_root / "source.bin", size)
        url, target = f"{field.nginx.url}/source.bin", field.sshd.root / "moved.bin"
        ssh = " ".join(["ssh", *field.login("-p", field.sshd.port), f"{field.sshd.user}@127.0.0.1"])
        ways = {
            OURS: lambda: field.move({"source": url, "destination": "there", "path": "moved.bin"}),
            "rclone copyurl": lambda: field.rclone("copyurl", url, f"there:{target}"),
            "curl into ssh": lambda: run("sh", "-c", f"curl -sSf {url} | {ssh} 'cat > {target}'"),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    goals = [Goal("rclone copyurl", 1.5), Goal("curl into ssh", 1.0)]
    return Result("http-sftp", f"HTTP → SFTP, {size_text(size)}", "MB/s", values, goals)


def small(scale: Scale, *, remote: bool) -> Result:
    """Many small files in one job, HTTP to the local disk or to SFTP."""
    with Field(f"max_active = {OURS_AT_ONCE}\n[limits]\nper_source_host = {OURS_AT_ONCE}\n") as field:
        names = field.small_files(scale.count(5000))
        urls = [f"{field.nginx.url}/{name}" for name in names]
        place = "there" if remote else "here"
        target = (field.sshd.root if remote else field.here) / "moved"
        many = str(FILES_AT_ONCE)
        request = {
            "files": [{"source": url, "destination": place, "path": "moved/"} for url in urls],
        }
        ways: dict[str, Callable[[], None]] = {OURS: lambda: field.move(request)}
        if remote:
            ways["rclone --transfers 32"] = lambda: field.rclone(
                "copy", "--transfers", many, "web:small", f"there:{target}"
            )
            goals = [Goal("rclone --transfers 32", 1.0)]
        else:
            listed = field.directory / "urls"
            listed.write_text("".join(f"{url}\n" for url in urls))

            def aria2() -> None:
                run("aria2c", "-q", f"-j{many}", "--file-allocation=none", "-d", str(target), "-i", str(listed))
                field.flush()

            def rclone() -> None:
                field.rclone("copy", "--transfers", many, "web:small", str(target))
                field.flush()

            ways |= {"aria2 -j32": aria2, "rclone --transfers 32": rclone}
            goals = [Goal("aria2 -j32", 1.0), Goal("rclone --transfers 32", 0.5)]
        values = alternate(field, ways, Amount(len(names), "files/s"), scale.rounds)
        assert len(list(target.iterdir())) == len(names)
    title = f"{len(names):,} files of 10 kB in one job, HTTP → {'SFTP' if remote else 'local'}"
    return Result("small-sftp" if remote else "small-local", title, "files/s", values, goals)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, MAIN).hexdigest()


def size_text(size: int) -> str:
    """Return a file's size, for the title of a row."""
    return "1 GiB" if size == 2**30 else f"{size / 1e6:,.0f} MB"
