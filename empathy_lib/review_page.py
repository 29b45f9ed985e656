"""The page where professionals review chains: the question on the left, its five parts on the right, each to accept,
edit or reject with a note. What a decision is about (chain, text judged, what was saved) travels with the page, so that
neither another window nor a restarted server can put it on another chain; the file of decisions is the only memory."""

import html
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from empathy_lib import BUNDLED
from empathy_lib.coe import FIELDS
from empathy_lib.review import add, fresh, judge, parts, plain, read
from empathy_lib.run import StageMissing
from empathy_lib.schema import explain, read_jsonl
from empathy_lib.show import NAMES
from empathy_lib.web import serve

_DONE = {"accept": "✓ accepted", "edit": "✎ edited", "reject": "✗ rejected"}
_HELP = """
<kbd>j</kbd> <kbd>k</kbd> next, previous chain · <kbd>1</kbd>–<kbd>5</kbd> choose a part · <kbd>a</kbd> accept ·
<kbd>r</kbd> reject (and on to the next part) · <kbd>e</kbd> edit · <kbd>Ctrl</kbd>+<kbd>Enter</kbd> save the edit ·
<kbd>n</kbd> note · <kbd>Esc</kbd> leave a box<br>
A note is saved with the decision: write it first, then accept, save or reject. Each decision is saved at once, a later
one replaces it, and you may close the page at any time."""


def page(chains: Sequence[dict[str, Any]], file: str | Path) -> gr.Blocks:
    """The page for these chains; decisions are appended to ``file`` and read from it, and nothing is kept elsewhere."""
    with gr.Blocks(title="Review of chains of empathy", analytics_enabled=False) as blocks:
        with gr.Row(elem_id="bar"):
            rater = gr.Textbox(show_label=False, container=False, elem_id="rater", placeholder="your name")
            progress = gr.HTML(elem_id="progress")
            moves = [gr.Button(label, elem_id=name, size="md") for name, label in
                     (("previous", "← previous"), ("next", "next →"), ("undecided", "next undecided"))]
        with gr.Row():
            with gr.Column(scale=2, elem_id="asked"):
                question = gr.Textbox(interactive=False, lines=8, max_lines=22, elem_id="question")
                gr.HTML(_HELP, elem_id="help")
            with gr.Column(scale=3):
                panels = [_part(name) for name in FIELDS]
        # of each part: text, note, status and what the page was given (JSON)
        values = [component for panel in panels for component in panel[:4]]
        inputs, outputs = [rater, *values], [rater, question, progress, *values]
        drafts = [component for text, note, _, given, *_ in panels for component in (text, note, given)]
        options = {"show_progress": "hidden", "api_visibility": "private"}
        begin, arrive = partial(_begin, chains, file), (None, drafts, [c for panel in panels for c in panel[:2]])
        blocks.load(begin, inputs, outputs, js=_js("start"), **options).then(*arrive, js=_js("arrive"))
        rater.blur(begin, inputs, outputs, **options).then(*arrive, js=_js("arrive")).then(None, rater, js=_js("keepName"))
        for button, step in zip(moves, (-1, 1, None)):
            button.click(partial(_move, chains, file, step), inputs, outputs, **options).then(*arrive, js=_js("arrive"))
        for text, note, status, given, *buttons, undo in panels:
            draft = {"fn": None, "inputs": [text, note, given], "js": _js("draft")}
            for box in (text, note):  # Gradio's `input` event misses a pasted text
                box.change(**draft | {"js": _js("typed")})
            for button, decision in zip(buttons, _DONE):
                button.click(partial(_decide, file, decision), [rater, text, note, given], [text, status, given],
                             **options).then(**draft)
            undo.click(lambda given: (given["text"], given["note"]), given, [text, note], **options).then(**draft)
        # answers to quick decisions come in any order: whatever came last, the progress is read once more after it
        gr.on([panel[2].change for panel in panels], lambda rater: _progress(chains, file, rater)[0], rater, progress,
              trigger_mode="always_last", **options)
    return blocks


def launch(run_folder: str | Path, port: int | None = None) -> gr.Blocks:
    """Serve the page of a run (``web.serve``), never under a public link. StageMissing where the run has no
    chains. A hosted notebook that cannot show a local page (Kaggle): use sheets."""
    path = Path(run_folder) / "02_coe" / "taught.jsonl"
    chains = read_jsonl(path) if path.exists() else []
    if not chains:
        raise StageMissing(f"there are no chains in {path}: run notebooks/02_*.ipynb with the same params first")
    return serve(page(chains, Path(run_folder) / "review" / "decisions.jsonl"), BUNDLED / "review",
                 f"The review of {len(chains)} chains", port)


def _js(name: str) -> str:
    """A call of a function in page.js."""
    return f"(...values) => review.{name}(...values)"


def _part(name: str) -> list[Any]:
    with gr.Column(elem_id=f"part-{name}", elem_classes="part"):
        status = gr.HTML(_status(name, None), elem_id=f"status-{name}", elem_classes="status")
        text = gr.Textbox(label=NAMES[name], show_label=False, container=False, lines=2, max_lines=30,
                          elem_id=f"text-{name}", elem_classes="text")
        with gr.Row(equal_height=True):
            note = gr.Textbox(label="note", show_label=False, container=False, placeholder="note", max_lines=4, scale=9,
                              elem_id=f"note-{name}")
            buttons = [gr.Button(label, elem_id=f"{action}-{name}", size="sm", scale=1, min_width=90) for action, label
                       in (("accept", "Accept"), ("edit", "Save edit"), ("reject", "Reject"), ("undo", "Undo"))]
    return [text, note, status, gr.JSON(visible=False), *buttons]


