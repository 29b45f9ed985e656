"""The blind ranking page: one question with the systems' answers as A, B, C …, put in order on each dimension. Page and
server exchange letters only; which system a letter is the server works out anew from rater, question and seed. What an
order is about (rater, question, the digest of what was shown) travels with it, so that neither another window nor a
restarted server can put it on other answers; the file of ratings is the only memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from omegaconf import OmegaConf

from empathy_lib import BUNDLED
from empathy_lib.ratings import DIMENSIONS, add, blind, code, fresh, rate, read, seen_by
from empathy_lib.run import StageMissing
from empathy_lib.schema import read_jsonl
from empathy_lib.web import serve

LETTERS = "ABCDEF"
_BROWSER = BUNDLED / "ranking"


def page(items: Sequence[dict[str, Any]], file: str | Path, seed: int, language: str = "zh") -> gr.Blocks:
    """The page for these items (``ratings.items``; 2 to 6 systems); ratings are appended to ``file`` and read from it.
    ``language``: ``zh`` or ``en``, which the rater may change. Its two functions for the browser are ``begin`` and ``save``."""
    words = texts()
    known = {item["question_id"]: item for item in items}
    if bad := next((item for item in items if not 2 <= len(item["answers"]) <= len(LETTERS)), None):
        raise ValueError(f"{bad['question_id']} has answers of {len(bad['answers'])} systems: the page ranks 2 to {len(LETTERS)}")

    def begin(typed: str) -> dict[str, Any]:
        rater = code(typed)
        try:
            mine = [r for r in fresh(items, read(file)[0]) if r["kind"] == "human" and r["rater"] == rater]
        except OSError as error:
            return _disk(error)
        return {"rater": rater, "items": [_shown(item, rater, seed, mine) for item in items]}

    def save(made: dict[str, Any]) -> dict[str, Any]:
        # no word of an error of ours goes to the page: it could name a system
        try:
            item, rater = known[made["question_id"]], code(made["rater"])
            systems = blind(item, rater, seed)
            if made["shown"] != seen_by(item, rater, seed):
                return {"problem": "changed"}
            note = made["note"].encode(errors="ignore").decode()  # half an emoji is no text
            rating = rate(item, made["dimension"], rater, _ranks(made["order"], systems), note=note)
        except (KeyError, TypeError, ValueError, AttributeError):
            return {"problem": "changed"}
        try:
            add(file, rating)
        except OSError as error:
            return _disk(error)
        return {}

    with gr.Blocks(title=words[language]["title"], analytics_enabled=False) as blocks:
        gr.HTML(html_template="<div></div>", elem_id="ranking", words=words, language=language, dimensions=DIMENSIONS,
                apply_default_css=False, js_on_load="ranking.start(element, server, props)", server_functions=[begin, save])
    return blocks


def launch(run_folder: str | Path, seed: int, language: str = "zh", port: int | None = None, share: bool = False) -> gr.Blocks:
    """Serve the page of a run's ``07_ranking/items.jsonl`` (``web.serve``); ratings go to ``ratings/ratings.jsonl``.
    ``share`` adds a public link (on Colab, whose raters sit elsewhere). StageMissing where there is nothing to rank."""
    path, file = Path(run_folder) / "07_ranking" / "items.jsonl", Path(run_folder) / "ratings" / "ratings.jsonl"
    items = read_jsonl(path) if path.exists() else []
    if not items:
        raise StageMissing(f"there are no answers to rank in {path}: run notebooks/07_*.ipynb with the same params first")
    for row in read(file)[1]:
        print(f"{file}: line {row['line']} cannot be read and is left out: {row['reason']}")
    return serve(page(items, file, seed, language), _BROWSER, f"The ranking of answers to {len(items)} questions", port, share)


def texts() -> dict[str, Any]:
    """All words of the page, by language."""
    return OmegaConf.to_container(OmegaConf.load(_BROWSER / "texts.yaml"))


def _shown(item: Mapping[str, Any], rater: str, seed: int, mine: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page is given of an item: no system's name, and the rater's own orders and last note as they are saved."""
    systems = blind(item, rater, seed)
    made = [rating for rating in mine if rating["question_id"] == item["question_id"]]
    return {"question_id": item["question_id"], "question": item["question"], "shown": seen_by(item, rater, seed),
            "answers": [item["answers"][system] for system in systems], "note": made[-1]["note"] if made else "",
            "orders": {rating["dimension"]: _order(rating["ranks"], systems) for rating in made}}


def _order(ranks: Mapping[str, int], systems: Sequence[str]) -> list[list[str]]:
    """Ranks as the page has them: letters from the best to the worst, tied ones together."""
    return [[letter for letter, system in zip(LETTERS, systems) if ranks[system] == rank]
            for rank in sorted(set(ranks.values()))]


def _ranks(order: Sequence[Sequence[str]], systems: Sequence[str]) -> dict[str, int]:
    """An order of all letters as ranks: one more than the number of better answers. ValueError where it is none."""
    if sorted(letter for tied in order for letter in tied) != list(LETTERS[:len(systems)]):
        raise ValueError("not an order of all answers")
    ranks: dict[str, int] = {}
    for tied in order:
        ranks |= dict.fromkeys([systems[LETTERS.index(letter)] for letter in tied], len(ranks) + 1)
    return ranks


def _disk(error: OSError) -> dict[str, str]:
    return {"problem": "disk", "why": error.strerror or type(error).__name__}
