"""Real S3 services on 127.0.0.1, the strictest and the laxest: OpenStack Swift's s3api and ``rclone serve s3``."""

import os
import pwd
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import Session

from tests.servers.ports import free_port
from tests.servers.processes import Process

SCRIPTS = Path(sysconfig.get_path("scripts"))
BUCKET = "bucket"
_SERVERS = ("object", "container", "account")
_RINGS = """
import sys
from swift.common.ring import RingBuilder

for name, port in zip(("object", "container", "account"), sys.argv[1:]):
    builder = RingBuilder(4, 1, 1)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0, "meta": ""}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{name}.ring.gz")
"""
_SWIFT = """
[swift-hash]
swift_hash_path_prefix = a
swift_hash_path_suffix = b
[storage-policy:0]
name = one
default = yes
"""
_SERVER = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {configuration}
devices = {devices}
mount_check = false
workers = 0
disable_fallocate = true
log_level = WARNING
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {configuration}
workers = 0
log_level = WARNING
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test2_tester2 = testing .admin
user_admin_admin = admin .admin .reseller_admin
user_test_reader = testing
[filter:copy]
use = egg:swift#copy
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
[filter:slo]
use = egg:swift#slo
{more}
"""


class S3Account:
    """A user of a service with one bucket; ``boto`` reaches it past datamover."""

    access_key_id: str
    secret_key: str

    def __init__(self, port: int, secret_key_file: Path) -> None:
        self.port = port
        self.secret_key_file = secret_key_file

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_key_file": str(self.secret_key_file),
        }

    @cached_property
    def boto(self) -> Any:
        """Return botocore's client."""
        return Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )


class SwiftS3(S3Account):
    """Swift's user, as S3 has it."""

    access_key_id = "test:tester"
    secret_key = "testing"


class S3Server(S3Account, ABC):
    """A service and its user."""

    def __init__(self, directory: Path) -> None:
        super().__init__(free_port(), directory / "secret")
        self.directory = directory
        self.secret_key_file.write_text(self.secret_key)
        self.secret_key_file.chmod(0o600)
        self._processes: list[Process] = []

    @abstractmethod
    def start(self) -> None:
        """Start it; returns when it answers."""

    def stop(self) -> None:
        processes, self._processes = self._processes, []
        for process in reversed(processes):
            process.stop()

    def _wait(self) -> None:
        try:
            for process in self._processes:
                process.wait()
        except BaseException:
            self.stop()
            raise

    def _run(self, *command: str, port: int, environment: Mapping[str, str] | None = None) -> None:
        self._processes.append(Process(command, port, self.directory / "log", environment))


class Swift(SwiftS3, S3Server):
    """OpenStack Swift: it refuses wrong digests, and honours conditions."""

    pipeline = "catch_errors gatekeeper listing_formats s3api tempauth copy slo versioned_writes symlink proxy-server"
    more = ""
    """Further sections of the proxy's configuration."""
    scripts = SCRIPTS

    def start(self) -> None:
        self.launch()
        self.boto.create_bucket(Bucket=BUCKET)

    def launch(self) -> None:
        """Start all of it; returns when it answers."""
        configuration, devices = self.directory / "etc", self.directory / "devices"
        configuration.mkdir()
        (devices / "disk").mkdir(parents=True)
        (configuration / "swift.conf").write_text(_SWIFT)
        values = {"user": _user(), "configuration": configuration, "devices": devices}
        ports = {name: free_port() for name in _SERVERS}
        numbers = [str(port) for port in ports.values()]
        subprocess.run([sys.executable, "-W", "ignore", "-c", _RINGS, *numbers], cwd=configuration, check=True)
        for name, port in ports.items():
            (configuration / f"{name}.conf").write_text(_SERVER.format(name=name, port=port, **values))
            self._serve(name, port)
        self._objects = self._processes[-len(ports)], ports["object"]
        proxy = _PROXY.format(port=self.port, pipeline=self.pipeline, more=self.more, **values)
        (configuration / "proxy.conf").write_text(proxy)
        self._serve("proxy", self.port)
        self._wait()

    @contextmanager
    def without_objects(self) -> Iterator[None]:
        """End what keeps the objects while the block runs: every request for one is answered 503."""
        process, port = self._objects
        process.stop()
        self._processes.remove(process)
        yield
        self._serve("object", port)
        self._objects = self._processes[-1], port
        self._wait()

    def _serve(self, name: str, port: int) -> None:
        self._run(str(self.scripts / f"swift-{name}-server"), str(self.directory / f"etc/{name}.conf"), port=port)


class RcloneS3(S3Server):
    """rclone, which ignores conditions, ranges and digests."""

    access_key_id = "AKTEST"
    secret_key = "SKTESTSECRET"

    def start(self) -> None:
        root = self.directory / "data"
        (root / BUCKET).mkdir(parents=True)
        key = f"{self.access_key_id},{self.secret_key}"
        options = ("--addr", f"127.0.0.1:{self.port}", "--auth-key", key, "--vfs-cache-mode", "off")
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(self.directory / "cache")}
        self._run(str(SCRIPTS / "rclone"), "serve", "s3", *options, str(root), port=self.port, environment=environment)
        self._wait()


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
