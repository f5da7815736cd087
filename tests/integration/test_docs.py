"""What is written for people, held against what there is."""

import ast
import doctest
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from datamover import errors
from datamover.admin import main as admin
from datamover.api.methods.calling import BUG
from datamover.api.methods.table import NO_SUCH_METHOD
from datamover.api.site import NAMESPACES
from datamover.api.xmlrpc import records
from datamover.config.load import load
from datamover.config.schema import DestinationTable
from datamover.datasets.configured import CONFIG
from datamover.errors import DataMoverError, RequestError
from datamover.jobs.values import State
from datamover.protocols import PLACES
from datamover.requests import files as request_files
from datamover.requests.files import Rules
from datamover.requests.jobs import JOB_KEYS, checking, checking_many, finish
from datamover.security.passwords import hash_password
from datamover.web.url import WebUrl
from tests.servers.certificates import Authority

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
API = (ROOT / "docs/api.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
EXAMPLE = (ROOT / "etc/datamover.toml").read_text()
METHODS = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}


def part(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next of its level or above."""
    level = heading.index(" ")
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no heading {heading!r}"
    return found[1]


def quoted(text: str) -> list[str]:
    """Return what stands between backquotes, without the examples."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the tables in a text, without their heads."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if re.match(r"\| (\d|[^|]*`)", line):
            yield cells


# The configuration --------------------------------------------------------------------------------------------


def tables() -> dict[str, list[str]]:
    """Return the sections of the configuration, as their headings call them, with the keys of each."""
    found = {}
    for name, field in CONFIG.model_fields.items():
        models = list(models_in(field.annotation))
        if models:
            heading = f"{name}.NAME" if name in ("destinations", "clients") else name
            found[heading] = [key for model in models for key in model.model_fields]
    found["destinations.NAME"] += [
        field.alias or key for protocol in PLACES for key, field in protocol.options.model_fields.items()
    ]
    return found


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that a type is made of, and those that these are made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    else:
        for argument in get_args(annotation):
            yield from models_in(argument)


def uncommented() -> str:
    """Return the example configuration with every commented example in it uncommented."""
    return "\n".join(re.sub(r"^# (?=\[|[a-z_]+ = )", "", line) for line in EXAMPLE.splitlines())


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    """The example configuration can be used as it stands, and what it does not call an example is the default."""
    path = tmp_path / "datamover.toml"
    path.write_text(EXAMPLE)
    loaded, builtin = load(path, CONFIG), CONFIG()
    assert loaded.service.model_copy(update={"data_directory": builtin.service.data_directory}) == builtin.service
    assert list(loaded.destinations) == ["local"]
    archive = tomllib.loads(uncommented())["destinations"]["archive"]
    assert DestinationTable(**{**archive, "bandwidth": None, "keep_free": None}) == DestinationTable(
        url="file:///srv/archive", description="Everything, for keeps"
    )
    for name in set(CONFIG.model_fields) - {"path", "service", "destinations"}:
        assert getattr(loaded, name) == getattr(builtin, name), name


def test_the_examples_in_the_example_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything uncommented, and the files that it names made, it can be used."""
    text = uncommented().replace("$argon2id$…", hash_password("secret"))
    for pair in ("tls", "client"):
        for suffix, file in zip(("pem", "key"), Authority(tmp_path, pair).issue(), strict=True):
            text = text.replace(f"/etc/datamover/{pair}.{suffix}", str(file))
    for name in sorted(set(re.findall(r'_file = "(/etc[^"]+)"', text)) - {"/etc/datamover/key"}):
        file = tmp_path / Path(name).name
        if file.suffix == ".pem":
            file = Authority(tmp_path).file
        else:
            file.write_text("secret\n")
            file.chmod(0o600)
        text = text.replace(f'"{name}"', f'"{file}"')
    text = text.replace("/var/lib/datamover", str(tmp_path / "data")).replace("file:///srv", f"file://{tmp_path}")
    path = tmp_path / "datamover.toml"
    path.write_text(text)

    loaded = load(path, CONFIG)
    names = {"archive", "visualiser", "bucket", "results", "nectar", "research", "cloud", "legacy"}
    assert set(loaded.destinations) == names
    assert set(loaded.clients) == {"portal"}
    assert loaded.database.url
    assert loaded.sources.allow
    assert loaded.sources.credentials
    assert loaded.http.ca_file
    assert loaded.console.telnet
    assert admin(["check-config", "--config", str(path)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", tables())
def test_every_key_is_described(name: str) -> None:
    """docs/configuration.md describes every key of every section, and the example file names it."""
    described = " ".join(quoted(part(CONFIGURATION, f"## [{name}]")))
    for key in tables()[name]:
        assert re.search(rf"\b{key}\b", described), f"[{name}] {key} is not in docs/configuration.md"
        assert re.search(rf"\b{key}\b", EXAMPLE), f"[{name}] {key} is not in etc/datamover.toml"


def test_every_described_key_exists() -> None:
    """docs/configuration.md describes no section and no key that there is not."""
    headings = re.findall(r"^## \[(.+)\]$", CONFIGURATION, re.MULTILINE)
    assert sorted(headings) == sorted(tables())
    for name in headings:
        for cells in rows(part(CONFIGURATION, f"## [{name}]")):
            assert set(quoted(cells[0])) <= set(tables()[name]), name


# The interface ------------------------------------------------------------------------------------------------


def headings() -> dict[str, list[str]]:
    """Return the methods that docs/api.md describes, with their parameters."""
    found = re.findall(r"^### ([\w.]+)\((.*)\)$", API, re.MULTILINE)
    return {name: [each for each in parameters.split(", ") if each] for name, parameters in found}


def test_every_method_is_described() -> None:
    """docs/api.md describes the methods of ``system.listMethods`` and no others, with as many parameters."""
    assert sorted(headings()) == sorted(METHODS)
    for name, parameters in headings().items():
        longest = max(METHODS[name].signatures, key=len)
        assert len(parameters) == len(longest) - 1, name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described_in_full(name: str) -> None:
    """docs/api.md tells each parameter, the answer, the Faults that the method's help tells, and an example."""
    text = part(API, f"### {name}({', '.join(headings()[name])})")
    if name != "check_move_status":
        told = re.findall(r"^- \*?`(\w+)`\*?: ", text, re.MULTILINE)
        assert told == METHODS[name].parameters == headings()[name]
        assert re.search(r"^Answers ", text, re.MULTILINE)
    assert f"    >>> mover.{name}(" in text or f" mover.{name}(" in text
    faults = re.findall(r"^Faults: ([\d, ]+)\.", text, re.MULTILINE)
    helped = METHODS[name].help.partition("\nFaults: ")[2].partition("\nExample: ")[0]
    codes = sorted(set(re.findall(r"\b[18]\d{3}\b", helped)))
    assert faults == ([", ".join(codes)] if codes else [])


def test_the_keys_of_a_request() -> None:
    """docs/api.md describes every key of a request, and no others."""
    table = part(API, "### jobs.submit(request)").partition(">>>")[0]
    assert {name for cells in rows(table) for name in quoted(cells[0])} == JOB_KEYS | request_files.FILE_KEYS


def keys(answer: Callable[..., dict[str, Any]]) -> list[str]:
    """Return the keys of the struct that a function makes."""
    return re.findall(r'^ +"(\w+)": ', inspect.getsource(answer), re.MULTILINE)


def test_the_keys_of_answers() -> None:
    """docs/api.md names every key that ``jobs.status`` and ``jobs.files`` tell, and every status."""
    assert {"id", "status", "first_error"} <= set(keys(records.job))
    assert not set(keys(records.job)) - set(quoted(part(API, "### jobs.status(id)")))
    text = part(API, "### jobs.files(id, options)")
    assert {"index", "digest"} <= set(keys(records.file))
    assert not [key for key in keys(records.file) if f"`{key}`" not in text and f"'{key}'" not in text]
    states = [name for cells in rows(part(API, "## A job's life").partition("###")[0]) for name in quoted(cells[0])]
    assert states == [state.value for state in State]


def family(base: type[DataMoverError]) -> set[type[DataMoverError]]:
    found = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, base)}
    return found - {DataMoverError, errors.ConfigError, errors.StartError}


