"""The report of a search: true numbers, clear errors, no way out for hostile text. Drawn: test_report_page."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import report_models as models
from nets import Net
from report_models import CHOSEN, CONTRACT, compiled, metadata
from taille.compiled import CompiledModel
from taille.optimization.evidence import layer_rows
from taille.report import write_report
from taille.report.markup import Markup, element
from taille.report.page import page
from taille.report.reproduce import command, python_lines
from taille.report.scales import fit, linear_ticks, log_ticks

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onfocus='alert(1)", "</style></title>&lt;b>&amp;",
    "{{7*7}} ${7*7} %s {0}", "名前 \u202eevitator\u202c é \x00 \x07", "x" * 5000, "W " * 2000,
]  # fmt: skip


class Parsed(HTMLParser):
    """What a page holds: its elements, and its tables as rows of (text, exact values) by the row's name."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, dict[str, list[tuple[str, list[float]]]]] = {}
        self.words: list[str] = []
        self._caption = self._inside = ""
        self._cells: list[tuple[str, list[float]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("caption", "tr", "title"):
            self._inside, self._cells = tag, []
        if tag in ("td", "th"):
            self._cells.append(("", []))
        if tag == "data" and self._inside == "tr":
            self._cells[-1][1].append(float(dict(attrs)["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            name, *rest = self._cells
            self.tables[self._caption][name[0]] = rest
            self._inside = ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._inside == "caption":
            self._caption, self._inside = data, ""
            self.tables[data] = {}
        elif self._inside == "tr" and self._cells:
            text, values = self._cells[-1]
            self._cells[-1] = (text + data, values)


def parsed(found: dict[str, Any]) -> Parsed:
    return Parsed(page(compiled(found)))


def exact(cells: list[tuple[str, list[float]]]) -> list[float]:
    return [value for _, values in cells for value in values]


def test_candidates_are_those_of_the_metadata() -> None:
    found = metadata()
    table = parsed(found).tables["Candidates"]
    assert [*table] == ["recipe", *(c["key"] for c in found["search"]["candidates"])]
    for one in found["search"]["candidates"]:
        m = one["metrics"]
        wanted = [m.get("latency_ms"), one["predicted_ms"], m.get("accuracy"), m.get("size_bytes"), one["seconds"]]
        assert exact(table[one["key"]]) == [v for v in wanted if v is not None]
        assert one["error"] in table[one["key"]][-1][0]
    assert table[CHOSEN][0][0] == "1.38"
    assert table[CHOSEN][3][0] == "260 kB"
    assert table[CHOSEN][-1][0] == "chosenkeptfront"
    assert table["dense int8"][-1][0] == "front"


def test_layers_are_those_of_the_metadata() -> None:
    found = metadata()
    table = parsed(found).tables["Layers of the chosen model"]
    for one in found["search"]["layers"]:
        row = {"stored_bytes": one.get("weight_bytes")} | one  # artefacts of before know the weights' own bytes alone
        wanted = [row.get(k) for k in ("us_float32", "us", "stored_bytes", "share", "sqnr_db")]
        assert exact(table[one["name"]]) == [v for v in wanted if v is not None]
        for key in ("op", "precision", "kernel", "why"):
            assert one[key] in [text for text, _ in table[one["name"]]]
    assert [text for text, _ in table["body.0"]][2:7] == ["1.20 ms", "300 µs", "9.53 kB", "25.1 %", "31.4"]


def test_before_and_after() -> None:
    found = metadata()
    table, metrics = parsed(found).tables["Measurements of both models"], found["search"]["metrics"]
    for row, name in (("latency, p50", "latency_ms_p50"), ("latency, p99", "latency_ms_p99"), ("quality", "accuracy"),
                      ("size of the artefact", "size_bytes"), ("peak memory", "peak_memory_bytes")):  # fmt: skip
        assert exact(table[row]) == [metrics[f"baseline_{name}"], metrics[name], metrics[f"{name}_ratio"]]


@pytest.mark.parametrize(
    ("bound", "limit", "row", "reached", "margin", "kept"),
    [
        ("max_latency_ms", 2.5, "latency of a call, p50", 1.375, 0.45, True),
        ("max_latency_ms", 1.25, "latency of a call, p50", 1.375, -0.1, False),
        ("max_size", 520_000, "size of the artefact", 260_000, 0.5, True),
        ("max_size", 130_000, "size of the artefact", 260_000, -1.0, False),
        ("max_memory", 6_240_000, "peak memory", 3_120_000, 0.5, True),
        ("max_accuracy_drop", 0.01, "loss of quality", 0.0044, 0.0056, True),
        ("max_accuracy_drop", 0.004, "loss of quality", 0.0044, -0.0004, False),
        ("min_accuracy", 0.9, "quality", 0.9081, 0.0081, True),
        ("min_accuracy", 0.91, "quality", 0.9081, -0.0019, False),
    ],
)
def test_verdict_of_every_bound(bound, limit, row, reached, margin, kept) -> None:
    found = parsed(metadata({bound: limit, "max_accuracy_drop": None} if "acc" not in bound else {bound: limit}))
    cells = found.tables["Bounds of the contract"][row]
    assert exact(cells) == pytest.approx([limit, reached, margin])
    assert cells[-1][0] == ("✓ kept" if kept else "✗ missed")
    assert ("✓ keeps its contract" in found.words) is kept


def test_where_quality_was_not_judged_bytes_are_drawn() -> None:
    found = parsed(metadata({"max_latency_ms": 2}, quality=False))
    assert next(a["aria-label"] for t, a in found.tags if t == "svg") == "4 candidates by latency and bytes"
    assert "quality" not in found.tables["Measurements of both models"]
    assert "quality" not in [text for text, _ in found.tables["Candidates"]["recipe"]]


def dots_drawn(text: str) -> dict[str, dict[str, float]]:
    """The dots of the wide plot, by the candidate's key."""
    wide = text[text.index('<svg viewBox="0 0 940') : text.index("</svg>")]
    titles = re.findall(r'<g class="mark[^>]*><title>([^,]*),', wide)
    dots = re.findall(r'class="dot" r="([\d.]+)" cx="([\d.]+)" cy="([\d.]+)"', wide)
    return {
        title.replace(" (chosen)", ""): {"r": float(r), "x": float(x), "y": float(y)}
        for title, (r, x, y) in zip(titles, dots, strict=True)
    }


def test_dots_lie_where_the_numbers_say() -> None:
    found = dots_drawn(page(compiled(metadata())))
    judged = [e for e, _, _ in models.entries() if not e.error]
    by_latency = sorted(judged, key=lambda e: e.metrics["latency_ms"])
    assert [*sorted(found, key=lambda k: found[k]["x"])] == [e.key for e in by_latency]
    by_quality = sorted(judged, key=lambda e: -e.metrics["accuracy"])
    assert [*sorted(found, key=lambda k: found[k]["y"])] == [e.key for e in by_quality]
    # The latencies span a factor of ten, so the axis is logarithmic.
    step = (found["dense float32"]["x"] - found["dense int8"]["x"]) / (found["dense int8"]["x"] - found[CHOSEN]["x"])
    assert step == pytest.approx(0.9757 / 0.8007, rel=0.01)
    areas = [found[e.key]["r"] ** 2 / e.metrics["size_bytes"] for e in judged[:3]]
    assert areas == pytest.approx([areas[0]] * 3, rel=0.01)


def test_a_useless_candidate_does_not_press_the_others_together() -> None:
    text = page(compiled(metadata()))
    found = dots_drawn(text)
    lowest = found["block4x4 0.1 sensitivity none int8"]["y"]
    # The axis ends at three times what is allowed, 0.9025 to 0.913, below that; the quality is 0.4444.
    assert (lowest - found["dense int8"]["y"]) / (found[CHOSEN]["y"] - found["dense int8"]["y"]) == pytest.approx(
        0.042 / 0.0049, rel=0.01
    )
    assert text.count(">▾<") == 2  # on the wide plot and the narrow one
    (line,) = re.findall(r'd="(M[^"]*)" class="front"', text[: text.index("</svg>")])
    assert len(line.split("L")) == 2


def test_of_many_layers_the_slowest_are_drawn() -> None:
    found = metadata()
    found["search"]["layers"] = [models.layer(f"layer.{i}", float(i), float(2 * i)) for i in range(300)]
    result = parsed(found)
    bars = [a["class"] for tag, a in result.tags if tag == "rect" and str(a["class"]).startswith("bar")]
    assert len(bars) == 2 * 2 * 24  # two plots, two bars
    assert len(result.tables["Layers of the chosen model"]) == 301
    assert "layer.299" in result.words
    assert "layer.276" in result.words


def test_bars_are_as_long_as_the_times() -> None:
    text = page(compiled(metadata()))
    bars = re.findall(r'class="bar (\w+)" x="230" y="[\d.]+" width="([\d.]+)"', text)
    assert [kind for kind, _ in bars] == ["own", *["base", "own"] * 3]
    lengths = [float(width) for _, width in bars]
    assert [n / lengths[1] for n in lengths[1:]] == pytest.approx([1, 0.2502, 0.5004, 0.1251, 1 / 30, 1 / 30], rel=0.01)


def test_only_markup_is_not_escaped() -> None:
    made = element("p", "<b>", ["&", None, element("i", Markup("<b></b>"))], class_="\"'<>&", r=1.0, hidden=None)
    assert made == '<p class="&quot;&#x27;&lt;&gt;&amp;" r="1">&lt;b&gt;&amp;<i><b></b></i></p>'


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800"])
def test_text_cannot_become_markup(text) -> None:
    harmless, found = parsed(metadata()), metadata()
    search = found["search"]
    search["ended"] = text
    found["name"] = search["chosen"] = search["candidates"][2]["key"] = text
    search["candidates"][-1]["error"] = text
    for key in ("name", "op", "precision", "kernel", "why"):
        search["layers"][1][key] = text
    found["recipe"][0] = {"step": text, text: text, "pattern": {text: [text]}}
    search["machine"] = {"cpu": text, text: "", "level": ""}
    found["versions"] = {text: text, "numpy": ""}
    result = parsed(found)
    assert [tag for tag, _ in result.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(a) for _, a in result.tags] == [sorted(a) for _, a in harmless.tags]
    assert text in result.tables["Candidates"]
    assert result.tables["Layers of the chosen model"][text][-1][0] == text
    code = "".join(result.words)
    assert not re.search(r"-o \S*[<>'\"&;$\s]\S*\.safetensors", code)


def test_names_go_into_commands_without_harm() -> None:
    from taille.report.findings import read

    found = metadata()
    found["name"] = "../../x; rm -rf ~ #\n$(id)"
    shown = read(found)
    assert "-o x-rm-rf-id.safetensors --max-latency-ms 2.5 --threads 2 --max-size 900000" in command(shown)
    assert '"x-rm-rf-id.safetensors"' in python_lines(shown)
    compile(python_lines(shown), "shown", "exec")


def test_seed_techniques_and_the_end_are_told() -> None:
    from taille.report.findings import read

    found = metadata(CONTRACT | {"techniques": ["quantization", "pruning"]})
    text = "".join(parsed(found).words)
    assert "Seed of training: 7" in text
    assert "The search ended: the time budget was used up." in text
    assert "--techniques quantization,pruning --seed 7" in command(read(found))
    assert "}, seed=7)" in python_lines(read(found))
    del found["search"]["seed"], found["search"]["ended"]  # as in artefacts of before
    old = "".join(parsed(found).words)
    assert "Seed" not in old
    assert "The search ended" not in old


def changed(found: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The metadata with the value at a path ("search/candidates/0/key") replaced; ... removes it."""
    found = copy.deepcopy(found)
    *way, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    at: Any = found
    for part in way:
        at = at[part]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("search", ..., r"metadata has no 'search'.*taille optimize"),
        ("search", None, "metadata has no 'search'"),
        ("search", [], r"metadata\['search'\] is \[\]; wanted an object"),
        *[(f"search/{k}", ..., rf"metadata\['search'\] has no '{k}'")
          for k in ("contract", "chosen", "metrics", "candidates", "latencies_ms", "layers", "machine")],
        ("search/contract", {}, r"metadata\['search'\]\['contract'\] is no contract: .*bounds nothing"),
        ("search/contract/max_size", "many", r"is no contract: constraints\['max_size'\] is 'many'"),
        ("search/chosen", "another", r"\['chosen'\] is 'another', which is no candidate"),
        ("search/metrics/latency_ms", ..., r"\['metrics'\] has no 'latency_ms', which max_latency_ms is judged by"),
        ("search/metrics/baseline_accuracy", ..., "no 'baseline_accuracy', which max_accuracy_drop is judged by"),
        ("search/metrics/accuracy", float("nan"), r"\['metrics'\]\['accuracy'\] is nan; wanted a number"),
        ("search/metrics/size_bytes", 10**400, r"\['metrics'\]\['size_bytes'\] is int; wanted a number"),
        ("search/candidates/1/key", ..., r"\['candidates'\]\[1\] has no 'key'"),
        ("search/candidates/1/metrics/latency_ms", ..., r"\['candidates'\]\[1\]\['metrics'\] has no 'latency_ms'"),
        ("search/candidates/1/metrics/latency_ms", -1, r"\['latency_ms'\] is -1; wanted a number from 1e-09"),
        ("search/candidates/1/front", 1, r"\['front'\] is 1; wanted true or false"),
        ("search/latencies_ms/float32", ..., r"\['latencies_ms'\] has no 'float32'"),
        ("search/latencies_ms/chosen", [], r"\['chosen'\] is \[\]; wanted at least one number"),
        ("search/latencies_ms/chosen", [0.0], r"\['chosen'\]\[0\] is 0.0; wanted a number from 1e-09"),
        ("search/seed", 1.5, r"\['seed'\] is 1.5; wanted a whole number"),
        ("search/ended", 3, r"\['ended'\] is 3; wanted text"),
        ("search/layers/0/us", ..., r"\['layers'\]\[0\] has no 'us'"),
        ("search/layers/0/why", 3, r"\['why'\] is 3; wanted text"),
        ("recipe", {}, r"metadata\['recipe'\] is \{\}; wanted a list"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(path, value, message, tmp_path) -> None:
    model = compiled(changed(metadata(), path, value))
    with pytest.raises(ValueError, match=message):
        write_report(model, tmp_path / "out.html")
    assert [*tmp_path.iterdir()] == []


def test_odd_but_possible_numbers_are_drawn() -> None:
    found = metadata()
    found["search"]["candidates"] = [found["search"]["candidates"][2]]  # a single dot has no range
    found["search"]["layers"] = []
    found["search"]["latencies_ms"] = {"chosen": [1e-9], "float32": [1e15]}
    assert parsed(found).tables["Candidates"].keys() == {"recipe", CHOSEN}
    found = metadata()
    found["search"]["layers"][1] |= {"sqnr_db": float("inf"), "us": 1e15, "share": 0}
    assert "∞" in [text for text, _ in parsed(found).tables["Layers of the chosen model"]["body.0"]]


def test_layers_of_a_real_model() -> None:
    net = Net(3, 8, 8)
    net.finish(net.conv(net.x, "body.0", 8, 3))
    model = CompiledModel(net.graph, {}, threads=1)
    found = metadata()
    found["search"]["layers"] = json.loads(json.dumps(layer_rows(model, model, {"x": net.sample()})))
    assert "body.0" in parsed(found).tables["Layers of the chosen model"]


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.31), (1.0, 1.0001), (-3.0, 7e5), (1e-9, 1e15), (88, 91)])
def test_ticks_are_inside_and_not_too_many(low, high) -> None:
    for ticks in [linear_ticks(low, high, 6), *([log_ticks(low, high, 6)] if low > 0 else [])]:
        assert len(ticks) <= 7
        assert all(low <= t <= high * (1 + 1e-12) for t in ticks)
        assert all(len(f"{t:.4g}") <= 6 for t in ticks) or high - low < 0.01
    assert len(fit([low, high], 0, 100, log=low > 0).ticks(6)) >= 2


def test_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    model, target = compiled(metadata()), tmp_path / "out.html"
    target.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
        with pytest.raises(OSError, match="disk gone"):
            write_report(model, target)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    assert write_report(model, target) == target.stat().st_size
    assert [*tmp_path.iterdir()] == [target]
    model.save(tmp_path / "m.safetensors")
    write_report(tmp_path / "m.safetensors", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == target.read_bytes()


def test_page_asks_for_nothing_from_elsewhere() -> None:
    found = parsed(metadata())
    assert not {"a", "base", "form", "iframe", "img", "link", "object"} & {tag for tag, _ in found.tags}
    assert not [a for _, a in found.tags if a.keys() & {"src", "href", "style", "xlink:href", "onclick", "onload"}]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?:", page(compiled(metadata())))
    policies = [a["content"] for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in str(policies[0])
