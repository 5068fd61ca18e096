"""How `taille bench` shows what it found: tables for the terminal, and one Markdown table."""

from __future__ import annotations

from typing import Any

from taille.cli.output import out, print_table
from taille.config import short_size

__all__ = ["markdown", "show", "show_kernels", "summary"]


def show(result: dict[str, Any]) -> None:
    """Print a table for each comparison, and the facts around them."""
    for comparison in result["results"]:
        show_one(comparison)
    for line in facts(result):
        out.print(line, markup=False)


def show_one(r: dict[str, Any]) -> None:
    """Print one comparison."""
    rows = [
        (
            row["name"], f"{row['latency_p50_ms']:.3f}", f"{row['latency_p99_ms']:.3f}", f"{row['latency_min_ms']:.3f}",
            f"{row['throughput_per_s']:.1f}", short_size(row["size_bytes"]), quality(row), ratio(row),
        )
        for row in r["rows"]
    ]  # fmt: skip
    columns = ("engine", "p50 ms", "p99 ms", "min ms", "per s", "bytes", "error, SQNR", "ratio (p10-p90)")
    print_table(f"{title(r)}: {r['pairs']} pairs", columns, rows)
    for precision, head in r["headline"].items():
        if head is not None:
            out.print(headline(precision, head), markup=False)
    for row in r["rows"]:
        if row["wrong"]:
            out.print(f"WRONG outputs: {row['name']}: {row['wrong']}", markup=False, style="bold red")
        if row["note"]:
            out.print(f"{row['name']}: {row['note']}", markup=False)
    for skipped in r["skipped"]:
        install = f": {skipped['install']}" if skipped["install"] else ""
        out.print(f"skipped: {skipped['name']}: {skipped['why']}{install}", markup=False)
    out.print()


def title(r: dict[str, Any]) -> str:
    """What was compared, in words."""
    length = f", sequence {r['sequence']}" if r["sequence"] else ""
    return f"{r['model']}, batch {r['batch']}{length}, {count(r['threads'], 'thread')}"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def quality(row: dict[str, Any]) -> str:
    """How near the outputs are to torch's, or that they are wrong."""
    if row["wrong"]:
        return "WRONG"
    return f"{row['max_error']:.0e}" if row["precision"] == "float32" else f"{row['sqnr_db']:.1f} dB"


def ratio(row: dict[str, Any]) -> str:
    """A peer's ratio with its range."""
    if row["ratio"] is None:
        return ""
    return f"{row['ratio']:.2f} ({row['ratio_p10']:.2f}-{row['ratio_p90']:.2f})"


def headline(precision: str, head: dict[str, Any]) -> str:
    """The best peer of a precision, in words."""
    text = f"{precision}: the quickest peer, {head['peer']}, takes {ratio(head)} times as long as taille"
    return f"{text} (left out, as their outputs are wrong: {', '.join(head['left_out'])})" if head["left_out"] else text


def summary(r: dict[str, Any]) -> str:
    """One comparison in a line."""
    heads = [headline(precision, head) for precision, head in r["headline"].items() if head is not None]
    return f"{title(r)}: {'; '.join(heads) or 'no peer to compare with'}"


def facts(result: dict[str, Any]) -> list[str]:
    """The machine and the versions, in words."""
    amx = "no AMX"
    if "amx_int8" in result["cpu_flags"]:
        amx = "AMX is allowed" if result["amx"] else "AMX is refused to all engines"
    return [
        f"{result['cpu']}; taille's level: {result['level']}; {amx}",
        ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "ratio: the peer's p50 over taille's in the turns beside it (same precision), and its range over the pairs;",
        "error: the largest, of the scale of torch's float32 outputs; SQNR of int8 outputs against them",
    ]


def markdown(result: dict[str, Any]) -> str:
    """One line per comparison: taille, and the quickest peer that is right, in both precisions."""
    lines = [
        "| model | batch | threads | taille int8, ms | best int8 peer | ratio | taille float32, ms | best float32 peer "
        "| ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["results"]:
        cells = [r["model"], str(r["batch"]), str(r["threads"])]
        latency = {row["name"]: f"{row['latency_p50_ms']:.3g}" for row in r["rows"]}
        for precision in ("int8", "float32"):
            head = r["headline"][precision]
            cells.append(latency.get(f"taille {precision}", "-"))
            cells += [f"{head['peer']}, {latency[head['peer']]} ms", f"**{ratio(head)}**"] if head else ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *facts(result)])


def show_kernels(result: dict[str, Any]) -> None:
    """Print the rates of single kernels."""
    rows = [
        (
            row["op"], row["variant"], row["shape"], f"{row['milliseconds']:.4f}", f"{row['mac_per_cycle']:.1f}",
            f"{row['best_mac_per_cycle']:.1f}", f"{row['gigahertz']:.2f}",
        )
        for row in result["rows"]
    ]  # fmt: skip
    columns = ("op", "variant", "shape", "ms", "MAC/cycle", "best", "GHz")
    print_table(f"kernels, 1 thread, {result['cpu']}", columns, rows)
