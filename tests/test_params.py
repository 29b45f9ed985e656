import operator

import pytest
import yaml

from empathy_lib import ROOT
from empathy_lib.params import ParamsError, load_params
from empathy_lib.show import sources

PROFILES = sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))


def test_profiles_are_there():
    assert {"smoke", "demo", "colab_t4", "kaggle_t4x2", "paper"} <= set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_every_value_is_explicit_typed_and_has_a_source(name):
    params, known = load_params(f"params/{name}.yaml"), sources(f"params/{name}.yaml")
    assert params.run == name
    for block in ("policy", "view", "demo_model", "dataset", "coe", "sft", "reward_model", "grpo", "evaluation", "ranking"):
        for row in params.table(block):
            if row["value"] is None and row["key"] == "demo_model":
                continue
            assert known[row["key"]].startswith(("paper", "borrowed: ", "ours")), f"{row['key']}: {known[row['key']]!r}"
            assert len(row["meaning"]) > 10
    assert "paper" in known["seed"] or "ours" in known["seed"]


def test_the_paper_profile_holds_what_the_paper_states():
    p, source = load_params("params/paper.yaml"), sources("params/paper.yaml")
    stated = {"policy.model": "Qwen/Qwen3-8B", "coe.n_chains": 200, "grpo.num_generations": 4, "grpo.max_steps": 1000,
              "dataset.min_answer_chars": 100, "grpo.reward": "additive", "grpo.scale_rewards": "group", "grpo.format": "strict", "language": "zh",
              "coe.layers": ["L1", "L2", "L3", "L4"], "ranking.n_questions": 100}
    for key, value in stated.items():
        assert operator.attrgetter(key)(p) == value
        assert source[key].startswith("paper"), key
    claimed = {key for key, text in source.items() if text.startswith("paper")}
    assert claimed == set(stated), "a value is called the paper's that the paper does not state"


def test_overrides_nested_and_dotted():
    p = load_params("params/smoke.yaml", {"grpo.max_steps": 20, "sft": {"epochs": 5}, "run": "mine"})
    assert (p.grpo.max_steps, p.sft.epochs, p.run) == (20, 5, "mine")


def test_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_params("params/smoke.yaml").run == "smoke"
    (tmp_path / "params").mkdir()
    text = (ROOT / "params/smoke.yaml").read_text().replace("seed: 42 ", "seed: 7 ")
    (tmp_path / "params/smoke.yaml").write_text(text)
    assert load_params("params/smoke.yaml").seed == 7  # the caller's folder comes first


BAD = [
    ({"grpo.max_step": 3}, ["grpo.max_step'", "grpo.max_steps", "smoke.yaml"]),
    ({"gpro": {"max_steps": 3}}, ["'gpro'", "'grpo'"]),
    ({"sft.epochs": "three"}, ["sft.epochs", "smoke.yaml", "three"]),
    ({"sft.epochs": 2.5}, ["sft.epochs", "2.5"]),
    ({"sft.learning_rate": "5e-6"}, ["sft.learning_rate", "5.0e-6"]),
    ({"sft.learning_rate": True}, ["sft.learning_rate"]),
    ({"grpo.threshold": 1.5}, ["grpo.threshold", "1.5"]),
    ({"grpo.num_generations": 3}, ["grpo.num_generations", "divide"]),
    ({"grpo.num_generations": 1}, ["grpo.num_generations"]),
    ({"grpo.reward": "sum"}, ["grpo.reward", "additive", "gated"]),
    ({"policy.backend": "vllm"}, ["policy.backend", "unsloth", "transformers"]),
    ({"policy.model": "Qwen/Qwen3-8B"}, ["demo_model", "policy.model"]),
    ({"policy.load_in_4bit": True}, ["load_in_4bit", "demo"]),
    ({"policy.lora_rank": -1}, ["policy.lora_rank"]),
    ({"dataset.dev_fraction": 0.6, "dataset.test_fraction": 0.5}, ["test_fraction"]),
    ({"grpo.max_completion_tokens": 4000}, ["max_completion_tokens", "max_seq_length"]),
    ({"grpo.fast_inference": True}, ["grpo.fast_inference", "lora_rank"]),
    ({"coe.layers": ["L2", "L1"]}, ["coe.layers", "order"]),
    ({"coe.layers": ["L1", "L5"]}, ["coe.layers", "L5"]),
    ({"coe.teacher": "openai", "coe.base_url": None}, ["coe.base_url", "openai"]),
    ({"coe.teacher": "local", "coe.model": None}, ["coe.model", "local"]),
    ({"coe.spending_limit": 5.0}, ["coe.spending_limit", "coe.price_prompt"]),
    ({"demo_model.heads": 5}, ["demo_model.heads"]),
    ({"evaluation.systems": ["sft"]}, ["evaluation.systems", "empathy_r1"]),
    ({"run": "../elsewhere"}, ["run"]),
    ({"seed": -1}, ["seed"]),
]


@pytest.mark.parametrize("overrides, says", BAD, ids=[str(o) for o, _ in BAD])
def test_bad_values_are_named(overrides, says):
    with pytest.raises(ParamsError) as error:
        load_params("params/smoke.yaml", overrides)
    for text in says:
        assert text in str(error.value)


def test_missing_value_file_and_broken_yaml(tmp_path):
    tree = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    del tree["grpo"]["beta"]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match="grpo.beta.*missing"):
        load_params(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("grpo: [1, 2")
    with pytest.raises(ParamsError, match="b.yaml"):
        load_params(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("- just\n- a list\n")
    with pytest.raises(ParamsError, match="c.yaml"):
        load_params(tmp_path / "c.yaml")
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_params("params/nowhere.yaml")
