"""The ledger: every claim has a row, and its verdict follows from the figures alone."""

import json

import pytest

from empathy_lib import claims, ratings
from empathy_lib.params import load_params
from empathy_lib.run import Run
from empathy_lib.schema import write_json, write_jsonl

PAPER = {"policy.model": "Qwen/Qwen3-8B", "dataset.source": "empathy_qa.jsonl"}


def run_of(folder, profile="smoke", questions=290, **overrides) -> Run:
    run = Run(load_params(f"params/{profile}.yaml", {"outputs": str(folder)} | overrides))
    write_json(run.dir / "01_dataset" / "metrics.json", {"splits": {"train": {"questions": questions}}})
    return run


def figures(difference=0.1, rouge=0.2, tokenizers=("char", "jieba", "ascii"), **ends):
    """Metrics of 06 in which each score is ``rouge`` ± .01 and each difference ± .05, but for the ``ends`` of a tokenizer."""
    names = ("navg", "bleu_1", "rouge_l", "meteor")
    score = {name: rouge for name in names} | {"ci95": {name: [rouge - 0.01, rouge + 0.01] for name in names}}
    pair = {f"{t} {name}": {"value": difference, "ci95": list(ends.get(t, (difference - 0.05, difference + 0.05))), "p": 0.01, "questions": 58}
            for t in tokenizers for name in names}
    return {"tokenizers": list(tokenizers), "systems": {name: {"n": 232} | dict.fromkeys(tokenizers, score) for name in ("sft", "empathy_r1", "no_coe")},
            "comparisons": {"empathy_r1 − sft": pair, "empathy_r1 − no_coe": pair}}


def verdicts(run, said, people=None):
    return {row["id"]: row["verdict"] for row in claims.ledger(run, said, people)}


def test_every_claim_has_a_row_and_the_demo_tells_no_figure(tmp_path):
    rows = claims.ledger(run_of(tmp_path), figures(), None)
    assert len(rows) == 10 and {row["verdict"] for row in rows} <= set(claims.VERDICTS)
    assert all(row["why"] and "demo model" in row["scale"] for row in rows)
    told = {row["id"] for row in rows if row["verdict"] != claims.VERDICTS[2]}
    assert told == {"synergy", "rouge_falls", "bleu_rises", "meteor_rises"}  # directions; nobody ranked


@pytest.mark.parametrize("difference, ends, synergy, falls", [
    (0.1, {}, 0, 1), (-0.1, {}, 1, 0), (0.02, {}, 2, 2),
    (0.1, {"jieba": (-0.01, 0.2)}, 2, 2),  # the tokenizers differ
    (0.1, {"ascii": (-0.2, 0.0)}, 0, 1),  # which does not read Chinese
])
def test_a_direction_needs_every_interval_on_one_side(tmp_path, difference, ends, synergy, falls):
    said = verdicts(run_of(tmp_path), figures(difference, **ends))
    assert (said["synergy"], said["rouge_falls"]) == (claims.VERDICTS[synergy], claims.VERDICTS[falls])


@pytest.mark.parametrize("rouge, overrides, questions, verdict", [
    (0.050, PAPER, 40_959, 0), (0.2, PAPER, 40_959, 1),
    (0.050, PAPER, 290, 2),  # another test set
    (0.050, PAPER | {"policy.model": "Qwen/Qwen3-4B"}, 40_959, 2),
])
def test_a_figure_needs_the_papers_scale(tmp_path, rouge, overrides, questions, verdict):
    said = verdicts(run_of(tmp_path, "paper", questions, **overrides), figures(rouge=rouge))
    assert said["rouge_with_coe"] == claims.VERDICTS[verdict]


SYSTEMS = ["base", "base_coe", "sft", "grpo_only", "no_coe", "empathy_r1"]


def answered(run, word="says"):
    for name in SYSTEMS:
        write_jsonl(run.dir / "06_evaluation" / "generations" / f"{name}.jsonl", [
            {"question_id": f"q{i}", "question": "?", "answer": f"{name} {word} {i}"} for i in range(40)])
    return claims.items(run)


def rank(run, items, raters, first, kind="human"):
    for rater in raters:
        for item in items:
            best = first(int(item["question_id"][1:]))
            order = [best, *(name for name in SYSTEMS if name != best)]
            ratings.add(run.dir / "ratings" / "ratings.jsonl",
                        ratings.rate(item, "overall", rater, {name: place for place, name in enumerate(order, 1)}, kind))


def test_only_people_are_people(tmp_path):
    run = run_of(tmp_path, "paper", 40_959, **PAPER)
    items = answered(run)
    rank(run, items, ["judge"], lambda i: "empathy_r1", "llm")
    assert claims.people(run) is None
    rank(run, items, ["r1"], lambda i: "empathy_r1" if i < 18 else "sft")  # .45: the paper says .443 and .375
    assert {row["id"]: row["verdict"] for row in claims.write(run, figures())}["win_in_domain"] == claims.VERDICTS[2]  # one rater
    rank(run, items, ["r2"], lambda i: "empathy_r1" if i < 18 else "sft")
    said = {row["id"]: row for row in claims.write(run, figures())}
    assert said["win_in_domain"]["figures"][0]["value"] == pytest.approx(0.45)
    assert said["win_in_domain"]["verdict"] == claims.VERDICTS[0]
    assert said["win_out_of_domain"]["verdict"] == claims.VERDICTS[2] and "is not PsyQA" in said["win_out_of_domain"]["why"]
    assert [row["id"] for row in json.loads((run.dir / "claims.json").read_text())] == list(said)
    answered(run, "now says")
    assert claims.people(run) is None  # nobody has ranked these


@pytest.mark.parametrize("overrides, questions", [
    ({"view.answer_chars": 50}, 40_959), ({"grpo.max_steps": 999}, 40_959), ({"dataset.source": "emollm:x.json"}, 40_959),
    ({"dataset.source": "psyqa:x.json"}, 22_346), ({"language": "en"}, 40_959)])
def test_what_is_not_the_papers_scale_tells_no_figure(tmp_path, overrides, questions):
    run = run_of(tmp_path, "paper", questions, **PAPER | overrides)
    rank(run, answered(run), ["r1", "r2"], lambda i: "empathy_r1" if i % 5 < 2 else "sft")
    rows = {row["id"]: row for row in claims.write(run, figures(rouge=0.05))}
    assert rows["win_in_domain"]["figures"] and all(rows[name]["verdict"] == claims.VERDICTS[2] for name in (
        "win_in_domain", "win_out_of_domain", "rouge_with_coe"))


def test_a_run_of_the_papers_scale_tested_on_psyqa_tells_the_claim_about_it(tmp_path):
    run = run_of(tmp_path, "paper", 40_959, **PAPER | {"dataset.test_source": "psyqa:x.json"})
    rank(run, answered(run), ["r1", "r2"], lambda i: "empathy_r1" if i % 5 < 2 else "sft")
    rows = {row["id"]: row for row in claims.write(run, figures(rouge=0.05))}
    assert rows["win_out_of_domain"]["verdict"] == claims.VERDICTS[0]  # .4 of 40 questions: .375 lies in its interval
    assert "is not Empathy-QA" in rows["win_in_domain"]["why"] and rows["rouge_with_coe"]["verdict"] == claims.VERDICTS[2]


@pytest.mark.parametrize("part", [{"coe.layers": []}, {"sft.epochs": 0}, {"grpo.max_steps": 0}])
def test_a_run_without_a_part_tells_nothing_about_the_whole(tmp_path, part):
    assert set(verdicts(run_of(tmp_path, **part), figures()).values()) == {claims.VERDICTS[2]}
