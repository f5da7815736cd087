"""The packages and their order: what imports what, wherever an import stands."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ORDER = (
    ("tap", "admin", "engine_process"),
    ("app",),
    ("processes",),
    ("api", "engine", "console", "monitor"),
    ("runtime",),
    ("requests", "notices", "audit"),
    ("jobs",),
    ("registry", "datasets"),
    ("protocols",),
    ("web",),
    ("sealing",),
    ("postgres",),
    ("security",),
    ("concurrency",),
    ("config",),
    ("errors",),
    ("text",),
    ("bounds",),
)
"""From top to bottom: each imports what stands below it, and nothing of its own row or above."""
ABOVE = {name: level for level, names in enumerate(ORDER) for name in names}
BESIDE = {("admin", "tap"), ("engine_process", "tap")}
"""What is run from the command line reads the options of the service, and runs parts of it."""
MODULES = {
    ".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in (CHECKOUT / "datamover").rglob("*.py")
}
ROOT, FOLDER, LINES = 5, 16, 350


def imported(source: str) -> Iterator[str]:
    """Yield what a module imports of datamover: at its top, in functions, and for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import that is relative"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            known = name if name in MODULES else name.rpartition(".")[0]
            if known in MODULES and known != "datamover":
                yield known


@cache
def arrows_found() -> dict[str, set[str]]:
    """Return what each module imports; it is read when a test asks, and not by all who collect the tests."""
    return {module: set(imported(file.read_text())) - {module} for module, file in MODULES.items()}


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def up(arrows: dict[str, set[str]]) -> list[str]:
    """Return the imports that run up or beside, as "a imports b"."""
    return [
        f"{module} imports {target}"
        for module, targets in sorted(arrows.items())
        for target in sorted(targets)
        if (above := package(module)) and (below := package(target)) != above and (above, below) not in BESIDE
        if ABOVE[below] <= ABOVE[above]
    ]


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Return the circles of modules, each as the way around it."""
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            found.append(" -> ".join((*way[way.index(module) :], module)))
        elif module not in done:
            for target in sorted(arrows[module]):
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(arrows):
        visit(module, ())
    return found


def test_each_package_has_its_place() -> None:
    """A new package is given a place in the order."""
    assert {package(module) for module in MODULES} - {""} == set(ABOVE)


def test_no_import_runs_up() -> None:
    """Imports point down, from what is run to what everything stands on."""
    assert up(arrows_found()) == []


def test_no_circle() -> None:
    """No module imports itself by way of others; a package's own page imports what it gathers."""
    assert circles(arrows_found()) == []


def folders_beside(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return which folders import which, of those that lie in the same one."""
    folders = {module.rpartition(".")[0] for module in MODULES}
    beside: dict[str, set[str]] = {folder: set() for folder in folders}
    for module, targets in arrows.items():
        for target in targets:
            ways = [f"{name}.".split(".") for name in (module, target)]
            shared = next(n for n, (one, other) in enumerate(zip(*ways, strict=False)) if one != other)
            ends = [".".join(way[: shared + 1]) for way in ways]
            if folders.issuperset(ends):
                beside[ends[0]].add(ends[1])
    return beside


def test_no_circle_of_folders() -> None:
    """Of the folders in a folder, each imports what stands below it, as packages do."""
    assert circles(folders_beside(arrows_found())) == []


def test_the_engine_knows_no_protocol() -> None:
    """It speaks to every destination through the seams; its own staging directory alone is a local disk's."""
    seams = {f"datamover.protocols.{name}" for name in ("base", "place", "upload")}
    others = {
        f"{module} imports {target}"
        for module, targets in arrows_found().items()
        for target in targets - seams
        if package(module) == "engine" and package(target) == "protocols"
        if module.rpartition(".")[0] != "datamover.engine.groups" or "protocols.local" not in target
    }
    assert others == set()


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("tap", {"datamover.console", "twisted.conch"}),
        ("admin", {"datamover.api", "datamover.engine", "twisted.conch"}),
    ],
)
def test_a_start_imports_what_every_process_needs(module: str, others: set[str]) -> None:
    """The pools of the protocols are imported once a configuration names one; so is the console, and with it conch."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, datamover.{module}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    pools = {name for name in MODULES if name.startswith("datamover.protocols.") and name.endswith(".pool")}
    pools.remove("datamover.protocols.http.client.pool")
    assert len(pools) >= 5
    assert (pools | others) & set(told.stdout.split()) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import datamover.engine.worker", {"datamover.engine.worker"}),
        ("def late():\n    from datamover.engine.worker import Worker", {"datamover.engine.worker"}),
        (
            "if TYPE_CHECKING:\n    from datamover.engine import worker, lease",
            {"datamover.engine.worker", "datamover.engine.lease"},
        ),
        ("from datamover import __version__, errors", {"datamover.errors"}),
        ("import json\nfrom twisted.internet import defer", set()),
    ],
)
def test_every_import_is_seen(source: str, found: set[str]) -> None:
    """At the top, in a function, or for types alone; by the module's name or its package's."""
    assert set(imported(source)) == found


def test_an_arrow_is_named() -> None:
    """What runs up, beside, or around is told as such."""
    arrows = {
        "datamover.jobs.store": {"datamover.engine.worker", "datamover.jobs.rows"},
        "datamover.jobs.rows": {"datamover.jobs.store"},
        "datamover.registry.probe": {"datamover.datasets.base"},
        "datamover.engine.worker": set[str](),
        "datamover.datasets.base": set[str](),
    }
    assert up(arrows) == [
        "datamover.jobs.store imports datamover.engine.worker",
        "datamover.registry.probe imports datamover.datasets.base",
    ]
    assert circles(arrows) == ["datamover.jobs.rows -> datamover.jobs.store -> datamover.jobs.rows"]


def test_the_tree_is_small_everywhere() -> None:
    """The root holds what is run; a folder no more than can be looked over; a module no more than can be read."""
    folders: dict[Path, list[Path]] = {}
    for file in MODULES.values():
        if file.name != "__init__.py":
            folders.setdefault(file.parent, []).append(file)
    crowded = {
        str(folder.relative_to(CHECKOUT)): len(files) for folder, files in folders.items() if len(files) > FOLDER
    }
    assert crowded == {}
    assert len(folders[CHECKOUT / "datamover"]) <= ROOT
    long = {
        str(file.relative_to(CHECKOUT)): n
        for file in MODULES.values()
        if (n := len(file.read_text().splitlines())) > LINES
    }
    assert long == {}


def test_each_class_has_a_name_of_its_own() -> None:
    """A public name means one thing, wherever it is read."""
    names = Counter(
        node.name
        for file in MODULES.values()
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(names) > 400
    assert [name for name, times in names.items() if times > 1] == []
