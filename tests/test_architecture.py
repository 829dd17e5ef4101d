"""The architecture, read from the imports; the rules of style a linter does not know; versions that must agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bridge"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]

# What each room may import of ours. Imports point one way, and pump and legs never meet.
ROOMS: dict[str, set[str]] = {
    "core": {"core"},
    "legs": {"core", "legs"},
    "rounds": {"core"},
    "pump": {"core", "rounds"},
    "heartbeats": {"core"},
    "tracing": {"core"},
    "config": {"core", "config"},
    "observe": {"core", "observe"},
    "page": {"core", "page"},
    "listener": set(),
    "web": {"core", "listener", "observe", "page"},
    "routes": {"core", "legs", "config", "rounds", "heartbeats", "tracing"},
    "sampling": {"core", "legs", "observe"},
    "running": {"core", "legs", "config", "pump", "observe", "routes", "sampling", "heartbeats", "tracing"},
    "connections": {"legs", "config", "routes"},
    "daemon": {"core", "config", "observe", "web", "connections", "running", "sampling", "tracing"},
    "embedded": {"core"},
    "demo": {"core", "demo", "embedded"},
    "verbs": {"core", "legs", "config", "observe", "routes", "daemon", "embedded", "demo", "page", "verbs"},
    "cli": {"core", "verbs"},
}
OUTSIDE: dict[str, set[str]] = {
    "nats": {"legs", "demo", "verbs"},
    "aiobotocore": {"legs", "demo", "verbs"},
    "botocore": {"legs"},
    "aiohttp": {"legs", "web", "verbs"},
    "prometheus_client": {"observe"},
    "opentelemetry": {"tracing"},
    "structlog": {"observe"},
    "typer": {"cli", "verbs"},
    "rich": {"cli", "verbs", "demo"},
    "pydantic": {"config"},
    "pydantic_settings": {"config"},
    "yaml": {"config"},
}
PURE = {"asyncio", "time", "os", "logging", "random", "socket", "subprocess", "pathlib", "threading"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "bridge" and rest:
            assert rest.partition(".")[0] in ROOMS[here], f"{here} imports {name}"
        if top in OUTSIDE:
            assert here in OUTSIDE[top], f"{here} imports {name}"
        if here in ("core", "page"):
            assert top not in PURE, f"{here} imports {name}, and is no longer pure"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_holds_and_is_short_enough_to_read(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path.name} does not say what it holds"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_are_the_fields_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not re.search(r"manager|helper|util|handler|base(?!d|64)", node.name, re.IGNORECASE), node.name


def test_legs_never_log() -> None:
    for path in (PACKAGE / "legs").glob("*.py"):
        assert not {"logging", "structlog"} & set(imports(path)), path.name


def test_commands_print_through_one_module() -> None:
    """So that nothing from outside reaches a terminal as it is: verbs/printed.py escapes whatever it is given."""
    room = [*(PACKAGE / "verbs").glob("*.py"), *(PACKAGE / "demo").glob("*.py"), PACKAGE / "cli.py"]
    for path in room:
        if path.name == "printed.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            forbidden = {"print", "typer.echo", "typer.secho", "click.echo", "Console", "sys.stdout.write"}
            assert called not in forbidden, f"{path.name}:{node.lineno} prints by itself"  # type: ignore[attr-defined]
            assert "from_markup" not in called, f"{path.name} reads markup out of a text"


def test_the_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == bridge.__version__


LINK = re.compile(r"\]\((?!http|#)([^)#]+)")


@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
        *(
            "docs/architecture.md",
            "docs/wire-format.md",
            "docs/comparison.md",
            "docs/faults.md",
            "docs/performance.md",
            "docs/operations.md",
            "docs/lag.md",
            "docs/metrics.md",
            "docs/runbook.md",
        ),
    ],
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in LINK.findall((ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", ["comparison.md", "faults.md"])
def test_every_proof_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / page).read_text())
    assert len(named) > 20
    for path, name in named:
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"(def|class) {name}\b", text), f"{path}::{name}"


def test_every_make_target_the_pages_name_exists() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/architecture.md"):
        named = set(re.findall(r"`make ([a-z]+)`", (ROOT / page).read_text()))
        assert named <= known, page


METRIC = re.compile(r"nats_sqs_bridge_[a-z_]+")


def test_every_metric_the_readme_names_is_exposed() -> None:
    from bridge.observe import Observation

    observation = Observation()
    observation.route("r")
    exposed = set(METRIC.findall(observation.exposition()[0].decode()))
    named = set(METRIC.findall((ROOT / "README.md").read_text() + (ROOT / "docs" / "operations.md").read_text()))
    assert named
    assert named <= exposed, named - exposed
