"""Systems of other runs, and what of a system is scored."""

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from transformers import BatchEncoding

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
        "no_coe": "plain", "grpo_only": "gone", "short": "short", "warm": "warm", "viewed": "viewed"}})

    def make(run, said, temperature=p.evaluation.temperature, **more):
        folder = tmp_path / run / "06_evaluation"
        write_jsonl(folder / "generations" / "empathy_r1.jsonl", said)
        write_json(folder / "metrics.json", {})
        other = load_params("params/smoke.yaml", {"evaluation.temperature": temperature} | more).model_dump()
        (tmp_path / run / "params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(other)))

    make("plain", rows(3), **{"coe.layers": []})  # more samples than are needed
    make("whole", rows())
    make("viewed", rows(), **{"view.answer_chars": 30})
    make("short", rows(1))
    make("warm", rows(), temperature=p.evaluation.temperature / 2)
    assert set(other_systems(p)) == {"no_coe", "short", "warm", "viewed"} and not other_systems(load_params("params/smoke.yaml", {
        "outputs": str(tmp_path), "sft.epochs": 0, "evaluation.others": {"no_coe": "plain"}}))  # itself without a part
    taken, left_out = evaluation.take_others(QUESTIONS, tmp_path / "here", p)
    assert set(taken) == {"no_coe"} and len(taken["no_coe"]) == 6 and read_jsonl(tmp_path / "here" / "no_coe.jsonl") == taken["no_coe"]
    assert "'gone' is not there" in left_out["grpo_only"] and all("another" in left_out[name] for name in ("short", "warm"))
    assert left_out["viewed"].endswith("has another view")
    wrong = p.model_copy(update={"evaluation": p.evaluation.model_copy(update={"others": {"no_coe": "whole", "grpo_only": "whole"}})})
    assert all(f"is no {name}" in why for name, why in evaluation.take_others(QUESTIONS, tmp_path / "here", wrong)[1].items())


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
    assert evaluation.compare({name: table[:2] for name, table in tables.items()}, [("a", "b")], p) == {}  # one question


def test_navg_of_the_questions_is_navg():
    p = load_params("params/smoke.yaml")
    figures, table = evaluation.score_system(rows(text="你很累，先睡一觉。"), QUESTIONS, [], p)
    for tokenizer in ("char", "jieba"):
        assert table[f"{tokenizer} navg"].mean() == pytest.approx(figures[tokenizer]["navg"])
        assert table.groupby("question_id")[f"{tokenizer} navg"].nunique().max() == 1  # the same samples here


def test_an_interrupted_answering_goes_on(tmp_path, monkeypatch):
    """Killed in its second batch of two, it makes only the missing ones, the same as at once."""
    p = load_params("params/smoke.yaml", {"evaluation.batch_size": 2, "evaluation.samples_per_question": 2})

    class Model:
        device, asked = "cpu", 0

        def eval(self):
            pass

        def generate(self, input_ids, attention_mask, **kwargs):
            Model.asked += 1
            if Model.asked == self.dies:
                raise KeyboardInterrupt
            return torch.cat([input_ids, torch.randint(5, 50, (len(input_ids), 6))], dim=1)

    class Tokenizer:
        pad_token_id = 0

        def apply_chat_template(self, messages, **kwargs):
            return messages[-1]["content"]

        def __call__(self, texts, **kwargs):
            return BatchEncoding({name: torch.ones(len(texts), 3, dtype=torch.long) for name in ("input_ids", "attention_mask")})

        def batch_decode(self, ids, **kwargs):
            return [str(row.tolist()) for row in ids]

    monkeypatch.setattr(evaluation.policy, "load", lambda *_: (Model(), Tokenizer()))
    Model.dies = 2
    with pytest.raises(KeyboardInterrupt):
        evaluation.answer_questions("m", QUESTIONS, tmp_path / "a.jsonl", p)
    assert (tmp_path / "a.part").exists() and not (tmp_path / "a.jsonl").exists()
    with open(tmp_path / "a.part", "a") as file:
        file.write('["half a li')  # as a power cut leaves it
    kept = (tmp_path / "a.part").read_bytes()
    Model.dies, Model.asked = None, 0
    said = evaluation.answer_questions("m", QUESTIONS, tmp_path / "a.jsonl", p)
    assert Model.asked == 2 and [f.name for f in tmp_path.iterdir()] == ["a.jsonl"]
    assert said == evaluation.answer_questions("m", QUESTIONS, tmp_path / "b.jsonl", p) and len({row["completion"] for row in said}) == 6
    (tmp_path / "c.part").write_bytes(kept)
    Model.asked = 0
    evaluation.answer_questions("m", QUESTIONS[::-1], tmp_path / "c.jsonl", p)
    assert Model.asked == 3  # what was kept belongs to other questions
