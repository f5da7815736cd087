"""What is shipped: an sdist of the tracked files and the wheel that it makes, installed where there is no checkout."""

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.service import Service, twistd

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds that one command may take."""
RUN_TWISTD = "from twisted.scripts.twistd import run; run()"


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, beside the dependencies of the one that the tests run in."""

    sdist: Path
    wheel: Path
    directory: Path
    tracked: list[str]
    """What it was built from, relative to the checkout."""

    @property
    def python(self) -> list[str]:
        # Isolated: neither the current directory nor PYTHONPATH may bring the checkout in.
        return [str(self.directory / "bin/python"), "-I"]

    @property
    def twistd(self) -> list[str]:
        return [*self.python, "-c", RUN_TWISTD]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command outside the checkout and return what it printed."""
        return output(*command, cwd=cwd or self.directory)


def output(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked() -> list[str]:
    listed = output("git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", cwd=CHECKOUT)
    return [name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]


def built(copy: Path) -> tuple[Path, Path]:
    """Return the sdist of a copy of the tracked files, and the wheel that is built from it."""
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, copy / name)
    output(sys.executable, "-m", "build", "--no-isolation", cwd=copy)
    (sdist,) = (copy / "dist").glob("*.tar.gz")
    (wheel,) = (copy / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The sdist of a copy of the tracked files, the wheel built from it, and that one installed."""
    sdist, wheel = built(tmp_path_factory.mktemp("copy"))
    directory = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(directory)
    (packages,) = directory.glob("lib/python*/site-packages")
    # A line names a directory, and what *.pth there name is not followed: an editable install stays out.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in others))
    output(
        *(sys.executable, "-m", "pip", "--python", str(directory / "bin/python"), "install", "--quiet"),
        *("--no-deps", "--no-index", "--no-compile", "--force-reinstall", str(wheel)),
        cwd=directory,
    )
    return Installed(sdist, wheel, directory, tracked())


def test_what_is_in_the_sdist(installed: Installed) -> None:
    """The sdist holds what the wheel is built from, the documents, and what an operator copies from."""
    with tarfile.open(installed.sdist) as sdist:
        files = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    wanted = ("datamover/", "twisted/", "docs/", "etc/", "examples/clients/")
    shipped = {name for name in files if not name.startswith("datamover.egg-info/")}
    assert {name for name in shipped if name.startswith(wanted)} == {
        name for name in installed.tracked if name.startswith(wanted)
    }
    assert (
        {"README.md", "LICENSE", "datamover.tac", "Dockerfile"}
        <= shipped
        <= {"PKG-INFO", *installed.tracked, "setup.cfg"}
    )


