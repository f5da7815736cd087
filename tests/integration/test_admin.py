"""The datamover-admin commands, run as a person runs them."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from datamover.admin import main
from datamover.postgres.embedded.cluster import Cluster
from datamover.postgres.migrate import available
from datamover.security.passwords import verify
from tests.servers.postgres import Postgres, running, shared
from tests.servers.sshd import Sshd


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    with running() as server:
        yield server


def admin(*arguments: str, given: str = "", **how: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "datamover.admin", *arguments],
        input=given, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2], **how,
    )  # fmt: skip


def written(directory: Path, text: str) -> str:
    path = directory / "datamover.toml"
    path.write_text(text)
    return str(path)


def migrations(url: str) -> int:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM schema_migrations")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])
    finally:
        connection.close()


def test_init_db_given(own_server: Postgres, tmp_path: Path) -> None:
    """For a given PostgreSQL the role, the database and the tables are made; again, nothing is."""
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    url = f"postgresql://mover@127.0.0.1:{own_server.port}/moves"
    file = written(tmp_path, f'[database]\nurl = "{url}"\npassword_file = "{tmp_path}/password"\n')
    first = admin("init-db", "--config", file, "--admin-url", own_server.url)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[:2] == ["made the role mover", "made the database moves"]
    assert migrations(url) == len(available())
    assert own_server.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'mover'")[0][0].startswith(
        "SCRAM-SHA-256$"
    )
    again = admin("init-db", "--config", file, "--admin-url", own_server.url)
    assert (again.returncode, again.stdout, again.stderr) == (0, "the database is up to date\n", "")


def test_init_db_by_no_superuser(own_server: Postgres, tmp_path: Path) -> None:
    """Who may create roles and databases, and no more, can make them too."""
    own_server.run("CREATE ROLE maker LOGIN CREATEROLE CREATEDB")
    url = f"postgresql://mover@127.0.0.1:{own_server.port}/moves"
    file = written(tmp_path, f'[database]\nurl = "{url}"\n')
    done = admin("init-db", "--config", file, "--admin-url", own_server.url.replace("//postgres@", "//maker@"))
    assert (done.returncode, done.stderr) == (0, "")
    assert migrations(url) == len(available())


def test_init_db_embedded(open_directory: Path) -> None:
    """The embedded database is made and migrated, and stopped again."""
    file = written(open_directory, f'[service]\ndata_directory = "{open_directory}/data"\n')
    done = admin("init-db", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("the database is up to date\n")
    assert Cluster(open_directory / "data").directory.exists()
    assert Cluster(open_directory / "data").server() is None
    refused = admin("init-db", "--config", file, "--admin-url", "postgresql://x/y")
    assert (refused.returncode, refused.stdout) == (1, "")


def test_migrate(tmp_path: Path) -> None:
    """Tables are made; a database that is away is one sentence and exit status 1."""
    url = shared().fresh()
    done = admin("migrate", "--config", written(tmp_path, f'[database]\nurl = "{url}"\n'))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("applied 0001_jobs\n")
    assert migrations(url) == len(available())
    away = admin("migrate", "--config", written(tmp_path, '[database]\nurl = "postgresql://a@127.0.0.1:1/b"\n'))
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith("datamover-admin: the database is away")
    assert away.stderr.count("\n") == 1


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good configuration is summed up; a bad one is the one line that names file, key, value and expectation."""
    file = written(
        tmp_path,
        f'[service]\ndata_directory = "{tmp_path}/data"\n[destinations.archive]\nurl = "file://{tmp_path}/archive"\n',
    )
    good = admin("check-config", "--config", file)
    assert (good.returncode, good.stderr) == (0, "")
    assert f"destination    archive: file://{tmp_path}/archive" in good.stdout
    assert not (tmp_path / "data").exists()
    file = written(tmp_path, '[service]\nmax_active = "many"\n')
    bad = admin("check-config", "--config", file)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith(f"datamover-admin: {file}: service.max_active = 'many'")
    assert bad.stderr.count("\n") == 1
    file = written(
        tmp_path,
        f'[service]\ndata_directory = "{tmp_path}/data"\n[destinations.archive]\nurl = "file://{tmp_path}/data/staging"\n',
    )
    collides = admin("check-config", "--config", file)
    assert (collides.returncode, collides.stdout) == (1, "")
    assert collides.stderr == (
        f"datamover-admin: {file}: destinations.archive.url = 'file://{tmp_path}/data/staging': "
        f"is {tmp_path}/data/staging, which the service keeps for itself (service.data_directory): "
        "whoever may use the destination could read and replace what is there. "
        f"Name a directory that is apart from it, such as {tmp_path}/data/files/archive, or move it elsewhere\n"
    )
    file = written(tmp_path, '[destinations.archive]\nurl = "gopher://x/"\n')
    assert main(["check-config", "--config", file]) == 1
    assert "gopher" in capsys.readouterr().err
    file = written(tmp_path, '[database]\nurl = "postgresql://a:hunter2@b/c"\n')
    assert main(["check-config", "--config", file]) == 1
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert "password_file" in told


