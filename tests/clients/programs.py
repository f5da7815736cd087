"""The programs of examples/clients, what each needs, and a service that they are run against.

What is checked of one is checked of all: ``Checks`` holds the tests, a module names the programs that it runs.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from tests.servers import postgres
from tests.servers.certificates import Authority
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.service import Service

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "examples/clients"
NODE_MODULES = ROOT / ".clients/node_modules"
PATIENCE = 60.0
"""Seconds that a program may take."""
NAME, PASSWORD = "portal", "s:ecret/ü@"
CONTENT = b"species,lon,lat\nPr\xc3\xbcfung,1,2\n" * 1000
PATH = "Prüfung/漢字 & <𝄞>.csv"
"""Letters of two, three and four bytes, and what XML spells out."""
LARGE = 2**33 + 1
"""More than 32 bits hold, and odd, so that a float of 32 bits would not do."""


@dataclass(frozen=True, slots=True)
class Program:
    """One file of examples/clients and how it is run."""

    name: str
    language: str
    """As labels and docs/api.md call it."""
    command: tuple[str, ...]
    packages: tuple[str, ...]
    """Those of Debian that have its interpreter and library."""
    probe: tuple[str, ...]
    """A command that succeeds where both are installed."""

    def installed(self) -> None:
        """Fail, naming the packages, where the program cannot run."""
        try:
            subprocess.run(self.probe, capture_output=True, timeout=PATIENCE, check=True, env=environment())
        except (OSError, subprocess.CalledProcessError) as error:
            said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else error
            pytest.fail(f"{self.name} cannot run here: install {' and '.join(self.packages)} of Debian ({said})")


PYTHON = Program("move.py", "Python", ("python3",), ("python3",), ("python3", "-c", "import xmlrpc.client"))
PERL = Program(
    "move.pl",
    "Perl",
    ("perl",),
    ("librpc-xml-perl", "liblwp-protocol-https-perl"),
    ("perl", "-MRPC::XML::Client", "-MLWP::Protocol::https", "-e1"),
)
PHP = Program(
    "move.php",
    "PHP",
    ("php",),
    ("php-cli", "php-xmlrpc"),
    ("php", "-r", "exit(function_exists('xmlrpc_encode_request') ? 0 : 1);"),
)
RUBY = Program("move.rb", "Ruby", ("ruby",), ("ruby", "ruby-xmlrpc"), ("ruby", "-r", "xmlrpc/client", "-e", ""))
CURL = Program(
    "move.sh", "curl", ("sh",), ("curl", "libxml2-utils"), ("sh", "-c", "command -v curl && command -v xmllint")
)
NODE = Program("move.js", "Node", ("node",), ("nodejs", "npm"), ("node", "-e", "require('xmlrpc')"))
JAVA = Program(
    "Move.java",
    "Java",
    ("java", "-cp", "/usr/share/java/axmlrpc.jar"),
    ("default-jdk-headless", "libaxmlrpc-java"),
    ("sh", "-c", "javac -version && ls /usr/share/java/axmlrpc.jar"),
)
PROGRAMS = (PYTHON, PERL, PHP, RUBY, JAVA, NODE, CURL)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "NODE_PATH": str(NODE_MODULES), **more}


@dataclass(frozen=True, slots=True)
class World:
    """A service with one client, reached with and without TLS, and a web server that it reads from."""

    service: Service
    web: Nginx
    directory: Path
    authority: Path
    tls_port: int

    def run(
        self, program: Program, *arguments: str, password: str = PASSWORD, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program against the listener without TLS, unless the environment says otherwise."""
        login = {"DATAMOVER_URL": self.service.url, "DATAMOVER_LOGIN": f"{NAME}:{password}"}
        return subprocess.run(
            [*program.command, str(DIRECTORY / program.name), *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            env=environment(**{**login, **more}),
            check=False,
        )

    def tls(self) -> dict[str, str]:
        return {"DATAMOVER_URL": f"https://localhost:{self.tls_port}/data_mover"}


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """Serve while the context lasts; everything is below ``directory``."""
    (directory / "web").mkdir()
    (directory / "web/occurrences.csv").write_bytes(CONTENT)
    authority = Authority(directory)
    certificate, key = authority.issue()
    hashed = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    service, tls_port = Service(directory, ""), free_port()
    plain = f"tcp:{service.port}:interface=127.0.0.1"
    service.config.write_text(
        f'[service]\nlisten = ["{plain}", "tcp:{tls_port}:interface=127.0.0.1"]\ndata_directory = "{directory}/data"\n'
        f'[tls]\ncertificate_file = "{certificate}"\nkey_file = "{key}"\nplaintext = ["{plain}"]\n'
        f'[database]\nurl = "{postgres.shared().fresh()}"\n[sources]\nallow = ["http://127.0.0.1:*/"]\n'
        f'[destinations.archive]\nurl = "file://{directory}/archive"\n[clients.{NAME}]\npassword_hash = "{hashed}"\n'
    )
    with Nginx(directory / "web") as web:
        service.start_behind_a_login()
        try:
            yield World(service, web, directory, authority.file, tls_port)
        finally:
            service.stop()


class Checks:
    """What every program does; a subclass has a fixture ``world`` and a mark that parametrizes ``program``."""

    def test_a_file_is_moved(self, world: World, program: Program) -> None:
        """It logs in, submits, waits, and reads text of every alphabet, sizes and digests back as they are."""
        program.installed()
        path = f"{program.language}/{PATH}"
        done = world.run(program, f"{world.web.url}/occurrences.csv", "archive", path)
        size, digest = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
        assert done.returncode == 0, done.stderr
        *waits, file = done.stdout.splitlines()
        (number,) = {int(found[1]) for line in waits if (found := re.match(r"job (\d+), ", line))}
        assert waits[-1] == f"job {number}, {program.language}: {path}: COMPLETED, {size} of {size} bytes"
        assert file == f"{path}: {size} bytes, sha256:{digest}"
        assert (world.directory / "archive" / path).read_bytes() == CONTENT

    def test_sizes_over_two_gib_are_exact(self, world: World, program: Program) -> None:
        """It sends and reads a size of more than 32 bits, and tells why the file failed, with a status of its own."""
        program.installed()
        done = world.run(program, f"{world.web.url}/missing.csv", "archive", f"{program.language}.csv", str(LARGE))
        assert done.returncode != 0
        assert done.stdout.endswith(f"FAILED, 0 of {LARGE} bytes\n")
        message = f"there is no file at the source: {world.web.url}/missing.csv answered 404 Not Found"
        assert done.stderr.strip() == message

    def test_a_refusal_is_its_sentence(self, world: World, program: Program) -> None:
        """What the service refuses ends it with the Fault's sentence, read in whatever language it is."""
        program.installed()
        done = world.run(program, f"{world.web.url}/occurrences.csv", "archive", "../漢字")
        assert done.returncode != 0
        assert done.stdout == ""
        # Java's library adds the code.
        assert done.stderr.strip().removesuffix(" [1004]") == "path: '../漢字' leaves destination 'archive'"

    def test_a_wrong_password_is_told(self, world: World, program: Program) -> None:
        """It says that the login was wrong, as HTTP told it."""
        program.installed()
        done = world.run(program, f"{world.web.url}/occurrences.csv", "archive", "x", password="wrong")
        assert done.returncode != 0
        assert re.search("401|Unauthorized", done.stderr), done.stderr
        assert "wrong" not in done.stderr

    def test_tls_is_verified(self, world: World, program: Program) -> None:
        """Over TLS it calls with the authority that it is given, and calls nobody without."""
        program.installed()
        arguments: Any = (f"{world.web.url}/occurrences.csv", "archive", f"tls/{program.language}.csv")
        done = world.run(program, *arguments, **world.tls())
        assert done.returncode != 0, done.stdout
        assert not (world.directory / "archive" / arguments[2]).exists()
        done = world.run(program, *arguments, **world.tls(), DATAMOVER_CA=str(world.authority))
        assert done.returncode == 0, done.stderr
        assert (world.directory / "archive" / arguments[2]).read_bytes() == CONTENT
