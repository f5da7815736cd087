"""Ceph's S3 and Swift on 127.0.0.1: a monitor, a store of objects in memory, the gateway (``make places-system``)."""

import subprocess
import uuid
from typing import Any

from tests.servers.ports import free_port
from tests.servers.s3 import BUCKET, S3Server
from tests.servers.swift import CONTAINER, SwiftAccount

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}/0]
mon initial members = a
public network = 127.0.0.0/8
keyring = {directory}/keyring
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd max object name len = 460
osd max object namespace len = 64
ms bind ipv6 = false
[client]
rgw data = {directory}/rgw
rgw num rados handles = 1
rgw thread pool size = 16
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = 127.0.0.1
rgw swift account in url = true
"""


class Ceph(S3Server):
    """Ceph's gateway: it honours conditions of a PUT and ignores those of a completion."""

    access_key_id = "AKTEST"
    secret_key = "SKTESTSECRET"

    def start(self) -> None:
        directory, monitor, osd = self.directory, free_port(), str(uuid.uuid4())
        keyring, own = directory / "keyring", directory / "osd" / "keyring"
        for name in ("mon", "osd", "rgw"):
            (directory / name).mkdir()
        fsid = uuid.uuid4()
        self._configuration = directory / "ceph.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(fsid=fsid, monitor=monitor, directory=directory, port=self.port)
        )
        allow = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        self._do("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self._do("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *allow)
        address = f"[v2:127.0.0.1:{monitor}]"
        self._do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, directory / "monmap")
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", directory / "monmap", "--keyring", keyring)
        try:
            self._serve("ceph-mon", "-i", "a", port=monitor)
            self._wait()
            key = self._do("ceph-authtool", "--gen-print-key").strip()
            self._ceph("ceph", "--connect-timeout", "20", "osd", "new", osd, "0", "-i", "-", told=_secret(key))
            self._do("ceph-authtool", "--create-keyring", own, "-n", "osd.0", "--add-key", key)
            self._ceph("ceph-osd", "-i", "0", "--keyring", own, "--mkfs", "--osd-uuid", osd)
            self._ceph("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=h")
            self._serve("ceph-osd", "-i", "0", "--keyring", str(own), port=monitor)
            keys = ("--access-key", self.access_key_id, "--secret-key", self.secret_key)
            self._ceph("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
            self.add_users()
            self._serve("radosgw", "-n", "client.admin", port=self.port)
            self._wait()
        except BaseException:
            self.stop()
            raise
        self.prepare()

    def add_users(self) -> None:
        """Add users beside the one of S3."""

    def prepare(self) -> None:
        """Make what the tests begin with."""
        self.boto.create_bucket(Bucket=BUCKET)

    def _serve(self, program: str, *arguments: str, port: int) -> None:
        self._run(program, "-c", str(self._configuration), "-f", *arguments, port=port)

    def _ceph(self, program: str, *arguments: object, told: str | None = None) -> str:
        return self._do(program, "-c", self._configuration, *arguments, told=told)

    def _do(self, *command: object, told: str | None = None) -> str:
        """Run a program to its end; return what it printed."""
        done = subprocess.run([str(part) for part in command], input=told, capture_output=True, text=True, check=False)
        assert not done.returncode, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


class CephSwift(SwiftAccount, Ceph):
    """Ceph's gateway as a Swift of its own kind."""

    user = "test:swift"

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a destination's table."""
        password = self.directory / "password"
        password.write_text(self.key)
        password.chmod(0o600)
        return {"auth_url": self.auth_url, "username": self.user, "password_file": str(password)}

    def add_users(self) -> None:
        key = ("--key-type=swift", f"--secret-key={self.key}")
        self._ceph("radosgw-admin", "subuser", "create", "--uid=test", "--subuser=test:swift", "--access=full", *key)

    def prepare(self) -> None:
        self.ask("PUT", CONTAINER)


def _secret(key: str) -> str:
    return f'{{"cephx_secret": "{key}"}}'
