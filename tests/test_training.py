"""Training stages at their edges: bad input is an error before any step, with what to do; no steps leave the model as it was."""

import json

import pytest

from empathy_lib import grpo, policy, sft
from empathy_lib.negatives import triplets
from empathy_lib.params import ParamsError, load_params
from empathy_lib.schema import Answer, Question
from test_policy import base, params_of  # noqa: F401 (base is a fixture)


def questions(n):
    return [Question(question_id=str(i), question=f"我今天很累{i}", topic="x", answers=[Answer(answer_id="a", text="听你说累。")]) for i in range(n)]


def reward(completions, **kwargs):
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize("chains, says", [
    ([], "no valid chain of empathy to train on: see 02_coe/rejected.jsonl"),
    ([{"question_id": "q7", "question": "累", "L1": " ", "L2": "b", "L3": "c", "L4": "d", "answer": "e"}], r"q7: L1 is empty"),
    ([{"question_id": "q8", "question": "累", "L1": "a", "answer": "e"}], r"q8: 'L2'")])
def test_nothing_valid_to_learn_from(base, tmp_path, chains, says):  # noqa: F811
    with pytest.raises(ValueError, match=says):
        sft.train(chains, base, tmp_path, params_of("transformers"))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_some_chains_invalid(base, chain, capsys):  # noqa: F811
    p = params_of("transformers")
    _, tokenizer = policy.load(base, p)
    good = {"question_id": "q1", "question": "累", **vars(chain)}
    assert len(sft.rows([good, good | {"question_id": "q2", "L3": "<L1>"}], tokenizer, p)) == 1
    assert "1 of 2 chains are left out, the first q2: L3 contains the tag <L1>" in capsys.readouterr().out


def test_fewer_questions_than_a_step_needs(base, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="GRPO needs 2 questions a step and has 1: lower grpo.batch_size"):
        grpo.train(questions(1), [], base, [reward], tmp_path, params_of("transformers"))
    with pytest.raises(ValueError, match="there are 1 questions"):
        triplets(questions(1), {"random": 1}, 1)


@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
def test_a_folder_without_a_tokenizer(base, tmp_path, backend):  # noqa: F811
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="holds no tokenizer: copy tokenizer.json"):
        policy.load(tmp_path, params_of(backend))


@pytest.mark.parametrize("key, value, says", [
    ("grpo.threshold", 1.2, "grpo.threshold: a cosine lies between -1 and 1, got 1.2"),
    ("grpo.threshold", "best", "grpo.threshold: Input should be 'auto'"),
    ("grpo.num_generations", 3, r"grpo.num_generations: must divide batch_size × gradient_accumulation = 8"),
    ("reward_model.negatives", dict.fromkeys(("random", "same_topic", "hard", "base", "faulty", "padded"), 0.0), "at least one kind"),
    ("reward_model.negatives", {"easy": 1.0}, "'random', 'same_topic', 'hard'"),
    ("grpo.save_every_minutes", 0.0, "grpo.save_every_minutes")])
def test_impossible_parameters(key, value, says):
    with pytest.raises(ParamsError, match=says):
        load_params("params/smoke.yaml", {key: value})


def test_no_steps_leave_the_model_as_it_was(base, tmp_path, chain):  # noqa: F811
    import torch
    p = params_of("transformers", rank=4, **{"sft.epochs": 0, "grpo.max_steps": 0})
    assert sft.train([], base, tmp_path / "sft", p) == grpo.train([], [], tmp_path / "sft" / "model", [], tmp_path / "grpo", p) == []
    weights = [policy.load(folder, p)[0].state_dict() for folder in (base, tmp_path / "grpo" / "model")]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    assert (tmp_path / "grpo" / "log.jsonl").read_text() == ""


def test_dev_is_looked_at_and_does_not_touch_the_steps_rollouts(base, tmp_path):  # noqa: F811
    import pandas as pd
    p = params_of("transformers", **{"grpo.max_steps": 4, "grpo.save_steps": 2, "grpo.max_completion_tokens": 12})
    log = grpo.train(questions(6), questions(3), base, [reward], tmp_path, p)
    steps, looks = [row for row in log if "reward" in row], [row for row in log if "eval_reward" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4] and [row["step"] for row in looks] == [2, 4]
    assert {"empty_answers", "distinct_1", "repetition", "kl", "entropy", "clip_ratio/region_mean"} <= set(steps[0])
    assert {"eval_navg", "eval_empty_answers", "eval_reward"} <= set(looks[0]) and "navg" not in steps[0]
    for file in (tmp_path / "completions").glob("*.parquet"):
        rows = pd.read_parquet(file)
        assert len(rows) == 8 and (rows.prompt.to_numpy().reshape(-1, 4) == rows.prompt.to_numpy()[::4, None]).all()
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["steps"] == 4 and 0 < timing["reward_share"] < 0.5


def test_a_checkpoint_by_minutes(base, tmp_path):  # noqa: F811
    p = params_of("transformers", **{"grpo.max_steps": 3, "grpo.save_steps": 50, "grpo.max_completion_tokens": 12,
                                     "grpo.save_every_minutes": 1e-6})
    grpo.train(questions(6), [], base, [reward], tmp_path, p)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}  # two are kept
