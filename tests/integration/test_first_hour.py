"""The commands of README.md and docs/operations.md, in their order, in an empty directory with a network of its own."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.others import as_user, reachable

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces, and becomes somebody else")

SETTLE = """
until grep -q "datamover is ready" log; do
    kill -0 $RUNNING || { cat log; exit 1; }
    sleep 0.1
done
"""


def blocks(text: str, heading: str) -> list[str]:
    """Return the indented blocks below a heading."""
    part = re.search(rf"^{re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert part is not None
    found = re.findall(r"(?:^    .*\n)+", part[1], re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


def apart(directory: Path, mounts: dict[str, Path], script: str, user: str | None = None) -> str:
    """Run a script with a network of its own and directories mounted over others; return what it prints."""
    binds = "\n".join(f"mount --bind {shlex.quote(str(over))} {path}" for path, over in mounts.items())
    inner = ["sh", "-ec", script]
    command = [
        *("unshare", "--mount", "--net", "sh", "-ec"),
        f'ip link set lo up\n{binds}\nexec "$@"',
        *("sh", *(as_user(user, inner) if user else reachable(inner))),
    ]
    environment = {**os.environ, "HOME": str(directory), "PYTHONUNBUFFERED": "1"}
    environment.pop("XDG_DATA_HOME", None)
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def doctested(session: str) -> str:
    """Return the command that runs a Python session and compares what it shows."""
    return f"printf %s {shlex.quote(session)} > session.txt\npython3 -m doctest -o ELLIPSIS session.txt\n"


@pytest.mark.parametrize("user", [None, "nobody"])
def test_the_first_hour(open_directory: Path, user: str | None) -> None:
    """What README says below "Run it" works as it stands: the first calls, the file, the source on this machine."""
    run, first, allow, second, *_ = blocks(README, "## Run it")
    assert run == "make run\n"
    checkout = open_directory / "checkout"
    checkout.mkdir()
    for name in ("README.md", "Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, checkout)
    (checkout / ".venv").mkdir()
    (checkout / ".venv/bin").symlink_to(Path(sys.prefix) / "bin")
    (checkout / ".venv/.installed").touch()  # It is installed, and there is no network.
    data = open_directory / "lib"
    data.mkdir()
    if user is not None:
        for path in (open_directory, checkout):
            shutil.chown(path, user)
    # The public server of the first example is out of reach here: that file is asked for, and not waited for.
    asked = first.partition(">>> mover.jobs.wait")[0].partition("$ python3\n")[2]
    serve, moved = second.split("$ python3\n")
    start = f"{run.strip()} > log 2>&1 &\nRUNNING=$!\n{SETTLE}"
    stop = "kill $(cat twistd.pid)\nwait $RUNNING || true\n"
    script = f"cd checkout\nexport PATH={sys.prefix}/bin:$PATH\n{start}{doctested(asked)}{stop}{allow}{start}"
    script += f"{serve.strip()}\nSERVER=$!\nsleep 1\n{doctested(moved)}kill $SERVER\n{stop}cat log"
    log = apart(open_directory, {"/var/lib": data}, script, user)
    files = data / "datamover/files" if user is None else open_directory / ".local/share/datamover/files"
    assert f"destination local is {Path('/var/lib/datamover/files') if user is None else files}; try:" in log
    assert "call http://127.0.0.1:10700/data_mover; configuration " in log
    assert (files / "in/README.md").read_text() == README


def test_the_systemd_page(open_directory: Path) -> None:
    """The steps of docs/operations.md up to `systemd-analyze verify` work as they stand, with the sample as it is."""
    steps = blocks(OPERATIONS, "## systemd")[0]
    assert steps.strip().endswith("systemd-analyze verify /etc/systemd/system/datamover.service")
    etc, lib, installed = (open_directory / name for name in ("etc", "lib", "opt"))
    subprocess.run(["cp", "--archive", "/etc", str(etc)], check=True)
    lib.mkdir()
    (installed / "datamover/share").mkdir(parents=True)
    (installed / "datamover/bin").symlink_to(Path(sys.prefix) / "bin")
    (installed / "datamover/share/datamover").symlink_to(ROOT / "etc")
    printed = apart(open_directory, {"/etc": etc, "/var/lib": lib, "/opt": installed}, steps)
    assert "destination    local: file:///var/lib/datamover/files" in printed
    assert (etc / "datamover/datamover.toml").read_text() == (ROOT / "etc/datamover.toml").read_text()
    assert (etc / "systemd/system/datamover.service").exists()
