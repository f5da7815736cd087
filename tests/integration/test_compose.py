"""etc/compose.yaml, as far as it can be shown where there is no container engine: its form, and what it runs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamover.security.passwords import hash_password
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres, binaries, running, server_user
from tests.servers.service import PATIENCE

ROOT = Path(__file__).parents[2]
FILE = ROOT / "etc/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PAGE = (ROOT / "docs/high-availability.md").read_text()


def test_the_specification_s_schema(tmp_path: Path) -> None:
    """It is what the compose specification's JSON schema asks for; a key that is none is found."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(FILE)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("stop_grace_period", "stop_patience"))
    done = subprocess.run([*check, str(wrong)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "stop_patience" in done.stdout


def test_everything_named_is_there() -> None:
    """Volumes, secrets, configs and services that a service names are there, and all that are there are named."""
    named: dict[str, set[str]] = {"volumes": set(), "secrets": set(), "configs": set()}
    for service in SERVICES.values():
        named["volumes"] |= {volume.partition(":")[0] for volume in service.get("volumes", ())}
        named["secrets"] |= set(service.get("secrets", ()))
        named["configs"] |= {config["source"] for config in service.get("configs", ())}
        assert set(service.get("depends_on", ())) <= set(SERVICES)
    for kind, names in named.items():
        assert names == set(COMPOSE[kind]), kind
    for name, secret in COMPOSE["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
        assert f" {name}" in PAGE, f"docs/high-availability.md does not say how {name} is made"
    assert SERVICES["primary"]["restart"] == SERVICES["standby"]["restart"] == "no"
    assert (FILE.parent / SERVICES["node-1"]["build"] / "Dockerfile").exists()


def content(name: str) -> str:
    """Return a config as it stands in the container."""
    text: str = COMPOSE["configs"][name]["content"]
    return text.replace("$$", "$")


class Stage:
    """The containers' programs, run on this machine: hosts are ports here, and /run/secrets a directory."""

    def __init__(self, directory: Path, primary: Postgres) -> None:
        self.directory = directory
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        self.primary = primary
        self.standby_port = free_port()
        lines = re.findall(r"^    (\(umask .*?\))$", PAGE, re.MULTILINE | re.DOTALL)
        assert len(lines) == 1
        self._run(["sh", "-c", lines[0]], cwd=directory)
        # To each user its own, as the page says for the containers' users.
        for path in self.secrets.iterdir():
            path.chmod(0o600)
        self.secrets.chmod(0o711)

    def script(self, name: str) -> str:
        both = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby_port}"
        everywhere = "exec postgres -c listen_addresses="
        return (
            content(name)
            .replace("/run/secrets", str(self.secrets))
            .replace("@primary,standby/", f"@{both}/")
            .replace("host=primary ", f"host=127.0.0.1 port={self.primary.port} ")
            .replace(f"{everywhere}'*'", f"{everywhere}127.0.0.1 -k {self.directory} -c max_connections=200")
        )

    def run(self, name: str, **environment: str) -> None:
        self._run(["sh", "-c", self.script(name)], env={**self.environment, **environment})

    @contextmanager
    def standby(self) -> Iterator[Path]:
        data = self.directory / "standby" / "cluster"
        data.parent.mkdir()
        (self.secrets / "replicator-password").chmod(0o644)
        if user := server_user():
            for path in (data.parent, self.directory):
                os.chown(path, user["user"], user["group"])
        with (self.directory / "standby.log").open("wb") as log, subprocess.Popen(
            ["sh", "-c", self.script("standby")], cwd="/", stdout=log, stderr=log,
            env={**self.environment, "PGDATA": str(data), "PGPORT": str(self.standby_port)}, **user,
        ) as process:  # fmt: skip
            try:
                yield data
            finally:
                process.terminate()

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{binaries()}:{os.environ['PATH']}", "PGPASSFILE": str(self.secrets / "pgpass")}

    def _run(self, command: list[str], **how: Any) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **how)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def stage(open_directory: Path) -> Iterator[Stage]:
    with running() as primary:
        yield Stage(open_directory, primary)


def test_what_it_runs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scripts make a primary and a standby that follows, have commits wait for it once it does, and init-db makes
    the rest; the nodes' configuration is one that is let in."""
    primary = stage.primary
    monkeypatch.setenv("PGPASSFILE", stage.environment["PGPASSFILE"])
    # What the image does with POSTGRES_PASSWORD_FILE.
    primary.run(f"ALTER ROLE postgres PASSWORD '{(stage.secrets / 'postgres-password').read_text().strip()}'")
    primary.configure_logins("local all all trust\nhost all all all scram-sha-256\n")
    stage.run("primary", PGHOST=str(primary.sockets), PGPORT=str(primary.port), PGDATA=str(primary.directory))
    primary.run("SELECT pg_reload_conf()")
    stage.run("synchronous")
    assert primary.run("SHOW synchronous_standby_names") == [("",)]
    with stage.standby():
        primary.until("SELECT state FROM pg_stat_replication", [("streaming",)])
        stage.run("synchronous")
        primary.until("SELECT sync_state FROM pg_stat_replication", [("sync",)])

        config = stage.directory / "datamover.toml"
        hashed = hash_password("secret")
        text = re.sub(r"\$\{PORTAL_PASSWORD_HASH:[^}]*\}", lambda _: hashed, stage.script("datamover"))
        config.write_text(text)
        admin = [sys.executable, "-m", "datamover.admin"]
        environment = {**os.environ, **stage.environment, "CREDENTIALS_DIRECTORY": str(stage.secrets)}
        prepare = [
            word.replace("/etc/datamover/datamover.toml", str(config)).replace(
                "@primary,standby/", f"@127.0.0.1:{primary.port},127.0.0.1:{stage.standby_port}/"
            )
            for word in SERVICES["prepared"]["command"]
        ]
        for command in (prepare, ["check-config", f"--config={config}"]):
            done = subprocess.run(
                [*admin, *command], capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment,
                cwd=ROOT,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, ""), command
        assert "client         portal" in done.stdout
        assert " (away" not in done.stdout
        primary.run("ALTER SYSTEM RESET synchronous_standby_names")
