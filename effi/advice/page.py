"""The advice as one HTML file with its figures in it: nothing is read from elsewhere."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from effi import paths
from effi.advice.advising import SCALE, Advice
from effi.report import saving

# Of each paper's figures those that show what is gained for what; a name begins so.
FIGURES = ("pareto_", "tradeoff", "seconds", "savings_", "loss_flops", "equal_mst")
STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
div { overflow-x: auto; } table { border-collapse: collapse; } caption { text-align: left; padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; background: white; } figure { margin: 1.5rem 0; } p { max-width: 60rem; }
"""


def page(advice: Advice) -> str:
    """HTML with sentence, where the model lies, table, what was said on the way and figures as data URIs."""
    said = "".join(f"<li>{html.escape(each)}</li>" for each in advice.said)
    figures = "".join(_figure(path) for path in _figures(advice))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>effi advise</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(advice.sentence)}</h1>"
        f"<p>{html.escape(advice.model)}</p><div>{advice.table.html()}</div>"
        f"<h2>On the way</h2><ul>{said}</ul>{figures}</body></html>\n"
    )


def save(advice: Advice, out: Path) -> Path:
    """Write out/advice.html, and say where."""
    path = out / "advice.html"
    saving.save(path, page(advice))
    return path


def _figures(advice: Advice) -> list[Path]:
    found = list[Path]()
    for paper in advice.papers:
        folder = paths.figures_dir(advice.results, SCALE, paper)
        found += [path for start in FIGURES for path in sorted(folder.glob(f"{start}*.png"))]
    return found


def _figure(path: Path) -> str:
    words = html.escape(f"{path.parents[1].name}: {path.stem.replace('_', ' ')}")
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"
