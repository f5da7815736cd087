"""A web server and an SFTP server to try datamover with: on 127.0.0.1, on free ports, over one directory.

    python examples/servers.py DIRECTORY

serves DIRECTORY/web over HTTP and DIRECTORY/visualiser over SFTP, writes the client's key and the known hosts into
DIRECTORY, prints one line of JSON with the ports, and runs until its standard input ends. For trying things out only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.avatar import ConchUser
from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
from twisted.conch.interfaces import IConchUser, ISFTPServer
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.filetransfer import FileTransferServer
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.unix import SFTPServerForUnixConchUser, UnixSFTPFile
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.python.components import registerAdapter
from twisted.python.filepath import FilePath
from twisted.web.server import Site
from twisted.web.static import File
from zope.interface import implementer

USER = "demo"


class User(ConchUser):
    """Whoever holds the key; does everything as the user who runs this program."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self.channelLookup[b"session"] = SSHSession
        self.subsystemLookup[b"sftp"] = FileTransferServer

    def getHomeDir(self) -> FilePath[str]:  # noqa: N802 - the name that conch calls
        return FilePath(str(self._home))

    def _runAsUser(self, call: Any, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802
        calls = call if hasattr(call, "__iter__") else [(call, arguments, keywords)]
        result = None
        for each in calls:
            function, *rest = each
            result = function(*(rest[0] if rest else ()), **(rest[1] if len(rest) > 1 else {}))
        return result


class OpenFile(UnixSFTPFile):
    """An open file whose attributes can be set, which conch leaves out."""

    def setAttrs(self, attrs: dict[str, int]) -> None:  # noqa: N802 - the name that conch calls
        if "size" in attrs:
            os.ftruncate(self.fd, attrs["size"])
        if "permissions" in attrs:
            os.fchmod(self.fd, attrs["permissions"])
        if "atime" in attrs and "mtime" in attrs:
            os.utime(self.fd, (attrs["atime"], attrs["mtime"]))


class Files(SFTPServerForUnixConchUser):
    """The files of this machine."""

    def openFile(self, filename: bytes, flags: int, attrs: dict[str, int]) -> OpenFile:  # noqa: N802
        return OpenFile(self, self._absPath(filename), flags, attrs)


registerAdapter(Files, User, ISFTPServer)


@implementer(IRealm)
class Realm:
    """Has one user."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:  # noqa: N802, N803
        return IConchUser, User(self._home), lambda: None


def main(directory: Path) -> None:
    """Serve until standard input ends."""
    for name in ("web", "visualiser"):
        (directory / name).mkdir(exist_ok=True)
    client, host = (Key(Ed25519PrivateKey.generate()) for _ in range(2))
    key_file = directory / "id_ed25519"
    key_file.touch(mode=0o600)
    key_file.write_bytes(client.toString("OPENSSH"))

    factory = SSHFactory()
    factory.privateKeys = {host.sshType(): host}
    factory.publicKeys = {host.sshType(): host.public()}
    checker = SSHPublicKeyChecker(InMemorySSHKeyDB({USER.encode(): [client.public()]}))
    factory.portal = Portal(Realm(directory / "visualiser"), [checker])

    ssh = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    web = reactor.listenTCP(0, Site(File(str(directory / "web"))), interface="127.0.0.1").getHost().port
    known = host.public().toString("OPENSSH").decode().split()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{ssh} {known[0]} {known[1]}\n")
    print(json.dumps({"web": web, "ssh": ssh, "user": USER}), flush=True)

    class End(Protocol):
        def connectionLost(self, reason: object = None) -> None:  # noqa: N802
            reactor.stop()

    StandardIO(End())
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
