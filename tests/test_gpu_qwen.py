"""SFT, reward model and GRPO through Unsloth on random weights of Qwen3-0.6B's shape, which need no download: training learns,
goes on where it was interrupted, and is exported whole; and the memory plan against what the GPU gave. About 25 GB of disk.

KIT_TINY=1 runs all but the memory on a toy shape, on any machine; 4 bit needs a GPU and bitsandbytes."""

import gc
import importlib.util
import json
import os

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import gpu
from empathy_lib import grpo, memory, policy, reward_model, sft
from empathy_lib.negatives import triplets
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions

TINY, SHAPE = bool(os.environ.get("KIT_TINY")), "Qwen/Qwen3-0.6B"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not (TINY or torch.cuda.is_available()), reason="needs a GPU")]
TOY = {"model_type": "qwen3", "vocab_size": 9000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16,
       "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True, "initializer_range": 0.08}  # logits as large as its
STEPS = {"sft": 12, "reward_model": 48, "grpo": 6}
SAVED = {name: steps // 2 for name, steps in STEPS.items()}  # the first of two checkpoints
CHAINS, ASKED = 24, 24
PARAMS = {"policy.dtype": "auto", "policy.max_seq_length": 512, "policy.lora_rank": 16, "policy.lora_alpha": 32, "sft.epochs": 4,
          "sft.batch_size": 8, "sft.gradient_accumulation": 1, "sft.learning_rate": 2e-3, "sft.save_steps": SAVED["sft"],
          "reward_model.epochs": 16, "reward_model.batch_size": 8, "reward_model.learning_rate": 2e-5,
          "reward_model.save_steps": SAVED["reward_model"], "grpo.max_steps": STEPS["grpo"], "grpo.save_steps": SAVED["grpo"],
          "grpo.batch_size": 8, "grpo.gradient_accumulation": 1, "grpo.learning_rate": 2e-3, "grpo.max_completion_tokens": 64}


class Interrupted(Exception):
    """Stands for whatever ends a session."""


def in_two_sessions(train, saved):
    """What ``train()`` logs that an exception ended right after its first checkpoint, and that is called again."""
    policy.unsloth()
    from transformers import TrainerCallback
    fit, began = policy.fit, []

    class Session(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            began.append(state.global_step)

        def on_save(self, args, state, control, **kwargs):
            if len(began) == 1:
                raise Interrupted

    def watched(trainer, *rest):
        trainer.add_callback(Session())
        return fit(trainer, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "fit", watched)
        with pytest.raises(Interrupted):
            train()
        free()
        log = train()
    free()
    assert began == [0, saved]
    return log


def free():
    gc.collect()
    torch.cuda.empty_cache()


def steps_and_losses(log):
    return zip(*((row["step"], row["loss"]) for row in log if "loss" in row))


def newest(folder):
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def logits(folder, params):
    """Of one model or adapter on the first 64 tokens of a prompt, by the way that the kit loads it."""
    model, tokenizer = policy.load(folder, params)
    ids = torch.tensor([tokenizer(policy.prompt(tokenizer, "最近总是睡不着。", params)).input_ids[:64]], device=model.device)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float().cpu()


def off(a, b):
    return float((a - b).norm() / b.norm())


def check_export(base, folder, params):
    """Each of the adapter's B matrices has moved, and the merged model says what the adapter on its base says. Where training saw
    a base of 4 bit, too, what LoRA has learned is merged into the weights of 16 bit."""
    moved = {name: float(w.abs().max()) for name, w in load_file(newest(folder) / "adapter_model.safetensors").items() if "lora_B" in name}
    assert len(moved) == len(policy.LORA_TARGETS) * memory.shape(params).num_hidden_layers and min(moved.values()) > 0
    whole = params.model_copy(update={"policy": params.policy.model_copy(update={"load_in_4bit": False})})
    merged, adapter, untrained = (logits(path, whole) for path in (folder / "model", newest(folder), base))
    assert off(merged, adapter) < min(0.1, 0.5 * off(untrained, adapter))  # rounding to 16 bit, in 28 layers
    if params.policy.load_in_4bit:  # as it was trained: rounding to 4 bit moves random weights by a tenth
        assert off(merged, logits(newest(folder), params)) < off(untrained, adapter)
    free()


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    if not TINY:
        return SHAPE
    folder = tmp_path_factory.mktemp("toy")
    (folder / "config.json").write_text(json.dumps(TOY))
    return str(folder)


@pytest.fixture(scope="module")
def made(shape, tmp_path_factory):
    """The base, its chains and questions."""
    policy.unsloth()
    folder = tmp_path_factory.mktemp("made")
    gpu.prepare(folder, load_params("params/paper.yaml", PARAMS | {"policy.model": shape}), CHAINS)
    free()
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["16 bit", "4 bit"])
def params(request, shape):
    if request.param and not (torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes")):
        pytest.skip("4 bit needs a GPU and bitsandbytes")
    return load_params("params/paper.yaml", PARAMS | {"policy.model": shape, "policy.load_in_4bit": request.param})


@pytest.fixture(scope="module")
def after_sft(made, params, tmp_path_factory):
    """SFT's folder and log."""
    folder, chains = tmp_path_factory.mktemp("sft"), read_jsonl(made / "chains.jsonl")
    return folder, in_two_sessions(lambda: sft.train(chains, made / "base", folder, params), SAVED["sft"])


def test_sft_learns_goes_on_and_is_exported(made, params, after_sft):
    folder, log = after_sft
    steps, losses = steps_and_losses(log)
    assert list(steps) == list(range(1, STEPS["sft"] + 1))
    assert losses[-1] < losses[0] - 0.3
    check_export(made / "base", folder, params)


def test_grpo_moves_goes_on_and_is_exported(made, params, after_sft, tmp_path):
    """From the merged SFT model. Its loss starts at 0, so that the KL to the start tells whether the policy moves."""
    start, questions = after_sft[0] / "model", read_questions(made / "questions.jsonl")[0][:ASKED]
    log = in_two_sessions(lambda: grpo.train(questions, [], start, [gpu.longer], tmp_path, params), SAVED["grpo"])
    rows = [row for row in log if "reward" in row]
    assert [row["step"] for row in rows] == list(range(1, STEPS["grpo"] + 1))
    assert abs(rows[0]["kl"]) < 1e-3 < rows[-1]["kl"] and all(row["reward_std"] > 0 for row in rows)
    check_export(start, tmp_path, params)


def test_reward_model_learns_goes_on_and_is_exported(shape, made, tmp_path):
    """The base as an encoder, all of its weights trained: float32, because AdamW's steps are lost in 16 bit."""
    from transformers import AutoModel, AutoTokenizer
    params = load_params("params/paper.yaml", PARAMS | {"policy.model": shape, "reward_model.encoder": str(tmp_path / "encoder")})
    for part, kind in ((AutoModel, {"dtype": torch.float32}), (AutoTokenizer, {})):
        part.from_pretrained(made / "base", **kind).save_pretrained(tmp_path / "encoder")
    questions = [q.model_copy(update={"question": q.question[:40], "answers": [a.model_copy(update={"text": a.text[:40]}) for a in q.answers[:1]]})
                 for q in read_questions(made / "questions.jsonl")[0][:ASKED]]
    rows = triplets(questions, {"random": 1}, params.seed)
    log = in_two_sessions(lambda: reward_model.train(rows, rows, tmp_path, params), SAVED["reward_model"])
    steps, losses = steps_and_losses(log)
    looks = [row["eval_loss"] for row in log if "eval_loss" in row]
    assert list(steps) == list(range(1, STEPS["reward_model"] + 1)) and min(looks) < losses[0]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    before, after = (reward_model.rank_pairs(lambda q, a: reward_model.similarity(reward_model.load(tmp_path / name), q, a), rows)
                     for name in ("untrained", "model"))
    assert after["value"] > before["value"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["transformers", "unsloth"])
@pytest.mark.parametrize("task", ["sft", "grpo"])
def test_a_step_takes_what_is_planned(task, backend, tmp_path):
    """With the batches and lengths of params/paper.yaml. The plan is plain Transformers'; Unsloth may need less, not more."""
    overrides = {"policy.model": SHAPE, "policy.backend": backend, "policy.dtype": "auto", "sft.epochs": 1, "grpo.max_steps": 2}
    params = load_params("params/paper.yaml", overrides)
    for work in ("prepare", task):
        said = gpu.in_a_process(work, tmp_path, overrides, 2 * params.sft.batch_size * params.sft.gradient_accumulation)
        assert "error" not in said, said["error"]
    row = memory.plan(params)[("sft", "grpo").index(task)]
    planned = row["total"] if task == "grpo" else row["weights"] + row["optimizer"] + row["activations"]  # SFT generates nothing
    assert said["peak_allocated"] < 1.15 * planned
    assert backend == "unsloth" or said["peak_allocated"] > 0.85 * planned
