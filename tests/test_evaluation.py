"""Systems of other runs, and what of a system is scored."""

import pandas as pd
import pytest
from omegaconf import OmegaConf

from empathy_lib import evaluation
from empathy_lib.params import load_params
from empathy_lib.run import other_systems
from empathy_lib.schema import Question, read_jsonl, write_json, write_jsonl

QUESTIONS = [Question.model_validate({"question_id": f"q{i}", "question": f"第{i}封信", "topic": "考试", "answers": [
    {"answer_id": "a", "text": "听起来你这阵子真的很累。先睡一觉，好吗？"}]}) for i in range(3)]


def rows(samples=2, text="你很累，先睡一觉。", **more):
    return [{"question_id": q.question_id, "question": q.question, "sample": n, "completion": f"<answer>{text}</answer>", "answer": text,
             "valid": bool(text)} | more for q in QUESTIONS for n in range(samples)]


def test_other_runs_are_taken_where_they_answered_the_same(tmp_path):
    p = load_params("params/smoke.yaml", {"outputs": str(tmp_path), "evaluation.samples_per_question": 2, "evaluation.others": {
        "no_coe": "plain", "grpo_only": "gone", "short": "short", "warm": "warm"}})

    def make(run, said, temperature=p.evaluation.temperature):
        folder = tmp_path / run / "06_evaluation"
        write_jsonl(folder / "generations" / "empathy_r1.jsonl", said)
        write_json(folder / "metrics.json", {})
        (tmp_path / run / "params.yaml").write_text(OmegaConf.to_yaml({"evaluation": {"temperature": temperature}}))

    make("plain", rows(3))  # more samples than are needed
    make("short", rows(1))
    make("warm", rows(), temperature=p.evaluation.temperature / 2)
    assert set(other_systems(p)) == {"no_coe", "short", "warm"} and not other_systems(load_params("params/smoke.yaml", {
        "outputs": str(tmp_path), "sft.epochs": 0, "evaluation.others": {"no_coe": "plain"}}))  # itself without a part
    taken, left_out = evaluation.take_others(QUESTIONS, tmp_path / "here", p)
    assert set(taken) == {"no_coe"} and len(taken["no_coe"]) == 6 and read_jsonl(tmp_path / "here" / "no_coe.jsonl") == taken["no_coe"]
    assert "'gone' is not there" in left_out["grpo_only"] and all("another" in left_out[name] for name in ("short", "warm"))


def test_only_the_answer_is_scored_and_copies_are_seen():
    p = load_params("params/smoke.yaml")
    training = ["你很累，先睡一觉。明天再说也不迟。"]
    figures, table = evaluation.score_system(rows() + rows(1, text=""), QUESTIONS, training, p)
    assert (figures["n"], figures["empty"], figures["format_valid"]) == (9, 3, pytest.approx(6 / 9))
    assert (table["char rouge_l"][6:] == 0).all() and (table["char rouge_l"][:6] > 0).all()
    assert figures["longest_copy"] == {"mean": 9.0, "max": 9} and figures["copied"]["value"] == 1
    own = evaluation.score_system(rows(text="昨天的考试让你整晚没有合眼"), QUESTIONS, training, p)[0]
    assert own["copied"]["value"] == 0
    plain, _ = evaluation.score_system(rows(valid=None), QUESTIONS, training, p)
    assert plain["format"] is None and plain["char"]["navg"] > figures["char"]["navg"]


def test_systems_are_compared_question_by_question():
    p = load_params("params/smoke.yaml")
    tables = {name: evaluation.score_system(rows(text=text), QUESTIONS, [], p)[1] for name, text in (("a", "你很累，先睡一觉。"), ("b", "嗯"))}
    pairs = evaluation.compare(tables, [("a", "b"), ("b", "a"), ("a", "missing")], p)
    assert list(pairs) == ["a − b", "b − a"]
    one, other = (pairs[name]["char navg"] for name in pairs)
    assert one["value"] > 0 and one["value"] == pytest.approx(-other["value"]) and one["ci95"][0] > 0
    assert isinstance(tables["a"], pd.DataFrame) and one["p"] == other["p"]
