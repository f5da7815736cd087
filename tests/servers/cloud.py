"""A small server that speaks Nextcloud's protocol: wsgidav, with the chunked upload of its documentation in front.

It stands in for a Nextcloud: PHP, a database and its own installer are no part of the tests. What it refuses is what
Nextcloud's ``ChunkingV2Plugin``, ``QuotaPlugin`` and ``FilenameValidator`` refuse.
``python -m tests.servers.cloud CONFIGURATION`` runs it; ``Cloud`` starts that.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cheroot import wsgi
from wsgidav.mw.base_mw import BaseMiddleware
from wsgidav.util import get_file_etag
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.servers.dav import PASSWORD, USERNAME, DavServer, give
from tests.servers.processes import Process

USER = "portal"
FILES, UPLOADS = f"/remote.php/dav/files/{USER}", f"/remote.php/dav/uploads/{USER}"
OTHERS = b"of another client"
LEAST = 5 * 2**20
"""Bytes of a chunk that is not the last."""
ROOM = 6 * 2**20

_CAPABILITIES = {"dav": {"chunking": "1.0"}, "checksums": {"supportedTypes": ["SHA1", "MD5"]}}
_HIDDEN_FILE = re.compile(rf"{UPLOADS}/([^/]+)/\.file")
_CHUNK = re.compile(rf"{UPLOADS}/([^/]+)/([^/]+)")
Answer = Callable[..., Any]


class Cloud(DavServer):
    """The stand-in on a port of its own.

    ``config`` is its kind: "mute" does not tell what it can do, "whole" takes no chunks, "boastful" neither, though it
    says that it does, and "impatient" has a proxy before it that does not wait until chunks are put together; at
    "overtaken" that is the end of an earlier request, and the next one finds no chunks. "parts"
    passes chunks on to an object store, where they have no names of their own: ``stored`` holds an upload until it is
    put together or cancelled there. "full" has room for ``ROOM`` bytes. "lossy" loses a byte of what it puts
    together, "rotten" changes one, and at "busy" another client writes the file again before the answer is there.
    """

    def __init__(self, directory: Path, *, config: str = "") -> None:
        super().__init__(directory, config=config)
        self.uploads = directory / "uploads"
        self.stored = directory / "stored"
        for each in (self.uploads, self.stored):
            each.mkdir()
            give(each)

    @property
    def url(self) -> str:
        return f"{super().url}{FILES}"

    def chunks(self) -> list[str]:
        """Return the paths of the chunks and uploads that are there."""
        return sorted(str(path.relative_to(self.uploads)) for path in self.uploads.rglob("*"))

    def _start(self) -> Process:
        configuration = self.state / "cloud.json"
        told = {
            "port": self.port,
            "files": str(self.root),
            "uploads": str(self.uploads),
            "stored": str(self.stored),
            "kind": self.config,
        }
        configuration.write_text(json.dumps(told))
        program = [sys.executable, "-m", "tests.servers.cloud", str(configuration)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return Process(program, self.port, self._log, environment)


class Chunks(BaseMiddleware):  # type: ignore[misc]
    """What a Nextcloud does beside plain WebDAV."""

    def __init__(self, application: Any, following: Any, config: dict[str, Any]) -> None:
        super().__init__(application, following, config)
        self._files = Path(config["cloud"]["files"])
        self._uploads = Path(config["cloud"]["uploads"])
        self._stored = Path(config["cloud"]["stored"])
        self._kind = config["cloud"]["kind"]

    def __call__(self, environ: dict[str, Any], start: Answer) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        destination = unquote(urlsplit(environ.get("HTTP_DESTINATION", "")).path)
        if path.startswith("/ocs/"):
            return self._told(environ, start)
        if self._kind in ("whole", "boastful") and path.startswith(UPLOADS):
            return _refused(start, "404 Not Found", "NotFound", "no such collection")
        if (path if method == "PUT" else destination).endswith((".part", ".filepart")):
            return _refused(start, "400 Bad Request", "InvalidPath", "that is a forbidden file type")
        if (found := _HIDDEN_FILE.fullmatch(path)) and method == "MOVE":
            return self._put_together(environ, start, self._uploads / found[1], destination)
        chunk = _CHUNK.fullmatch(path)
        if chunk and method == "PUT":
            if not chunk[2].isdigit() or not 1 <= int(chunk[2]) <= 10_000:
                return _refused(start, "400 Bad Request", "BadRequest", "invalid chunk name, must be 1 to 10000")
            if not destination.startswith(FILES):
                return _refused(start, "400 Bad Request", "BadRequest", "the Destination is missing")
            if self._kind == "full" and int(environ.get("HTTP_OC_TOTAL_LENGTH", 0)) > ROOM:
                return _refused(start, "507 Insufficient Storage", "InsufficientStorage", "insufficient space")
            if self._kind == "parts" and not self._target(destination).parent.is_dir():
                return _refused(start, "404 Not Found", "NotFound", "the target's directory could not be located")
            if self._kind == "parts" and not (self._stored / chunk[1]).exists():
                return _refused(start, "412 Precondition Failed", "PreconditionFailed", "missing metadata")
        if chunk and method == "DELETE" and destination:
            (self._stored / chunk[1]).unlink(missing_ok=True)
        if found and method == "DELETE" and (self._uploads / found[1]).exists():
            shutil.rmtree(self._uploads / found[1])
            start("204 No Content", [])
            return [b""]
        if chunk and self._kind == "parts" and method in ("PROPFIND", "DELETE"):
            return _refused(start, "404 Not Found", "NotFound", "no such chunk")
        if method == "MKCOL" and path.startswith(UPLOADS):
            if not destination.startswith(FILES):
                return _refused(start, "400 Bad Request", "BadRequest", "the Destination is missing")
            if self._kind == "parts":
                (self._stored / path.rpartition("/")[2]).touch()
        following: Iterable[bytes] = self.next_app(environ, start)
        return following

    def _told(self, environ: dict[str, Any], start: Answer) -> Iterable[bytes]:
        if self._kind == "mute" or environ.get("HTTP_OCS_APIREQUEST") != "true":
            return _refused(start, "403 Forbidden", "Forbidden", "not an OCS request")
        told = {**_CAPABILITIES, "dav": {}} if self._kind == "whole" else _CAPABILITIES
        body = json.dumps({"ocs": {"data": {"capabilities": told}}}).encode()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _target(self, destination: str) -> Path:
        return self._files / destination.removeprefix(f"{FILES}/")

    def _put_together(self, environ: dict[str, Any], start: Answer, upload: Path, destination: str) -> Iterable[bytes]:
        chunks = sorted((each for each in upload.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
        size = sum(each.stat().st_size for each in chunks)
        target = self._target(destination)
        if environ.get("HTTP_OC_TOTAL_LENGTH") != str(size):
            return _refused(start, "400 Bad Request", "BadRequest", "the chunks have another size")
        if any(each.stat().st_size < LEAST for each in chunks[:-1]):
            return _refused(start, "400 Bad Request", "BadRequest", "a chunk is too small")
        if target.exists() and environ.get("HTTP_OVERWRITE") == "F":
            return _refused(start, "412 Precondition Failed", "PreconditionFailed", "the destination node exists")
        if not target.parent.is_dir():
            return _refused(start, "409 Conflict", "Conflict", "the parent node was not found")
        existed = target.exists()
        with target.open("wb") as file:
            for each in chunks:
                with each.open("rb") as piece:
                    shutil.copyfileobj(piece, file)
        shutil.rmtree(upload)
        (self._stored / upload.name).unlink(missing_ok=True)
        if self._kind == "lossy":
            os.truncate(target, size - 1)
        if self._kind == "rotten":
            with target.open("r+b") as file:
                file.write(b"?")
        headers = [("Content-Length", "0")]
        if modified := environ.get("HTTP_X_OC_MTIME"):
            os.utime(target, (int(modified), int(modified)))
            headers.append(("X-OC-Mtime", "accepted"))
        etag = f'"{get_file_etag(str(target))}"'
        headers += [("ETag", etag), ("OC-ETag", etag)]
        if self._kind == "busy":
            target.write_bytes(OTHERS)
        if self._kind == "impatient":
            return _refused(start, "504 Gateway Timeout", "", "")
        if self._kind == "overtaken":
            return _refused(start, "404 Not Found", "NotFound", "no such upload")
        start("204 No Content" if existed else "201 Created", headers)
        return [b""]


def _refused(start: Answer, status: str, kind: str, message: str) -> Iterable[bytes]:
    body = (
        '<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
        f"<s:exception>Sabre\\DAV\\Exception\\{kind}</s:exception><s:message>{message}</s:message></d:error>"
    ).encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def main(configuration: Path) -> None:
    """Run the server that a configuration describes."""
    told = json.loads(configuration.read_text())
    application = WsgiDAVApp(
        {
            "provider_mapping": {FILES: told["files"], UPLOADS: told["uploads"]},
            "middleware_stack": [
                "wsgidav.error_printer.ErrorPrinter",
                "wsgidav.http_authenticator.HTTPAuthenticator",
                Chunks,
                "wsgidav.request_resolver.RequestResolver",
            ],
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "simple_dc": {"user_mapping": {"*": {USERNAME: {"password": PASSWORD}}}},
            "honor_mtime_header": True,
            "cloud": told,
            "verbose": 1,
        }
    )
    # By default it queues five connections; Linux drops the others, which then wait for seconds.
    wsgi.Server(("127.0.0.1", told["port"]), application, request_queue_size=128).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