def test_every_error_is_described() -> None:
    """docs/api.md tells every code that a file may fail with, and whether it is tried again."""
    told = {}
    for cells in rows(part(API, "### When files fail")):
        for code in quoted(cells[0]):
            told[code] = cells[1]
    expected = {}
    for error in family(DataMoverError) - family(RequestError):
        how = ", slowly" if error.slow else ", from zero" if error.bounded else ""
        expected[error.code] = f"yes{how}" if error.retryable else "no"
    assert told == expected


def test_every_fault_is_described() -> None:
    """docs/api.md tells every Fault's code and name."""
    told = {int(cells[0]): cells[1].strip("`") for cells in rows(part(API, "## Faults"))}
    faults = {each.fault: each.code for each in family(RequestError) if issubclass(each, RequestError)}
    assert told == {**faults, NO_SUCH_METHOD: "", BUG: ""}


def examples(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples((ROOT / name).read_text())


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of methods in an example, with the method's name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            proxy, _, method = ast.unparse(node.func).partition(".")
            if proxy in ("mover", "s"):
                yield method, node


@pytest.mark.parametrize("name", PAGES)
def test_examples_can_be_called(name: str) -> None:
    """Every call that a page shows is one of the interface, with as many parameters; every answer can be read."""
    for example in examples(name):
        for method, call in calls(example.source):
            taken = {len(signature) - 1 for signature in METHODS[method].signatures}
            assert len(call.args) in taken, example.source
        if example.want:
            ast.literal_eval(example.want.strip())


def test_examples_are_accepted() -> None:
    """Every request that docs/api.md shows passes the checks of ``jobs.submit``."""
    rules = Rules("portal", {"visualiser": 255, "archive": 255}, None, WebUrl.parse, max_files=10, max_attempts=5)
    seen = []
    for example in examples("docs/api.md"):
        for method, call in calls(example.source):
            if method in ("jobs.submit", "jobs.check"):
                seen.append(finish(checking(ast.literal_eval(call.args[0]), rules)))
            elif method == "jobs.submit_many":
                seen += finish(checking_many(ast.literal_eval(call.args[0]), rules))
    assert len(seen) >= 8


@pytest.mark.parametrize(
    ("method", "required"),
    [
        ("jobs.submit", {"id", "status", "created"}),
        ("jobs.status", {"id", "status", "files_total", "bytes_done", "rate", "submitted_at"}),
        ("jobs.files", {"index", "source", "destination", "path", "status", "digest"}),
        ("service.status", {"version", "nodes", "queue", "rate", "ready"}),
        (
            "destinations.describe",
            {"name", "description", "protocol", "abilities", "lacks", "max_active", "active", "queued"},
        ),
    ],
)
def test_examples_show_what_is_answered(method: str, required: set[str]) -> None:
    """The answers that are shown have the keys of the real ones."""
    shown = [
        ast.literal_eval(example.want.strip())
        for example in examples("docs/api.md")
        if example.source.startswith(f"mover.{method}(") and example.want.startswith(("{", "["))
    ]
    assert shown
    for answer in shown:
        assert required <= set(answer if isinstance(answer, dict) else answer[0])


# The pages ----------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are linked by, as GitHub makes it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Every link within the pages, and every file of this repository that they name, is there."""
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        page = (ROOT / name).parent / file if file else ROOT / name
        assert page.is_file(), target
        assert not anchor or anchor in anchors(page), target
    for target in re.findall(r"\b(?:docs|etc|examples|benchmarks)/[\w./-]*\w", text):
        assert (ROOT / target).exists() or re.search(rf"[/\w]{re.escape(target)}", text), target


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name: str) -> None:
    """Every make target and every command of datamover-admin that the pages name is there."""
    text = (ROOT / name).read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:`|^    )make (\w+)", text, re.MULTILINE):
        assert target in targets, target
    for command in re.findall(r"(?:`|^    )datamover-admin ([a-z-]+)", text, re.MULTILINE):
        with pytest.raises(SystemExit) as ended:
            admin([command, "--help"])
        assert ended.value.code == 0, command


def test_every_defence_is_shown() -> None:
    """The tests that docs/security.md calls witnesses exist."""
    text = (ROOT / "docs/security.md").read_text()
    witnesses = re.findall(r"`([\w/]+): (test_\w+)`", text)
    assert len(witnesses) > 40
    for module, test in witnesses:
        assert re.search(rf"\bdef {test}\(", (ROOT / f"tests/{module}.py").read_text()), f"{module}: {test}"
    for cells in (line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 1):
        assert "`test" in cells[1] or ": test_" in cells[1] or cells[1] == "shown by |", cells[0]


def test_the_readme_names_methods_that_there_are() -> None:
    """What README.md lists as methods exists."""
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`((?:jobs|destinations|service|system)\.\w+)`", text))
    assert named
    assert named <= set(METHODS)
    assert set(re.findall(r"mover\.([\w.]+)\(", text)) <= set(METHODS)
