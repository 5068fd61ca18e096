"""The stubs of the native module name what it has, no more and no less, with the same arguments."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

from taille import _native

STUBS = Path(__file__).resolve().parents[1] / "python" / "taille" / "_native"
DUNDERS = {"__init__", "__len__", "__getitem__", "__setitem__", "__iter__", "__next__", "__call__", "__contains__"} | {
    "__enter__",
    "__exit__",
}

# Name of a function or Class.member -> names of its arguments; None where there are none or they cannot be told.
Names = dict[str, list[str] | None]


def is_api(name: str) -> bool:
    return not name.startswith("_") or name in DUNDERS


def argument_names(function: ast.FunctionDef) -> list[str]:
    every = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    every += [extra for extra in (function.args.vararg, function.args.kwarg) if extra]
    return [argument.arg for argument in every if argument.arg != "self"]


def documented_arguments(doc: str | None) -> list[str] | None:
    """The argument names in the signature that pybind11 writes in the first line; None if overloaded."""
    line = (doc or "").strip().split("\n")[0]
    line = re.sub(r"<[^<>]*>", "None", line)  # a default that is no literal
    try:
        (function,) = ast.parse(f"def {line}: ...").body
    except SyntaxError:
        return None
    assert isinstance(function, ast.FunctionDef)
    names = argument_names(function)
    return None if names == ["args", "kwargs"] else names


def native_names(module: ModuleType) -> Names:
    out: Names = {}
    for name, value in vars(module).items():
        if not is_api(name) or isinstance(value, ModuleType):
            continue
        if not isinstance(value, type):
            out[name] = documented_arguments(value.__doc__)
            continue
        out[name] = None
        for member, what in vars(value).items():
            # A class that has no constructor carries a slot of CPython's there, which only raises.
            if is_api(member) and type(what).__name__ != "wrapper_descriptor":
                out[f"{name}.{member}"] = None if isinstance(what, property) else documented_arguments(what.__doc__)
    return out


def stub_names(file: Path) -> Names:
    out: Names = {}

    def take(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                out[prefix + node.name] = None
                take(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef) and is_api(node.name):
                plain = not node.decorator_list or ast.unparse(node.decorator_list[0]) == "staticmethod"
                out[prefix + node.name] = argument_names(node) if plain else None
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_api(node.target.id):
                out[prefix + node.target.id] = None

    take(ast.parse(file.read_text()).body, "")
    return out


def modules() -> dict[str, ModuleType]:
    """Every native module by the file of its stub."""
    inner = {f"{name}.pyi": value for name, value in vars(_native).items() if isinstance(value, ModuleType)}
    return {"__init__.pyi": _native, **inner}


def test_every_module_has_its_stub() -> None:
    assert {file.name for file in STUBS.glob("*.pyi")} == set(modules())


@pytest.mark.parametrize("file", modules())
def test_names_agree(file: str) -> None:
    native, stub = native_names(modules()[file]), stub_names(STUBS / file)
    assert sorted(native.keys() - stub.keys()) == [], "in the module and not in the stub"
    assert sorted(stub.keys() - native.keys()) == [], "in the stub and not in the module"


@pytest.mark.parametrize("file", modules())
def test_arguments_agree(file: str) -> None:
    native, stub = native_names(modules()[file]), stub_names(STUBS / file)
    both = {name for name in native.keys() & stub.keys() if native[name] is not None and stub[name] is not None}
    assert {name: native[name] for name in both} == {name: stub[name] for name in both}


def test_arguments_are_read_from_pybind11s_docstrings() -> None:
    native = native_names(_native)
    assert native["ThreadPool.run"] == ["tasks", "burn_seconds"]
    assert native["ThreadPool.__init__"] == ["threads"]
    assert native["cpu_name"] == []
