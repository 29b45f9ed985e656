"""The page where anyone may try a run's systems: a letter, a reply that grows sentence by sentence, its four layers in a
folded panel, behind the safety screen (``reply.py``). What is typed, and earlier replies to it, live in the server's memory for an
hour at most after the last reply, and in no file."""

import html
import secrets
from collections.abc import Iterator
from typing import Any

import gradio as gr
from omegaconf import OmegaConf

from empathy_lib import BUNDLED
from empathy_lib.coe import FIELDS, LAYERS
from empathy_lib.reply import LOCALES, Reply, cannot_be_read, load, stream_reply, systems
from empathy_lib.resources import Place, help_for, places
from empathy_lib.run import Run
from empathy_lib.schema import read_jsonl
from empathy_lib.web import serve

_FOLDER = BUNDLED / "conversation"


def launch(run: Run, port: int | None = None) -> gr.Blocks:
    """Serve the page of a run (``web.serve``), never under a public link. StageMissing where it has no model, ValueError for a broken resources file."""
    blocks, there = page(run), systems(run)
    load(run, there[-1])  # or the first letter would wait for it
    return serve(blocks, _FOLDER, f"Try it ({', '.join(there)})", port)


def texts() -> dict[str, Any]:
    """All words of the page, by language."""
    return OmegaConf.to_container(OmegaConf.load(_FOLDER / "texts.yaml"))


def page(run: Run) -> gr.Blocks:
    """The page of a run's systems, in its language at first."""
    words, there, language = texts(), systems(run), run.params.language
    letters = {row["title"]: row["question"] for row in read_jsonl(BUNDLED / "questions.jsonl")} if language == "zh" else {}
    known, t = places(), words[language]
    with gr.Blocks(title=t["title"], analytics_enabled=False) as blocks:
        spoken = gr.Radio([("中文", "zh"), ("English", "en")], value=language, show_label=False, container=False, elem_id="language")
        notice = gr.Markdown(_notice(t, run), elem_id="notice")
        with gr.Row():
            with gr.Column(scale=2):
                letter = gr.Dropdown(list(letters), value=None, label=t["example"], visible=bool(letters), elem_id="letter")
                question = gr.Textbox(label=t["question"], placeholder=t["placeholder"], lines=10, max_lines=20, elem_id="question")
                system = gr.Radio(_choices(t, there), value=there[-1], label=t["system"], elem_id="system")
                with gr.Row():
                    temperature = gr.Slider(0, 1.5, value=run.params.evaluation.temperature, step=0.1, label=t["temperature"], elem_id="temperature")
                    place = gr.Dropdown([(p.name, name) for name, p in known.items()], value=LOCALES[language], label=t["place"], elem_id="place")
                with gr.Row():
                    ask, stop, clear = (gr.Button(t[name], variant=kind, elem_id=name, min_width=80)
                                        for name, kind in (("ask", "primary"), ("stop", "stop"), ("clear", "secondary")))
            with gr.Column(scale=3):
                status = gr.HTML(elem_id="status")
                told = gr.HTML(elem_id="told")
                with gr.Accordion(t["layers"], open=False, visible=False, elem_id="layers") as layers:
                    reasoning = gr.HTML(elem_id="reasoning")
                answer = gr.HTML(elem_id="answer")
                earlier = gr.HTML(elem_id="earlier")
        last, done = gr.State(("", []), time_to_live=3600), [status, told, layers, reasoning, answer, earlier]  # of one window

        def reply(*given: Any) -> Iterator[list[Any]]:
            yield from _answered(run, words, *given)

        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        asked = ask.click(reply, [question, system, temperature, place, spoken, last], [*done, last], concurrency_limit=None, **quiet)  # a crisis waits for nobody
        stop.click(lambda language: _status(words[language]["stopped"], "stopped"), spoken, status, cancels=[asked], **quiet)
        clear.click(lambda: ["", None, "", "", gr.update(visible=False), "", "", "", ("", [])], None,
                    [question, letter, *done, last], cancels=[asked], **quiet)
        letter.change(lambda title: letters.get(title, gr.skip()), letter, question, **quiet)
        ask.click(None, None, None, js="() => document.querySelector('#status').scrollIntoView({block: 'nearest'})")  # on a phone it is below
        spoken.change(lambda language, place: _labels(words[language], run, there, LOCALES[language] if place in LOCALES.values() else place), [spoken, place],
                      [notice, letter, question, system, temperature, place, ask, stop, clear, layers], **quiet)
    return blocks


def _notice(t: dict[str, Any], run: Run) -> str:
    chars = run.params.view.question_chars
    police, ambulance, line, *_ = (f"**{r.contact}**" for r in help_for(LOCALES["zh"]).resources)
    return f"## {t['title']}\n\n" + t["notice"].format(
        view=t["view"].format(n=chars) if chars else "", model=t["demo"] if run.params.policy.model == "demo" else run.params.policy.model,
        police=police, ambulance=ambulance, line=line)


