"""What the notebooks show as HTML: parameter tables with their sources, and samples a person can read."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML

from empathy_lib.coe import LAYERS, CoEFormatError, parse
from empathy_lib.params import Params, find

NAMES = {"L1": "L1 情绪与情境 emotions, context", "L2": "L2 原因与信念 causes, beliefs",
          "L3": "L3 寻求的支持 intent", "L4": "L4 回应策略 strategy", "answer": "回复 answer"}


def table(rows: Iterable[Mapping[str, Any]]) -> HTML:
    """Rows of equal keys as a table; every value is shown as text."""
    rows = list(rows)
    cells = [[f"<th style='text-align:left'>{_text(key)}</th>" for key in (rows[0] if rows else [])],
             *([f"<td style='text-align:left'>{_text(value)}</td>" for value in row.values()] for row in rows)]
    return HTML("<table>" + "".join(f"<tr>{''.join(line)}</tr>" for line in cells) + "</table>")


def params_table(params: Params, path: str, overrides: Mapping[str, Any], *blocks: str) -> HTML:
    """The resolved parameters of a stage with unit, source (the comment in the params file) and meaning."""
    known, changed = sources(path), pd.json_normalize(dict(overrides)).columns
    return table({"parameter": row["key"], "value": row["value"], "unit": row["unit"], "source": "override" if any(
        key == row["key"] or key.startswith(row["key"] + ".") for key in changed) else known.get(row["key"], ""),
        "meaning": row["meaning"]} for row in params.table(*blocks))


def sources(path: str | Path) -> dict[str, str]:
    """Where each value of a profile comes from: the comment beside it, by dotted key."""
    text, found, block = find(path, "params file").read_text(encoding="utf-8"), {}, ""
    for indent, key, value, comment in re.findall(r"^( *)(\w+):(.*?)(?:[ \t]#[ \t]*(.*))?$", text, re.MULTILINE):
        block = block if indent else key
        if value.strip():
            found[f"{block}.{key}" if indent else key] = comment
    return found


def completion(text: str, title: str = "", question: str = "", layers: Sequence[str] | None = LAYERS) -> HTML:
    """A completion as a card: its layers and answer where it is a well-formed chain, else the text and the reason; without
    ``layers`` (None) the text as it is."""
    try:
        body = f"<p>{_text(text)}</p>" if layers is None else "".join(
            f"<p style='margin:.3em 0'><b>{NAMES[name]}</b><br>{_text(part)}</p>"
            for name, part in vars(parse(text, layers)).items() if part)
    except CoEFormatError as error:
        body = f"<p><b>not a chain: {_text(error)}</b></p><p>{_text(text)}</p>"
    asked = f"<p style='color:#666'>{_text(question)}</p>" if question else ""
    return HTML(f"<div style='border-left:4px solid #4c72b0;padding:.2em 1em;margin:.6em 0;max-width:46em'>"
                f"<b>{_text(title)}</b>{asked}{body}</div>")


def ci(figure: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """A value with its 95 % interval; a dash where there is none to show."""
    if figure is None or figure["value"] is None:
        return "–"
    low, high = figure["ci95"] or (None, None)
    between = " to " if form.startswith("+") else "–"
    return f"{figure['value']:{form}}" + (f" ({low:{form}}{between}{high:{form}})" if figure["ci95"] else "")


def ledger(rows: Iterable[Mapping[str, Any]]) -> HTML:
    """The rows of ``claims.ledger`` as a table."""
    return table({"claim": row["claim"], "the paper": "–" if row["paper"] is None else f"{row['paper']:.3f}",
                  "this run": "; ".join(f"{x['tokenizer'] or 'people'} {ci(x)}" for x in row["figures"]) or "–",
                  "scale": row["scale"], "verdict": row["verdict"], "why": row["why"]} for row in rows)


def interactive() -> bool:
    """Whether a person runs this notebook: papermill and nbconvert let nobody type."""
    from IPython import get_ipython
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def _text(value: Any) -> str:
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value)).replace("\n", "<br>")
