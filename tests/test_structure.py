"""The promised structure: imports point one way, public names stay, and the README's file tree is true."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pixelkeep

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pixelkeep"
# Each layer may import the layers listed after it; members of one layer do not import each other.
LAYERS = (
    {"cli"},
    {"experiments"},
    {"ultra"},
    {"datasets", "evaluation", "tiling", "deploy", "report"},
    {"blocks", "assets", "errors", "writing"},
)

# The same order inside ultra/. heads.py is not listed: it keeps the module path that checkpoints refer to.
ULTRA_LAYERS = (
    "export",
    "doctor",
    "commands",
    "trainers",
    "tracking",
    "tiled",
    "predictors",
    "validators",
    "conversion",
    "data",
    "costs",
    "weights",
    "running",
    "network",
)

# The same order inside datasets/; "" means its top-level modules: one per format, and those for all formats.
DATASETS_LAYERS = ("doctor", "demo", "", "annotations", "definitions", "images", "files", "sampling")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the full names of everything that a module imports, at any nesting level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rank(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports__point_one_way(path):
    """A module imports its own folder and lower layers, and only ultra/ and the layers above it import Ultralytics."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    own = parts[0]
    names = imports(path)
    if own not in {"ultra", "cli", "experiments"}:
        assert not {n for n in names if n.split(".")[0] == "ultralytics"}
    if own in {"__init__", "__main__"}:
        assert {n.split(".")[1] for n in names if n.startswith("pixelkeep.")} <= {"ultra", "cli"}
        return
    for name in names:
        if name.startswith("pixelkeep.") and name.split(".")[1] in set().union(*LAYERS):
            other = name.split(".")[1]
            assert other == own or rank(other) > rank(own), f"{path.name} imports {name}"


def parts_imported(path: Path, package: str) -> set[str]:
    """Return the parts of a package that one of its modules imports, relatively or by full name."""
    prefix, own = f"pixelkeep.{package}.", len(path.relative_to(PACKAGE / package).parts)
    names = {n.removeprefix(prefix).split(".")[0] for n in imports(path) if n.startswith(prefix)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == own:
            names.update([node.module.split(".")[0]] if node.module else [alias.name for alias in node.names])
    return names


@pytest.mark.parametrize("path", sorted((PACKAGE / "ultra").glob("*/*.py")), ids=lambda p: "/".join(p.parts[-2:]))
def test_ultra__imports_point_one_way(path):
    """A part of ultra/ imports only itself and the parts below it."""
    below = {*ULTRA_LAYERS[ULTRA_LAYERS.index(path.parent.name) :], "heads"}
    assert parts_imported(path, "ultra") <= below


@pytest.mark.parametrize("path", sorted((PACKAGE / "datasets").rglob("*.py")), ids=lambda p: "/".join(p.parts[-2:]))
def test_datasets__imports_point_one_way(path):
    """A part of datasets/ imports only itself and the parts below it; its top-level modules form one part."""
    own = path.parent.name if path.parent != PACKAGE / "datasets" else ""
    parts = {part if part in DATASETS_LAYERS else "" for part in parts_imported(path, "datasets")}
    assert parts <= {*DATASETS_LAYERS[DATASETS_LAYERS.index(own) :]}


def test_tests__mirror_the_package():
    """Every folder of tests has the name of the folder it tests, and no two test modules share a file name."""
    tests = [path.relative_to(ROOT / "tests") for path in sorted((ROOT / "tests").rglob("*.py"))]
    assert not {str(path.parent) for path in tests if not (PACKAGE / path.parent).is_dir()}
    names = [path.name for path in tests if path.name != "conftest.py"]
    assert len(names) == len(set(names))


def run_python(code: str, cwd: Path) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("module", ["pixelkeep", "pixelkeep.evaluation", "pixelkeep.datasets", "pixelkeep.cli.main"])
def test_import__loads_neither_torch_nor_ultralytics(module, tmp_path):
    """These modules load neither torch, Ultralytics nor matplotlib, and only the data needs OpenCV."""
    heavy = "sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'ultralytics', 'matplotlib', 'cv2'})"
    loaded = run_python(f"import {module}; print({heavy})", tmp_path)
    assert loaded in ("[]", "['cv2']" if module == "pixelkeep.datasets" else "[]")


def test_api__frozen():
    """The public Python names are those that users were promised."""
    assert pixelkeep.__all__ == ["__version__", "TiledDetector", "compare", "convert_model", "evaluate", "register"]
    assert all(hasattr(pixelkeep, name) for name in pixelkeep.__all__)
    with pytest.raises(AttributeError):
        _ = pixelkeep.nothing


def options() -> dict[str, list[str]]:
    import typer.main

    from pixelkeep.cli.main import app

    group = typer.main.get_command(app)
    return {
        name: sorted(o for p in command.params for o in (*p.opts, *p.secondary_opts))
        for name, command in sorted(group.commands.items())
    }


def test_options__frozen():
    """The command-line options change only together with frozen_options.json."""
    expected = json.loads((Path(__file__).parent / "frozen_options.json").read_text(encoding="utf-8"))
    assert options() == expected


def test_readme__file_tree_is_true():
    """Every path in the README's tree exists, and every file tracked by git is listed, itself or by its folder."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", text, re.S)
    assert block, "README.md has no <!-- tree --> block"
    listed, folders = set(), []
    for line in block[1].splitlines():
        name = line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name.rstrip("/")]
        for part in name.split():
            path = "/".join([*folders[:depth], part])
            assert (ROOT / path).exists(), path
            listed.add(path.rstrip("/"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    for file in filter(None, tracked):
        ancestors = {file, *(str(p) for p in Path(file).parents)}
        assert ancestors & listed, f"{file} is missing in the README's tree"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module__opens_with_what_it_is_for(path):
    """Every module opens with a docstring and has at most 300 lines."""
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 300