def _choices(t: dict[str, Any], there: list[str]) -> list[tuple[str, str]]:
    return [(f"{name} · {t['systems'][name]}", name) for name in there]


def _labels(t: dict[str, Any], run: Run, there: list[str], place: str) -> list[Any]:
    return [_notice(t, run), gr.update(label=t["example"]), gr.update(label=t["question"], placeholder=t["placeholder"]),
            gr.update(label=t["system"], choices=_choices(t, there)), gr.update(label=t["temperature"]), gr.update(label=t["place"], value=place),
            *(gr.update(value=t[name]) for name in ("ask", "stop", "clear")), gr.update(label=t["layers"])]


def _answered(run: Run, words: dict[str, Any], question: str, system: str, temperature: float, place: str, language: str,
              last: tuple[str, list[str]]) -> Iterator[list[Any]]:
    """What the page shows as the reply grows: status, told, layers, reasoning, answer, earlier, and what is remembered."""
    t, question = words[language], question or ""
    cards = last[1] if last[0] == question else []
    earlier = f"<h3>{t['earlier']}</h3><div class='cards'>{''.join(cards)}</div>" if cards else ""
    shown = ["", gr.update(visible=False), "", ""]
    yield [_status(t["writing"], "writing"), *shown, earlier, last]
    try:
        for reply in stream_reply(question, run, system, place, temperature, seed=secrets.randbelow(2**31)):
            now = next((t[name] for name in reversed(FIELDS) if reply.part(name)), "")  # what is being written
            shown = _shown(reply, t)
            yield ["" if reply.done else _status(f"{t['writing']} {now}", "writing"), *shown, earlier, last]
    except Exception as error:  # whatever it is, the person is told, and keeps what help there was; what was typed goes into no log
        said = t[problem].format(n=len(question)) if (problem := cannot_be_read(question)) else t["failed"].format(why=f"{type(error).__name__}: {error}")
        yield [_status(said, "failed"), *shown, earlier, last]
        return
    if reply.level == "crisis":
        yield [_status(t["crisis_note"], "done"), *shown, "", ("", [])]
        return
    card = f"<div class='card'><b>{_text(system)} · {temperature}</b>{_reasoning(reply, t, fold=True) * _layered(reply)}{_answer(reply, t)}</div>"
    yield [_status("", "done"), *shown, earlier, (question, [*cards, card])]


def _status(text: str, state: str) -> str:
    return f"<div class='note' role='status' data-state='{state}'>{_text(text)}</div>"


def _shown(reply: Reply, t: dict[str, Any]) -> list[Any]:
    """A reply as it is now: what is told beside it, the panel, the layers, the answer."""
    told = _said(t["replaced"], "note") * bool(reply.faults) + _said(reply.message) * bool(reply.message)
    if reply.place:
        told += _help(reply.place, t)
    return [told and f"<div role='alert'>{told}</div>", gr.update(visible=_layered(reply)), _reasoning(reply, t), "" if reply.message else _answer(reply, t)]


def _layered(reply: Reply) -> bool:
    return any(reply.part(name) for name in LAYERS)


def _reasoning(reply: Reply, t: dict[str, Any], fold: bool = False) -> str:
    parts = "".join(f"<h4>{t[name]}</h4><p>{_text(reply.part(name)) or t['none']}</p>" for name in LAYERS)
    return f"<details><summary>{t['layers']}</summary>{parts}</details>" if fold else parts


def _answer(reply: Reply, t: dict[str, Any]) -> str:
    if reply.faults:
        return _said(t["replaced"], "note")
    if reply.problem:
        return _said(t["problem"].format(why=reply.problem), "note") + f"<pre>{_text(reply.text)}</pre>"
    return f"<h4>{t['answer']}</h4><p class='reply'>{_text(reply.part('answer'))}</p>" if reply.part("answer") else ""


def _help(place: Place, t: dict[str, Any]) -> str:
    doubt = f" <small>({_text(t['unconfirmed'])})</small>"
    rows = "".join(f"<li><b>{_text(r.name)}</b> · <span class='contact'>{_text(r.contact)}</span>{doubt * (not r.confirmed)}"
                   f"<br><small>{_text(r.hours)} · {_text(r.about)}</small></li>" for r in place.resources)
    return f"<section class='help'><h4>{_text(t['help'].format(name=place.name, month=place.checked))}</h4><ul>{rows}</ul></section>"


def _said(text: str, kind: str = "said") -> str:
    return f"<div class='{kind}'>" + "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n")) + "</div>"


def _text(value: str) -> str:
    return html.escape(value).replace("\n", "<br>")
