"""What gets installed, what importing it costs, and which way its imports point."""

import ast
import graphlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import worldsim

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
LEAVES = ("worldsim.tokenizer", "worldsim.dynamics")
WIRE = {f"worldsim.server.{name}" for name in ("protocol", "frames", "media")}  # no I/O


def source_files() -> dict[str, Path]:
    """Every module of the project under its import name; editors' symlinks are not followed."""
    files = {}
    for name in SETUPTOOLS["packages"]:
        folder = FOLDERS.get(name, ROOT / name.replace(".", "/"))
        for path in folder.glob("*.py"):
            files[name if path.stem == "__init__" else f"{name}.{path.stem}"] = path
    return files


FILES = source_files()


class Imports(ast.NodeVisitor):
    """Collects what a module imports: at import time, and also lazily inside functions."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.depth = 0
        self.eager: set[str] = set()
        self.anywhere: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        self.add(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.module}: imports are absolute here"
        home = node.module or ""
        names = [f"{home}.{alias.name}" for alias in node.names]
        self.add(*(name if name in FILES else home for name in names))

    def add(self, *names: str) -> None:
        self.anywhere.update(names)
        if not self.depth:
            self.eager.update(names)


def imports_of(module: str) -> Imports:
    found = Imports(module)
    found.visit(ast.parse(FILES[module].read_text()))
    return found


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_packages_know_neither_the_engine_nor_each_other(leaf: str) -> None:
    for module in (name for name in FILES if is_within(name, leaf)):
        ours = {name for name in imports_of(module).anywhere if is_within(name, "worldsim")}

        assert all(is_within(name, leaf) for name in ours), f"{module} imports {ours}"


def test_clients_know_the_wire_format_and_nothing_else_of_the_server() -> None:
    banned = (*LEAVES, "worldsim.server", "worldsim.training", "worldsim.commands")
    for module in (name for name in FILES if is_within(name, "worldsim.clients")):
        for name in imports_of(module).anywhere - WIRE:
            assert not any(is_within(name, package) for package in banned), f"{module}: {name}"


@pytest.mark.parametrize("module", sorted(WIRE))
def test_the_wire_format_stands_by_itself(module: str) -> None:
    ours = {name for name in imports_of(module).anywhere if is_within(name, "worldsim")}

    assert ours <= {"worldsim.errors", *WIRE}


def test_the_engine_knows_neither_server_nor_clients() -> None:
    upper = tuple(f"worldsim.{name}" for name in ("server", "clients", "benchmarks", "commands"))
    exempt = (*upper, "worldsim.doctor")  # `doctor --probe` runs a benchmark
    for module in FILES:
        if any(is_within(module, package) for package in exempt):
            continue
        for name in imports_of(module).anywhere:
            assert not any(is_within(name, package) for package in upper), f"{module}: {name}"


def test_the_server_knows_no_client_and_no_command() -> None:
    for module in (name for name in FILES if is_within(name, "worldsim.server")):
        for name in imports_of(module).anywhere:
            for package in ("worldsim.clients", "worldsim.commands"):
                assert not is_within(name, package), f"{module} imports {name}"


def test_no_imports_go_round_in_a_circle() -> None:
    graph = {module: imports_of(module).eager & FILES.keys() for module in FILES}

    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle

    assert set(order) == set(FILES)


def test_nothing_is_imported_by_its_folder_name() -> None:
    bare = {name.removeprefix("worldsim.") for name in FOLDERS} | {"pickle"}
    for module in FILES:
        taken = {name.split(".")[0] for name in imports_of(module).anywhere}

        assert not taken & bare, f"{module} imports {taken & bare}"


def test_every_folder_with_code_is_in_the_package_table() -> None:
    tops = [ROOT / "worldsim", *FOLDERS.values()]
    found = {path.parent for top in tops for path in top.rglob("*.py") if not path.is_symlink()}
    links = {path for path in (ROOT / "worldsim").iterdir() if path.is_symlink()}

    for folder in found:
        if not any(folder.is_relative_to(link) for link in links):
            listed = any(path.parent == folder for path in FILES.values())
            assert listed, f"{folder.relative_to(ROOT)} is not in [tool.setuptools] packages"


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        (
            "import worldsim",
            {"torch", "pygame", "mamba_ssm", "diffusers", "torchvision", "transformers"},
        ),
        (
            "import worldsim; worldsim.World",
            {"pygame", "mamba_ssm", "diffusers", "torchvision", "transformers"},
        ),
        ("import worldsim.cli as c; c.main(['--help'])", {"torch", "numpy", "tyro", "pygame"}),
        ("import worldsim.cli as c; c.main(['doctor'])", {"torch", "pygame", "diffusers"}),
    ],
)
def test_light_things_stay_light(statement: str, heavy: set[str]) -> None:
    code = f"{statement}\nimport sys\nsys.exit(' '.join({heavy!r} & set(sys.modules)) or 0)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, f"imported: {done.stderr}"


def test_version_is_written_once_and_meant_twice() -> None:
    assert version("worldsim-engine") == worldsim.__version__


def test_constraints_pin_every_direct_dependency_and_name_no_place() -> None:
    text = (ROOT / "constraints.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in text.splitlines()}

    wanted = [*project["dependencies"], *extras["play"], *extras["games"], *extras["dev"]]
    for requirement in wanted:
        name = requirement.split(">")[0].split("=")[0].lower().replace("_", "-")
        assert name in pinned, f"constraints.txt does not pin {name}"
    assert "torch==2.13.0\n" in text
    assert "://" not in text and "@" not in text


def test_the_wheel_holds_one_top_level_package_with_its_world(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    # A copy, because setuptools leaves `build` behind and would ship stale modules from it.
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree)
    for folder in ("worldsim", *(path.name for path in FOLDERS.values())):
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]

    subprocess.run([*pip, "--wheel-dir", out, tree], check=True, timeout=120, capture_output=True)

    (wheel,) = out.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    dist_info = f"worldsim_engine-{worldsim.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"worldsim", dist_info}
    assert {f"{dist_info}/licenses/LICENSE", f"{dist_info}/licenses/NOTICE"} <= set(names)
    modules = {name for name in names if name.endswith(".py")}
    assert {name.removesuffix(".py").removesuffix("/__init__") for name in modules} == {
        module.replace(".", "/") for module in FILES
    }
    assert "worldsim/py.typed" in names
    world = {path.name for path in (ROOT / "worldsim/worlds/doom-hall").glob("*")}
    assert {f"worldsim/worlds/doom-hall/{name}" for name in world} <= set(names)
