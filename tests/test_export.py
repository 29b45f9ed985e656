"""The exports of a run: its values, its rows, and the reward that verl calls. The packages themselves: ``make check-exports``."""

import json

import pandas as pd
import pytest
import yaml
from datasets import Dataset

from empathy_lib import export, policy, sft, verl_score
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions


@pytest.fixture(scope="module")
def written(smoke_run):
    """What notebooks 03 and 05 wrote."""
    return smoke_run / "export"


def test_llama_factory_gets_the_chains_and_values_of_the_run(smoke_run, written):
    params, folder = load_params(smoke_run / "params.yaml"), written / "llama_factory"
    values = yaml.safe_load((folder / "sft.yaml").read_text())
    s, p = params.sft, params.policy
    assert (values["learning_rate"], values["num_train_epochs"], values["cutoff_len"], values["seed"]) == (s.learning_rate, s.epochs, p.max_seq_length, 42)
    assert values["finetuning_type"] == "full" and not values["bf16"] and (folder / values["model_name_or_path"] / "config.json").exists()
    rows = json.loads((folder / "coe.json").read_text("utf-8"))
    chains = read_jsonl(smoke_run / "02_coe" / "coe.jsonl")
    assert [row["output"] for row in rows] == [text for _, text in sft.texts(chains, params)] and len(rows) == len(chains)
    assert set(rows[0]) == set(json.loads((folder / "dataset_info.json").read_text())["coe"]["columns"].values())
    lora = params.model_copy(update={"policy": p.model_copy(update={"model": "Qwen/Qwen3-8B", "lora_rank": 32, "load_in_4bit": True, "dtype": "bfloat16"})})
    values = yaml.safe_load(export.llama_factory(chains[:3], "Qwen/Qwen3-8B", folder.parent / "other", lora).read_text())
    assert (values["lora_rank"], values["quantization_bit"], values["bf16"], values["model_name_or_path"]) == (32, 4, True, "Qwen/Qwen3-8B")
    assert values["lora_target"].split(",") == policy.LORA_TARGETS


def test_verl_gets_the_questions_and_values_of_the_run(smoke_run, written):
    params, folder = load_params(smoke_run / "params.yaml"), written / "verl"
    values, g = yaml.safe_load((folder / "grpo.yaml").read_text()), params.grpo
    actor, rollout = (values["actor_rollout_ref"][name] for name in ("actor", "rollout"))
    assert (actor["clip_ratio"], actor["kl_loss_coef"], actor["optim"]["lr"]) == (g.epsilon, g.beta, g.learning_rate)
    assert (rollout["n"], rollout["temperature"], values["trainer"]["total_training_steps"]) == (g.num_generations, g.temperature, g.max_steps)
    assert values["data"]["train_batch_size"] * rollout["n"] == g.batch_size * g.gradient_accumulation
    assert json.loads((smoke_run / "05_grpo/metrics.json").read_text())["threshold"] == values["reward"]["custom_reward_function"]["reward_kwargs"]["threshold"]
    asked, _ = read_questions(smoke_run / "01_dataset" / "train.jsonl")
    rows = Dataset.from_parquet(str(folder / "train.parquet"))
    assert [row["extra_info"]["question"] for row in rows] == [q.question for q in asked]
    assert rows[0]["prompt"] == policy.messages(asked[0].question, params)
    for path in (values["actor_rollout_ref"]["model"]["path"], values["reward"]["custom_reward_function"]["reward_kwargs"]["encoder"]):
        assert list((folder / path.removeprefix("${here}/")).rglob("model.safetensors")), path
    script = folder / "launch.sh"
    assert script.stat().st_mode & 0o100 and "main_ppo" in script.read_text()


def test_verl_is_told_what_trl_was(smoke_run, written):
    """Each rollout of the run, scored through the function that verl calls."""
    folder = written / "verl"
    told = yaml.safe_load((folder / "grpo.yaml").read_text().replace("${here}", str(folder)))["reward"]["custom_reward_function"]["reward_kwargs"]
    params = load_params(smoke_run / "params.yaml")
    questions = [q.question for q in read_questions(smoke_run / "01_dataset" / "train.jsonl")[0]]
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(smoke_run / "03_sft" / "model")
    asked = {tokenizer.decode(tokenizer(policy.prompt(tokenizer, text, params)).input_ids, skip_special_tokens=True): text for text in questions}
    rollouts = pd.concat([pd.read_parquet(file) for file in sorted((smoke_run / "05_grpo/completions").glob("*.parquet"))])
    for row in rollouts.itertuples():
        said = verl_score.compute_score("empathy-r1", row.completion, "", {"question": asked[row.prompt]}, **told)
        assert said == {"score": row.format_reward + row.r_answer, "format_reward": row.format_reward, "r_answer": row.r_answer}
    assert rollouts.r_answer.nunique() > 1