def test_check_config_where_room_is_kept_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A destination that keeps room free is summed up with it; one that cannot, as it tells no room, says so."""
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    bucket = f'url = "s3://data"\nregion = "us-east-1"\naccess_key_id = "me"\nsecret_key_file = "{secret}"\n'
    file = written(
        tmp_path,
        f'[service]\ndata_directory = "{tmp_path}/data"\n'
        f'[destinations.archive]\nurl = "file://{tmp_path}/archive"\nkeep_free = "50GB"\n'
        f'[destinations.bucket]\n{bucket}keep_free = "1TB"\n',
    )
    assert main(["check-config", "--config", file]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert f"destination    archive: file://{tmp_path}/archive, keeps 50.0 GB free" in told
    why = "free room not known: s3 destinations do not tell it, so that keep_free cannot be held"
    assert [line for line in told.splitlines() if line.startswith("not held")] == [f"not held       bucket: {why}"]
    for wrong in ('"much"', "0", "-1"):
        file = written(tmp_path, f'[destinations.archive]\nurl = "file://{tmp_path}/archive"\nkeep_free = {wrong}\n')
        assert main(["check-config", "--config", file]) == 1
        assert f"destinations.archive.keep_free = {wrong.replace(chr(34), chr(39))}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("check-config", "--config", "FILE"), ("--config", "FILE", "check-config")])
def test_where_config_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """``--config`` is taken before the command as well as behind it."""
    file = written(tmp_path, f'[service]\ndata_directory = "{tmp_path}/data"\n')
    assert main([file if word == "FILE" else word for word in command]) == 0
    assert f"configuration  {file}" in capsys.readouterr().out


def test_hash_password() -> None:
    """A password on standard input becomes its hash; none is refused."""
    done = admin("hash-password", given="pässword\n", env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0
    assert verify(done.stdout.strip(), "pässword")
    assert admin("hash-password", given="\n").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("no-such-command",),
        ("backup",),
        ("rotate-key", "--prepare", "--keep"),
        *(("rotate-key", f"--wait={wait}") for wait in ("-1", "nan", "inf", "soon", "")),
        *(("scan-host-key", host) for host in ("host:port", "[::1", "", "a:b:22", "http://h", "h h", "..", "a" * 64)),
        *(("scan-host-key", f"h:{port}") for port in ("0", "99999", "0000000022", "²")),
    ],
)
def test_wrong_command_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that makes no sense is exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: datamover-admin" in capsys.readouterr().err


def test_embedded_refused(open_directory: Path) -> None:
    """A data directory that is none, or that is another user's, is one sentence, and nothing is left in it."""
    (open_directory / "file").touch()
    refused = admin(
        "migrate", "--config", written(open_directory, f'[service]\ndata_directory = "{open_directory}/file"\n')
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"datamover-admin: service.data_directory: {open_directory}/file is not a directory\n"
    other = open_directory / "other"
    other.mkdir()
    os.chown(other, pwd.getpwnam("nobody").pw_uid, -1)
    refused = admin("migrate", "--config", written(open_directory, f'[service]\ndata_directory = "{other}"\n'))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "`runuser -u nobody -- datamover-admin …`" in refused.stderr
    assert not list(other.iterdir())


def test_scan_host_key_refused() -> None:
    """A host without an SSH server is one sentence."""
    done = admin("scan-host-key", "127.0.0.1:1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_scan_host_key(open_directory: Path) -> None:
    """A server's keys are printed for known_hosts, each below the fingerprint that ssh-keygen has for it."""
    sshd = Sshd(open_directory)
    sshd.start()
    try:
        done = admin("scan-host-key", f"127.0.0.1:{sshd.port}")
    finally:
        sshd.stop()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    keys = [f"[127.0.0.1]:{sshd.port} {sshd.host_key(kind)}" for kind in ("ed25519", "ecdsa", "rsa")]
    assert lines[1::2] == keys
    (known := open_directory / "scanned").write_text(done.stdout)
    listed = subprocess.run(["ssh-keygen", "-lf", known], capture_output=True, text=True, check=True).stdout
    told = [line.split()[1] for line in listed.splitlines()]
    assert len(told) == 3
    kinds = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
    assert lines[::2] == [f"# {fingerprint} {kind}" for fingerprint, kind in zip(told, kinds, strict=True)]
