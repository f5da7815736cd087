"""The commands of README.md and docs/operations.md, in their order, in an empty directory with a network of its own."""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from datamover import __version__
from tests.integration.test_packaging import built
from tests.servers.others import as_user, reachable
from tests.servers.ports import free_port
from tests.servers.postgres import shared

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SAMPLE = (ROOT / "etc/datamover.toml").read_text()

AS_ROOT = os.geteuid() == 0
USERS = [None, "nobody"] if AS_ROOT else [None]
"""Who does it: whoever runs the tests, and another where root runs them."""
only_root = pytest.mark.skipif(not AS_ROOT, reason="it writes below /etc and /opt")

SETTLE = """
until grep -q "datamover is ready" log; do
    kill -0 $RUNNING || { cat log; exit 1; }
    sleep 0.1
done
"""
DAEMON = """
until grep -q "datamover is ready" twistd.log; do
    sleep 0.1
done
cat twistd.log
RUNNING=$(cat twistd.pid)
kill $RUNNING
while kill -0 $RUNNING 2> /dev/null; do
    sleep 0.1
done
"""
STOP = "kill $RUNNING\nwait $RUNNING || true\nmv log log.before\n"


def part_of(heading: str, text: str = OPERATIONS) -> str:
    """Return what stands below a heading."""
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def blocks(text: str, heading: str) -> list[str]:
    """Return the indented blocks below a heading."""
    found = re.findall(r"(?:^    .*\n)+", part_of(heading, text), re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


def run(command: list[str], directory: Path) -> str:
    """Run a command in a directory that is its user's home as well; return what it prints."""
    environment = {**os.environ, "HOME": str(directory), "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{directory}/bin:{sys.prefix}/bin:{os.environ['PATH']}:/usr/sbin"
    environment.pop("XDG_DATA_HOME", None)
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def scripted(script: str, user: str | None) -> list[str]:
    """Return the command line that runs a script as a user."""
    inner = ["sh", "-ec", script]
    if not AS_ROOT:
        return inner
    return as_user(user, inner) if user else reachable(inner)


def apart(script: str, user: str | None, mounts: Mapping[str, Path] = MappingProxyType({})) -> list[str]:
    """Return the command line that does so with a network of its own, and directories mounted over others."""
    binds = "".join(f"mount --bind {shlex.quote(str(over))} {path}\n" for path, over in mounts.items())
    names, become = ["--mount", "--net"], ""
    if not AS_ROOT:  # Within its own user namespace anybody may make a network.
        names, become = ["--map-current-user", "--keep-caps", "--net"], "setpriv --ambient-caps=-all --inh-caps=-all"
    begin = f'ip link set lo up\n{binds}exec {become} "$@"'
    return ["unshare", *names, "sh", "-ec", begin, "sh", *scripted(script, user)]


def doctested(session: str) -> str:
    """Return the command that runs a Python session and compares what it shows."""
    return f"printf %s {shlex.quote(session)} > session.txt\npython3 -m doctest -o ELLIPSIS session.txt\n"


def owned(user: str | None, *paths: Path) -> None:
    """Give files to a user."""
    if user is not None:
        for path in paths:
            shutil.chown(path, user)


# README.md ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
def test_the_first_hour(open_directory: Path, user: str | None) -> None:
    """README's commands work as they stand: the demo, the first calls, the file, the source on this machine."""
    (demo,) = blocks(README, "## See it")
    make, first, allow, second, *_ = blocks(README, "## Run it")
    assert make == "make run\n"
    checkout = open_directory / "checkout"
    checkout.mkdir()
    for name in ("README.md", "Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "examples", checkout / "examples")
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (checkout / ".venv/.installed").touch()  # It is installed, and there is no network.
    (data := open_directory / "lib").mkdir()
    owned(user, open_directory, checkout)
    # The public server of the first example is out of reach here: that file is asked for, and not waited for.
    asked = first.partition(">>> mover.jobs.wait")[0].partition("$ python3\n")[2]
    serve, moved = second.split("$ python3\n")
    # Without the log of an earlier start, which says that it is ready, too.
    start = f"rm -f log\n{make.strip()} > log 2>&1 &\nRUNNING=$!\n{SETTLE}"
    stop = "kill $(cat twistd.pid)\nwait $RUNNING || true\n"
    end = "trap 'kill $(cat twistd.pid) $SERVER 2> /dev/null || true' EXIT\nSERVER=\n"
    script = f"cd checkout\n{end}{demo}{start}{doctested(asked)}{stop}{allow}{start}"
    script += f"{serve.strip()}\nSERVER=$!\nsleep 1\n{doctested(moved)}kill $SERVER\n{stop}cat log"
    log = run(apart(script, user, {"/var/lib": data} if AS_ROOT else {}), open_directory)
    root = AS_ROOT and user is None
    files = data / "datamover/files" if root else open_directory / ".local/share/datamover/files"
    assert f"destination local is {Path('/var/lib/datamover/files') if root else files}; try:" in log
    assert "call http://127.0.0.1:10700/data_mover; configuration " in log
    assert (files / "in/README.md").read_text() == README


@only_root
def test_a_permanent_service(open_directory: Path) -> None:
    """README's commands for a permanent service work as they stand, with the sample as it is."""
    steps = blocks(README, "## Run it")[4]
    assert steps.endswith("\ntwistd datamover\n")
    etc, lib = open_directory / "etc", open_directory / "lib"
    subprocess.run(["cp", "--archive", "/etc", str(etc)], check=True)
    lib.mkdir()
    printed = run(apart(f"{steps}{DAEMON}", None, {"/etc": etc, "/var/lib": lib}), open_directory)
    assert "local: file:///var/lib/datamover/files" in printed
    assert "configuration /etc/datamover/datamover.toml; destination local is /var/lib/datamover/files" in printed


# docs/operations.md -------------------------------------------------------------------------------------------

BY_ROOT = [*blocks(OPERATIONS, "## Install"), blocks(OPERATIONS, "## systemd")[0]]
BY_ANYBODY = [part for name in ("The database", "The console", "Secrets") for part in blocks(OPERATIONS, f"## {name}")]
BY_NOBODY = [blocks(OPERATIONS, "## systemd")[1], *blocks(OPERATIONS, "## A container")]
"""They need a machine that systemd has started, and a container engine."""
START = re.findall(r"^\| `(twist.*?)` \|", OPERATIONS, re.MULTILINE)
ADMIN = re.findall(r"^\| `([a-z]+-?[a-z-]*(?: .*?)?)` \|", part_of("## datamover-admin"), re.MULTILINE)


def test_every_command_is_run_or_said_not_to_be() -> None:
    """Each block of the page is a command that a test here runs, or a file, or of what the page says is not run."""
    shown = [block for name in re.findall("^## .*$", OPERATIONS, re.MULTILINE) for block in blocks(OPERATIONS, name)]
    files = [block for block in shown if re.match(r"\[|scrape_configs:|job \d", block)]
    assert sorted([*BY_ROOT, *BY_ANYBODY, *BY_NOBODY, *files]) == sorted(shown)
    for program in {line.split()[0] for block in BY_NOBODY for line in block.splitlines() if line[0] != " "}:
        assert f"`{program}`" in part_of("# Operations")
    assert START == ["twistd datamover", "twistd -n datamover", "twistd -ny datamover.tac", "twist datamover"]


@only_root
def test_installing(open_directory: Path) -> None:
    """The page's steps as root, from the virtual environment to `systemd-analyze verify`, lead to a service that runs.

    What an index would bring is taken from this environment; the unit's command is run as the unit's user.
    """
    install, steps = BY_ROOT
    make, fetch, cache = install.splitlines()
    assert steps.strip().endswith("systemd-analyze verify /etc/systemd/system/datamover.service")
    etc, lib, opt, copy = (open_directory / name for name in ("etc", "lib", "opt", "copy"))
    subprocess.run(["cp", "--archive", "/etc", str(etc)], check=True)
    lib.mkdir()
    opt.mkdir()
    copy.mkdir()
    built(copy)
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    depend = f"printf '%s\\n' {shlex.join(packages)} > $(echo /opt/datamover/lib/python*/site-packages)/others.pth"
    twistd = f"sed '1s|.*|#!/opt/datamover/bin/python|' {sys.prefix}/bin/twistd > /opt/datamover/bin/twistd"
    offline = f"PIP_NO_INDEX=1 PIP_NO_DEPS=1 PIP_FIND_LINKS={copy}/dist {fetch} --force-reinstall --quiet"
    (drop_in,) = [block for block in blocks(OPERATIONS, "## systemd") if block.startswith("[Service]")]
    drop_ins = "/etc/systemd/system/datamover.service.d"
    more = f"mkdir {drop_ins}\nprintf %s {shlex.quote(drop_in)} > {drop_ins}/override.conf"
    unit = (ROOT / "etc/datamover.service").read_text()
    started = re.search("^ExecStart=(.*)$", unit, re.MULTILINE)
    assert started is not None
    start = f"cd /var/lib/datamover\nrunuser -u datamover -- {started[1]} > {open_directory}/log 2>&1 &\nRUNNING=$!"
    script = [make, depend, offline, twistd, "chmod +x /opt/datamover/bin/twistd", cache, steps, more]
    script += [steps.splitlines()[-1], start, f"cd {open_directory}"]
    mounts = {"/etc": etc, "/var/lib": lib, "/opt": opt}
    printed = run(apart("\n".join([*script, SETTLE, "cat log", STOP]), None, mounts), open_directory)
    assert "local: file:///var/lib/datamover/files" in printed
    assert "configuration /etc/datamover/datamover.toml; destination local is /var/lib/datamover/files" in printed
    assert (etc / "datamover/datamover.toml").read_text() == SAMPLE
    assert (lib / "datamover").stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("user", USERS)
def test_operating(open_directory: Path, user: str | None) -> None:
    """The page's other commands work in their order: every way to start, datamover-admin, the console, the key.

    The example's hosts and ports are this test's, ssh has a configuration of its own, and for sealed values that are
    still to be stored a second is waited instead of a minute.
    """
    port, console, name = free_port(), free_port(), f"mover_{secrets.token_hex(4)}"
    (work := open_directory / "work").mkdir()
    (given := open_directory / "given").mkdir()
    (other := open_directory / "other").mkdir()
    (programs := open_directory / "bin").mkdir()
    database = f'[database]\nurl = "postgresql://{name}@127.0.0.1:{shared().server.port}/{name}"\n'
    for directory, tables in ((work, ""), (other, ""), (given, database)):
        (directory / "datamover.toml").write_text(
            f'[service]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\ndata_directory = "{directory}/data"\n'
            f'[console]\nssh = "tcp:{console}:interface=127.0.0.1"\n'
            f'authorized_keys_file = "{open_directory}/key.pub"\n{tables}'
        )
    shutil.copy(ROOT / "datamover.tac", work)
    subprocess.run(["ssh-keygen", "-q", "-ted25519", "-N", "", "-f", open_directory / "key"], check=True)
    known = f"-oStrictHostKeyChecking=accept-new -oUserKnownHostsFile={open_directory}/known"
    ssh = f"{shutil.which('ssh')} -F/dev/null -oIdentitiesOnly=yes -i {open_directory}/key {known}"
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {ssh} "$@" < /dev/null\n')
    (programs / "ssh").chmod(0o755)
    owned(user, open_directory, work, given, other, open_directory / "key", open_directory / "key.pub")

    def here(command: str) -> str:
        for there, mine in {
            "db.example.org": f"127.0.0.1:{shared().server.port}",
            "-p 10703": f"-p {console}",
            "HOST[:PORT]": f"127.0.0.1:{console}",
            "[--connect]": "--connect",
            "FILE": f"{open_directory}/dump",
        }.items():
            command = command.replace(there, mine)
        return re.sub(r"rotate-key(?! --prepare)", "rotate-key --wait 1", command)

    administer = {
        "hash-password": "echo secret | ",
        "restore FILE": "cd ../other\nmkdir data\ncp ../work/data/key data/key\n",
    }
    initialise, console_lines, *keys = BY_ANYBODY
    daemon, foreground, *others = START
    script = [f"cd {work}", "trap 'kill $RUNNING $(cat twistd.pid) 2> /dev/null || true' EXIT", "RUNNING="]
    script += [f"{daemon} --version", daemon, DAEMON]
    script += [f"{each} > log 2>&1 &\nRUNNING=$!\n{SETTLE}{STOP}" for each in others]
    script += [f"cd {given}", here(initialise), f"cd {work}"]
    script += [f"{foreground} > log 2>&1 &\nRUNNING=$!\n{SETTLE}"]
    script += [f"{administer.get(each, '')}datamover-admin {here(each)}\ncd {work}" for each in ADMIN]
    script += [here(console_lines), *map(here, keys), STOP]
    printed = run(scripted("\n".join(script), user), open_directory)
    for told in (
        f"datamover {__version__}",
        f"made the database {name}",
        f"wrote {open_directory}/dump",
        f"restored {open_directory}/dump",
        "destination    local",
        "$argon2",
        f"[127.0.0.1]:{console} ssh-ed25519 ",
        "datamover: help() lists",
        "there is no FAILED job",
        "the old key is kept",
    ):
        assert told in printed, told
    assert printed.count("the old key is removed") == 3
    assert SAMPLE in printed
