"""`taille inspect`: what an artefact holds, or a model's graph after a pass."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taille.cli.output import clear_errors, fail, out, print_json, print_table, require
from taille.cli.sources import is_source, load_source
from taille.config import short_size

__all__ = ["inspect"]


def inspect(
    artefact: Annotated[str, typer.Argument(help="An artefact, or FILE.py:function that gives a taille.TorchModel.")],
    dump: Annotated[bool, typer.Option(help="Print the graph as text.")] = False,
    after: Annotated[str, typer.Option(help="With FILE.py:function: the graph after this pass.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show inputs, outputs, nodes by precision and bytes; --dump prints the graph."""
    with clear_errors():
        if after and not is_source(artefact):
            raise fail("--after wants FILE.py:function: an artefact holds the graph after all passes")
        text = graph_after(artefact, after) if after else ""
        if after:
            if as_json:
                print_json({"after": after, "graph": text})
            else:
                typer.echo(text)
            return
        import taille

        if is_source(artefact):
            require("torch", "torch")
            model = taille.compile_model(load_source(artefact))
        else:
            model = taille.load(artefact)
        facts = describe(model, dump)
    if as_json:
        print_json(facts)
    elif dump:
        typer.echo(facts["graph"])
    else:
        show(facts)


def graph_after(source: str, name: str) -> str:
    """The text of a model's graph after the pass of that name."""
    from taille import _native
    from taille.torch_model import TorchModel

    known = [pass_name for pass_name, _ in _native.passes()]
    if name not in known:
        raise ValueError(f"no pass is called '{name}'; the passes are {', '.join(known)}")
    model = load_source(source)
    if not isinstance(model, TorchModel):
        raise TypeError(f"--after wants a function that gives a TorchModel, not {type(model).__name__}")
    return str(_native.optimize(model.capture(), name)[1])


def describe(model: Any, dump: bool) -> dict[str, Any]:
    """The facts of a compiled model, as JSON-compatible values."""
    nodes = model.nodes()
    precisions = {p: sum(n["precision"] == p for n in nodes) for p in sorted({n["precision"] for n in nodes})}
    facts = {
        "name": model.metadata.get("name"), "inputs": [str(s) for s in model.input_spec],
        "outputs": [str(s) for s in model.output_spec], "size_bytes": model.size_bytes,
        "parameter_count": model.parameter_count, "precisions": precisions, "metadata": model.metadata, "nodes": nodes,
        "runner": runner_choices(model),
    }  # fmt: skip
    return {**facts, "graph": model.dump()} if dump else facts


def runner_choices(model: Any) -> str:
    """How a runner runs the model on this CPU, where the artefact says that, and on how many others it does."""
    from taille.runner_choice import KEY, stored_choice

    choice, kept = stored_choice(model), model.metadata.get(KEY)
    entries = len(kept) if isinstance(kept, dict) else 0
    here = str(choice) if choice is not None else "nothing is stored for this CPU"
    others = entries - (choice is not None)
    return f"{here}; {others} for other CPUs" if others else here


def show(facts: dict[str, Any]) -> None:
    """Print the facts as a table."""
    rows = [
        ("model", str(facts["name"])),
        ("inputs", "\n".join(facts["inputs"])),
        ("outputs", "\n".join(facts["outputs"])),
        ("bytes", f"{facts['size_bytes']:,} ({short_size(facts['size_bytes'])})"),
        ("parameters", f"{facts['parameter_count']:,}"),
        ("nodes", ", ".join(f"{n} {p}" for p, n in facts["precisions"].items())),
        ("runner", facts["runner"]),
        ("recipe", "\n".join(map(str, facts["metadata"].get("recipe") or ["none: float32 as captured"]))),
        ("versions", ", ".join(f"{k} {v}" for k, v in facts["metadata"].get("versions", {}).items())),
    ]
    print_table("artefact", ("", "value"), rows)
    print_table(
        "nodes",
        ("node", "op", "precision", "kernel", "why"),
        [(n["name"], n["op"], n["precision"], n["kernel"], n["why"]) for n in facts["nodes"]],
    )
    out.print()