def test_what_is_in_the_wheel(installed: Installed) -> None:
    """Every tracked file of the package is in the wheel, with the plugin, the licence and nothing else."""
    expected = {name for name in installed.tracked if name.startswith(("datamover/", "twisted/"))}
    with zipfile.ZipFile(installed.wheel) as wheel:
        shipped = set(wheel.namelist())
        (licence,) = [name for name in shipped if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(licence) == (CHECKOUT / "LICENSE").read_bytes()
        (metadata,) = [name for name in shipped if name.endswith(".dist-info/METADATA")]
        told = wheel.read(metadata).decode()

    data = {name for name in shipped if ".data/" in name}
    documents = {name for name in installed.tracked if re.fullmatch(r"docs/[^/]*\.(md|svg)", name)}
    assert {name for name in shipped if ".dist-info/" not in name} - data == expected
    assert {name.partition(".data/data/")[2] for name in data} == {
        *(f"share/doc/datamover/{Path(name).name}" for name in documents),
        *("share/doc/datamover/README.md", "share/doc/datamover/CHANGELOG.md"),
        *(f"share/datamover/{Path(name).name}" for name in installed.tracked if re.fullmatch(r"etc/[^/]*", name)),
        *("share/man/man1/datamover-admin.1", "share/man/man5/datamover.toml.5"),
    }
    assert "datamover/jobs/queries.sql" in shipped
    assert "datamover/jobs/migrations/0001_jobs.sql" in shipped
    assert "datamover/py.typed" in shipped
    assert "License-Expression: MIT" in told
    assert "License-File: LICENSE" in told
    assert "# datamover" in told


def test_what_errors_name_is_there(installed: Installed, tmp_path: Path) -> None:
    """An error that names a page names a file that is installed; the sample, the unit and the change log are, too."""
    admin = str(installed.directory / "bin/datamover-admin")
    config = tmp_path / "datamover.toml"
    config.write_text("[nonsense]\n")
    done = subprocess.run(
        [admin, "check-config", "--config", str(config)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    named = re.search(r"unknown key; see (\S+) for those there are", done.stderr)
    assert named is not None
    page = Path(named[1])
    assert page.is_relative_to(installed.directory)
    assert page.read_text() == (CHECKOUT / "docs/configuration.md").read_text()
    assert installed.run(admin, "sample-config") == (CHECKOUT / "etc/datamover.toml").read_text()
    assert "[Service]" in (installed.directory / "share/datamover/datamover.service").read_text()
    changes = (page.parent / "CHANGELOG.md").read_text()
    for fragment in (CHECKOUT / "changelog.d").glob("*.*.md"):
        assert fragment.read_text().split("\n")[0] in changes


def test_the_installed_copy_is_imported(installed: Installed) -> None:
    """Outside the checkout it is the wheel's modules and SQL files that are used."""
    told = installed.run(
        *installed.python,
        "-c",
        "import datamover, datamover.postgres.migrate as m;"
        "from datamover.postgres.named_queries import QUERIES;"
        "print(datamover.__file__, *(each.number for each in m.available()))",
    )
    file, *numbers = told.split()
    assert Path(file).is_relative_to(installed.directory)
    migrations = sorted((CHECKOUT / "datamover/jobs/migrations").glob("*.sql"))
    assert [int(number) for number in numbers] == [int(path.name.partition("_")[0]) for path in migrations]


def test_twistd_finds_the_plugin(installed: Installed) -> None:
    """``twistd --help`` lists datamover, and ``twistd datamover --help`` its options."""
    listed = [line.split()[:1] for line in installed.run(*installed.twistd, "--help").splitlines()]
    assert ["datamover"] in listed
    assert "--config" in installed.run(*installed.twistd, "datamover", "--help")


def test_twistd_runs_it(installed: Installed, open_directory: Path) -> None:
    """The installed service and its engine processes start, on a database of their own, move a file and stop."""
    (open_directory / "files").mkdir()
    (open_directory / "files/a.txt").write_bytes(b"content")
    service = Service(
        open_directory,
        f'engine_processes = 2\n[destinations.local]\nurl = "file://{open_directory}/files"\n',
        command=lambda config: [*installed.twistd, *twistd(config)[1:]],
    )
    service.start()
    try:
        assert service.proxy.service.status()["ready"] is True
        source = {"destination": "local", "path": "a.txt"}
        job = service.proxy.jobs.submit({"source": source, "destination": "local", "path": "b/"})["id"]
        assert service.ended(job)["status"] == "COMPLETED"
    finally:
        service.stop()
    assert (open_directory / "files/b/a.txt").read_bytes() == b"content"


def test_datamover_admin(installed: Installed, tmp_path: Path) -> None:
    """``datamover-admin`` is installed as a command and checks a configuration."""
    config = tmp_path / "datamover.toml"
    config.write_text(f'[service]\ndata_directory = "{tmp_path}/data"\n[destinations.x]\nurl = "file://{tmp_path}/x"\n')
    admin = str(installed.directory / "bin/datamover-admin")
    assert f"destination    x: file://{tmp_path}/x" in installed.run(admin, "check-config", "--config", str(config))
    version = installed.run(*installed.python, "-c", "import importlib.metadata as m; print(m.version('datamover'))")
    assert installed.run(admin, "--version") == f"datamover {version}"
