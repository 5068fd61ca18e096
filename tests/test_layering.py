"""Dependence runs one way: base <- kernels <- graph <- runtime <- bindings <- Python; and running needs no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import output_of

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["base", "kernels", "graph", "runtime", "bindings"]
PACKAGE = ROOT / "python" / "taille"

# What makes or changes a model with torch. Everything else is needed to run, watch or serve an artefact.
TORCH_MODULES = {
    "capture", "digits", "distillation", "optimization", "pruning", "quantization", "resources", "torch_model",
    "training",
}  # fmt: skip


def includes(file: Path) -> list[tuple[str, str]]:
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', file.read_text(), re.MULTILINE)


def cpp_files(layer: str) -> list[Path]:
    return sorted(file for file in (ROOT / "cpp" / layer).rglob("*") if file.suffix in {".h", ".hpp", ".cpp"})


def upward_includes(layer: str, file: Path) -> Iterator[str]:
    below = LAYERS[: LAYERS.index(layer) + 1]
    for bracket, name in includes(file):
        top = name.split("/")[0]
        if bracket == '"' and top not in below and not (top == "taille" and layer in {"runtime", "bindings"}):
            yield f"{file.relative_to(ROOT)} includes {name}"
        if layer != "bindings" and (top == "pybind11" or name == "Python.h"):
            yield f"{file.relative_to(ROOT)} includes {name}, which only the bindings may"


@pytest.mark.parametrize("layer", LAYERS)
def test_includes_go_down_only(layer: str) -> None:
    files = cpp_files(layer)
    assert files
    assert [wrong for file in files for wrong in upward_includes(layer, file)] == []


def test_public_headers_stand_alone() -> None:
    wrong = [
        f"{file.name} includes {name}"
        for file in cpp_files("include")
        for bracket, name in includes(file)
        if bracket == '"' and not name.startswith("taille")
    ]
    assert wrong == []


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_import_time(body: list[ast.stmt], package: str) -> Iterator[str]:
    """The modules that importing this body imports: not those in functions, nor under `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_at_import_time(node.orelse, package)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from imports_at_import_time(getattr(node, field, []), package)
            for handler in getattr(node, "handlers", []):
                yield from imports_at_import_time(handler.body, package)


def import_graph() -> dict[str, set[str]]:
    graph = {}
    for file in PACKAGE.rglob("*.py"):
        name = module_name(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set(imports_at_import_time(ast.parse(file.read_text()).body, package))
    return graph


def way_to_torch(start: str, graph: dict[str, set[str]]) -> list[str] | None:
    """A chain of imports from this module to torch, if there is one."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        for target in graph.get(way[-1], ()):
            if target.split(".")[0] == "torch":
                return [*way, target]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


# What trains: each knows those before it.
TRAINING_LAYERS = ["training", "pruning", "distillation"]


def test_distillation_knows_pruning_and_not_the_other_way() -> None:
    graph = import_graph()
    for level, layer in enumerate(TRAINING_LAYERS):
        above = tuple(f"taille.{name}" for name in TRAINING_LAYERS[level + 1 :])
        modules = [module for module in graph if module.startswith(f"taille.{layer}")]
        assert modules
        assert [(m, t) for m in modules for t in graph[m] if above and t.startswith(above)] == []


def makes_models(module: str) -> bool:
    return any(part in TORCH_MODULES for part in module.split(".")[1:])


def test_running_a_model_never_imports_torch() -> None:
    graph = import_graph()
    assert "taille" in graph
    ways = [way_to_torch(module, graph) for module in graph if not makes_models(module)]
    assert [" -> ".join(way) for way in ways if way] == []


def test_modules_import_where_there_is_no_torch() -> None:
    modules = sorted(module for module in import_graph() if not makes_models(module) and "__main__" not in module)
    code = f"""
import importlib, sys
sys.modules["torch"] = None  # makes `import torch` raise, as if it were not installed
for name in {modules}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("torch", "taille", "numpy"):
            raise
print("done")
"""
    assert output_of(code) == "done"


def test_import_needs_numpy_alone() -> None:
    code = """
import sys
before = set(sys.modules)
import taille
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"taille", "numpy"}))
"""
    assert output_of(code) == ""


def test_import_is_quick() -> None:
    # Processor time, so that what else the machine does is not counted.
    code = "import numpy, time; s = time.process_time(); import taille; print(time.process_time() - s)"
    assert min(float(output_of(code)) for _ in range(5)) < 0.1