def _begin(chains, file, rater: str, *values: Any) -> list[Any]:
    """The first undecided chain of the rater; where something is unsaved, the same chain with it."""
    given = values[3]
    if given and given["rater"] == rater.strip():  # the name box was only left
        return [gr.skip()] * (3 + len(values))
    unsaved = _unsaved(values)
    return _view(chains, file, _index(chains, given) if unsaved else None, rater, unsaved)


def _move(chains, file, step: int | None, rater: str, *values: Any) -> list[Any]:
    """The chain ``step`` further, or (None) the next undecided one; where something is unsaved, a word about it."""
    if unsaved := _unsaved(values):
        word = f"{', '.join(unsaved)}: not saved yet. Save, reject or undo it first."
        return [gr.skip(), gr.skip(), _failed(word), *[gr.skip()] * len(values)]
    now = _index(chains, values[3])
    index = None if step is None else min(max(now + step, 0), len(chains) - 1)
    return _view(chains, file, index, rater, (), after=now)


def _decide(file, decision: str, rater: str, text: str, note: str, given: dict[str, Any]) -> list[Any]:
    """Save one decision; where it cannot be saved, the page keeps everything and says why."""
    text, note, judged = plain(text), plain(note), given["judged"]
    if decision == "accept" and plain(judged) != text == plain(given["text"]):
        decision = "edit"  # what is accepted is what the rater sees: the edit that was saved
    try:
        if not rater.strip():
            raise ValueError("type your name first, at the top")
        if not judged.strip():
            raise ValueError("this layer was not asked for")
        if decision != "edit" and text not in (plain(given["text"]), plain(judged)):
            raise ValueError("you changed this text: save the edit, or undo it first")
        if decision == "edit" and text == plain(judged):
            raise ValueError("this is the text as it came: change it, or accept it")
        add(file, judge(given["question_id"], given["part"], judged, decision, rater,
                        text if decision == "edit" else "", note))
    except (OSError, ValueError) as error:
        why = explain(error, "decision") if isinstance(error, ValidationError) else error
        return [gr.skip(), _status(given["part"], "failed", f"not saved: {why}"), gr.skip()]
    kept = text if decision == "edit" else judged
    return [gr.skip() if text == plain(kept) else kept, _status(given["part"], decision, f"{_DONE[decision]} · saved"),
            given | {"text": kept, "note": note}]


def _view(chains, file, index: int | None, rater: str, keep: Sequence[str], after: int = -1) -> list[Any]:
    """Everything the page shows of a chain (None: of the next undecided one after ``after``)."""
    progress, mine = _progress(chains, file, rater)
    if index is None:
        around = [*range(after + 1, len(chains)), *range(after + 1)]
        index = next((i for i in around if len(mine.get(chains[i]["question_id"], ())) < len(parts(chains[i]))), max(after, 0))
    chain, values = chains[index], []
    for part in FIELDS:
        made = mine.get(chain["question_id"], {}).get(part)
        text = made["text"] if made and made["decision"] == "edit" else chain[part]
        note = made["note"] if made else ""
        values += [*([gr.skip()] * 2 if part in keep else [text, note]), _status(part, made and made["decision"], "" if chain[part] else "not asked for in this run"),
                   {"question_id": chain["question_id"], "part": part, "judged": chain[part], "rater": rater.strip(),
                    "text": text, "note": note}]
    label = [f"Question {index + 1} of {len(chains)}", chain["question_id"], *filter(None, [chain.get("topic")]),
             *(["synthetic, not professionally reviewed"] if chain["teacher"] == "bundled" else [])]
    return [rater, gr.update(value=chain["question"], label=" · ".join(label)), progress, *values]


def _progress(chains, file, rater: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The line about progress, and the rater's decisions that hold, by chain and part."""
    decisions, unreadable = read(file)
    mine = {}
    for decision in fresh(chains, decisions):
        if decision["rater"] == rater.strip():
            mine.setdefault(decision["question_id"], {})[decision["part"]] = decision
    done = sum(len(mine.get(chain["question_id"], ())) == len(parts(chain)) for chain in chains)
    line = f"<b>{done} of {len(chains)}</b> chains decided by you" if rater.strip() else "Type your name to begin."
    lost = "".join(_failed(f"line {row['line']} of {Path(file).name} cannot be read: {row['reason']}")
                   for row in unreadable)
    return line + (" · all done, thank you" if done == len(chains) else "") + lost, mine


def _index(chains, given: dict[str, Any]) -> int:
    return next((i for i, chain in enumerate(chains) if chain["question_id"] == given["question_id"]), 0)


def _unsaved(values: Sequence[Any]) -> list[str]:
    """The parts whose text or note differs from what was saved."""
    return [given["part"] for text, note, _, given in zip(*[iter(values)] * 4)
            if given and (plain(text), plain(note)) != (plain(given["text"]), plain(given["note"]))]


def _status(part: str, kind: str | None, word: str = "") -> str:
    word = word or _DONE.get(kind, "undecided")
    return f"<div><b>{NAMES[part]}</b><span class='{kind or 'none'}'>{html.escape(word)}</span></div>"


def _failed(text: str) -> str:
    return f"<div class='failed'>{html.escape(text)}</div>"
