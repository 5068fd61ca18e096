"""The report in a browser: drawn at a phone's width, silent, legible in light and dark, deaf to hostile text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser
from report_models import CHOSEN, compiled, metadata
from taille.report import write_report

# Each plot that is shown: its marks that have a size, texts that stick out of the screen, the smallest letters.
PLOTS = """
[...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width > 0).map(svg => {
  const boxes = [...svg.querySelectorAll(".mark")].map(mark => mark.getBoundingClientRect());
  const texts = [...svg.querySelectorAll("text")];
  return {
    name: svg.getAttribute("aria-label"), height: svg.getBoundingClientRect().height,
    marks: boxes.filter(box => box.width > 1 && box.height > 1).length, all: boxes.length,
    outside: texts.filter(t => { const b = t.getBoundingClientRect(); return b.left < 0 || b.right > innerWidth; })
                  .map(t => t.textContent),
    smallest: Math.min(...texts.map(t => parseFloat(getComputedStyle(t).fontSize)
                                         * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
  };
})"""

# The contrast of text with what is behind it, as the Web Content Accessibility Guidelines count it.
CONTRASTS = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => a * top[i] + (1 - a) * below[i]); };
  const behind = e => {
    if (!e) return [255, 255, 255];
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === undefined ? own : over(own, behind(e.parentElement));
  };
  const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
    const c = rgb[i] / 255;
    return sum + share * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const found = {};
  for (const [key, property] of [["h1", "color"], [".brand", "color"], [".note", "color"], [".cards b", "color"],
       [".cards small", "color"], [".verdict .good", "color"], ["thead th", "color"], ["td", "color"],
       [".error", "color"], [".tag.chosen", "color"], [".tip", "color"], ["pre", "color"], ["dt", "color"],
       ["svg text", "fill"], ["svg text.limit", "fill"]]) {
    const e = document.querySelector(key);
    const [a, b] = [light(parse(getComputedStyle(e)[property])), light(behind(e))].sort((x, y) => y - x);
    found[key] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_report(compiled(metadata()), folder / "plain.html")
    found = metadata({"max_latency_ms": 2}, quality=False)
    search, text = found["search"], '"><script>alert(1)</script><img src=//x.invalid/a onerror=alert(1)>' + "y" * 900
    found["name"] = search["chosen"] = search["candidates"][2]["key"] = text
    search["layers"][1] |= dict.fromkeys(("name", "op", "precision", "kernel", "why"), text)
    found["recipe"] = [{"step": text, text: text}]
    search["machine"] = {text: text}
    write_report(compiled(found), folder / "hostile.html")
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize("width", [360, 390, 1280])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_plots_are_drawn_and_nothing_sticks_out(folder, tab, name, width) -> None:
    page = folder / f"{name}.html"
    tab.open(page, width)
    assert tab.complaints() == []
    assert tab.requests() == [page.as_uri()]
    assert tab.value("innerWidth") == width
    assert tab.value("document.documentElement.scrollWidth") <= width
    plots = tab.value(PLOTS)
    assert [p["marks"] for p in plots] == [p["all"] for p in plots] == [4, 4, 2]  # candidates, layers, models
    assert all(p["height"] > 150 for p in plots)
    assert [p["outside"] for p in plots] == [[], [], []]
    assert min(p["smallest"] for p in plots) > 10
    assert tab.value("[...document.querySelectorAll('.scroll')].every(e => e.clientWidth > 250)")


@pytest.mark.parametrize("how", ["tap", "mouse", "keyboard"])
def test_dots_tell_what_they_are(folder, tab, how) -> None:
    tab.open(folder / "plain.html", 390)
    tip = "document.querySelector('figure .tip').textContent"
    assert tab.value(tip).startswith("The area of a dot")
    x, y = tab.value("""(() => {
        const dot = document.querySelector("svg.narrow .chosen .dot");
        dot.scrollIntoView({block: "center"});
        const box = dot.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    if how == "tap":
        tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    elif how == "mouse":
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    else:
        tab.value("document.querySelector('svg.narrow .chosen').focus()")
    assert tab.value(tip) == f"{CHOSEN} (chosen), 1.38 ms, quality 0.9081, 260 kB, keeps the contract"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(folder, tab, scheme) -> None:
    tab.open(folder / "plain.html", 390, scheme=scheme)
    channels = tab.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(channels) < 60) is (scheme == "dark")
    assert {key: ratio for key, ratio in tab.value(CONTRASTS).items() if ratio < 4.5} == {}


def test_policy_forbids_what_the_page_does_not_bring(folder, tab) -> None:
    tab.open(folder / "plain.html", 390)
    tab.value("""
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = true'>");
        0""")
    assert tab.value("window.ran === undefined")
    said = tab.complaints()
    assert len([line for line in said if "Content Security Policy" in line]) >= 2, said
