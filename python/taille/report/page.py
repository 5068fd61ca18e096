"""Writes the page: one file, without anything from elsewhere, under a policy that lets it run its own script alone."""

from __future__ import annotations

import base64
import hashlib
import logging
from importlib import resources
from pathlib import Path

import taille
from taille.compiled import CompiledModel, load
from taille.files import write_atomically
from taille.report import sections
from taille.report.findings import read
from taille.report.markup import Markup, element
from taille.report.reproduce import reproduce
from taille.report.svg import shortened
from taille.report.verdict import judge

__all__ = ["page", "write_report"]

log = logging.getLogger(__name__)


def write_report(source: CompiledModel | str | Path, output: str | Path) -> int:
    """Write what a search found as one HTML page, which needs nothing else and no network.

    Args:
        source: a model of `ModelOptimizer.optimize_model`, or a file that it was saved as.
        output: where the page goes; a file that is there is replaced at once, never left half written.

    Returns:
        The bytes written.

    Raises:
        ValueError: the model does not tell of a search, or tells something of the wrong form; the message says what.
        taille.ArtefactError: the file is not an artefact.
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, CompiledModel):
        text = page(source)
    else:
        model = load(source, threads=1)
        try:
            text = page(model)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
    data = text.encode("utf-8", "replace")  # JSON can hold halves of surrogate pairs, which are no characters
    write_atomically(Path(output), data)
    log.info("saved %s (%d bytes)", output, len(data))
    return len(data)


def page(model: CompiledModel) -> str:
    """The page as text."""
    findings = read(model.metadata)
    bounds = judge(findings)
    inputs = f"{'; '.join(map(str, model.input_spec))} → {'; '.join(map(str, model.output_spec))}"
    style, script = asset("page.css"), asset("page.js")
    policy = (f"default-src 'none'; style-src {source_hash(style)}; script-src {source_hash(script)}; "
              "base-uri 'none'; form-action 'none'")  # fmt: skip
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{shortened(findings.name, 100)}: taille report"),
        element("style", style),
    )
    main = element(
        "main",
        sections.header(findings, bounds, inputs),
        sections.contract(findings, bounds),
        sections.beside(findings),
        sections.candidates(findings),
        sections.layers(findings),
        sections.latencies(findings),
        sections.provenance(findings),
        reproduce(findings),
        element("footer", f"Made by taille {taille.__version__} from the artefact alone."),
    )
    body = element("body", main, element("script", script))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def asset(name: str) -> Markup:
    """A file of this package, as it is."""
    return Markup(resources.files("taille.report").joinpath(name).read_text("utf-8"))


def source_hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
