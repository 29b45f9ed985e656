"""In an environment with verl: does it compose our configuration, read our parquet through its own data set, and score real
rows as TRL does? ``python with_verl.py <folder of the export>``; see ``make check-exports``."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensordict import TensorDict
from transformers import AutoTokenizer
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.config import validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset

folder = Path(sys.argv[1]).resolve()
expected = json.loads((folder / "expected.json").read_text("utf-8"))

with initialize_config_dir(str(folder), version_base=None):
    config = compose("grpo", overrides=[f"here={folder}", "trainer.nnodes=2", "trainer.n_gpus_per_node=8"])
OmegaConf.resolve(config)
own = OmegaConf.merge(OmegaConf.load(folder / "grpo.yaml"), {"here": str(folder)})
OmegaConf.resolve(own)
for key in ("data", "algorithm", "actor_rollout_ref", "reward", "trainer"):
    assert OmegaConf.merge(config[key], own[key], {"nnodes": 2, "n_gpus_per_node": 8} if key == "trainer" else {}) == config[key], key
for gpus in (1, 2, 8):
    config.trainer.nnodes, config.trainer.n_gpus_per_node = 1, gpus
    validate_config(config, use_reference_policy=True, use_critic=False)
print("the whole configuration composes and is valid on 1, 2 and 8 GPUs")

tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
for file, name in ((config.data.train_files, "train"), (config.data.val_files, "dev")):
    rows = RLHFDataset([file], tokenizer, config.data)
    kept = [one for one in expected[name] if len(tokenizer(one["prompt"]).input_ids) <= config.data.max_prompt_length]
    assert len(rows) == len(kept) > 0, (name, len(rows), len(kept))
    for row, one in zip((rows[i] for i in range(len(rows))), kept):
        told = tokenizer.apply_chat_template(row["raw_prompt"], tokenize=False, add_generation_prompt=True,
                                             **config.data.apply_chat_template_kwargs)
        assert told == one["prompt"]
        assert row["extra_info"]["question_id"] == one["question_id"]
    print(f"{name}: {len(rows)} prompts are TRL's")

manager = load_reward_manager(config, tokenizer)
rows = RLHFDataset([config.data.train_files], tokenizer, config.data)
by_id = {rows[i]["extra_info"]["question_id"]: rows[i] for i in range(len(rows))}


async def score(question_id: str, completion: str) -> dict:
    ids = torch.tensor([tokenizer(completion, add_special_tokens=False).input_ids])
    row = by_id[question_id]
    other = {key: np.array([row[key]], dtype=object) for key in ("data_source", "reward_model", "extra_info")}
    batch = TensorDict({"responses": ids, "attention_mask": torch.ones_like(ids)}, batch_size=1)
    return await manager.run_single(DataProto(batch=batch, non_tensor_batch=other))


async def all_scores() -> list[dict]:
    return [await score(one["question_id"], one["completion"]) for one in expected["scores"]]


found = manager.loop.run_until_complete(all_scores())
for said, one in zip(found, expected["scores"]):
    assert said["reward_score"] == one["r"], (said, one)
    assert {name: said["reward_extra_info"][name] for name in one["parts"]} == one["parts"]
print(f"{len(found)} completions have TRL's rewards, {sum(one['r'] > 0 for one in expected['scores'])} of them above 0")

r = torch.tensor([[one["r"]] for one in expected["scores"]])
group = config.actor_rollout_ref.rollout.n
advantages, _ = compute_grpo_outcome_advantage(r.clone(), torch.ones_like(r), np.arange(len(r)) // group,
                                               norm_adv_by_std_in_grpo=config.algorithm.norm_adv_by_std_in_grpo)
theirs, ours = advantages.ravel().numpy(), np.array([one["advantage"] for one in expected["scores"]])
spread = np.repeat(r.reshape(-1, group).std(1).numpy() > 0, group)
print(f"Eq. 1: the largest difference to TRL's advantages is {abs(theirs - ours)[spread].max():.1e} ({spread.sum()} in groups with spread)")
assert np.allclose(theirs, ours, atol=1e-3)
