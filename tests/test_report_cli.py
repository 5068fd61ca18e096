"""`taille report`, and `--report` of `taille optimize`."""

from __future__ import annotations

import json

from report_models import CHOSEN, compiled, metadata
from support import mistake, output_of


def test_command_needs_no_torch(tmp_path) -> None:
    compiled(metadata()).save(tmp_path / "m.safetensors")
    code = f"""
import sys
sys.modules["torch"] = None
from taille.cli.app import app
app(["report", {str(tmp_path / "m.safetensors")!r}, "-o", {str(tmp_path / "out.html")!r}, "--json"])
"""
    said = json.loads(output_of(code))
    assert said == {"path": str(tmp_path / "out.html"), "bytes": (tmp_path / "out.html").stat().st_size}


def test_command_says_what_is_missing(tmp_path) -> None:
    compiled({"name": "plain"}).save(tmp_path / "m.safetensors")
    said = mistake("report", "m.safetensors", "-o", "out.html", cwd=tmp_path)
    assert "m.safetensors: metadata has no 'search'" in said
    assert "no artefact at none" in mistake("report", "none", "-o", "out.html", cwd=tmp_path)


def test_optimize_writes_one_too(tmp_path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from taille.cli.app import app
    from taille.optimization import ModelOptimizer

    model = compiled(metadata())
    monkeypatch.setattr("taille.cli.optimize.require", lambda *_: None)
    monkeypatch.setattr("taille.cli.optimize.open_model", lambda *_: None)
    monkeypatch.setattr(ModelOptimizer, "optimize_model", lambda *_, **__: (model, model.metadata["search"]["metrics"]))
    words = ["optimize", "x.py:f", "-o", tmp_path / "m.safetensors", "--report", tmp_path / "out.html", "--json"]
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert CHOSEN in (tmp_path / "out.html").read_text()
