"""The memory plan against what PyTorch's profiler saw the real trainers take."""

import json

import pytest
import torch

from empathy_lib import BUNDLED, demo_model, grpo, memory, policy, sft
from empathy_lib.coe import TAGS
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions

SMALL = {"demo_model.vocab_size": 2000, "demo_model.hidden_size": 128, "demo_model.intermediate_size": 384, "demo_model.layers": 4,
         "demo_model.heads": 4, "demo_model.kv_heads": 2, "policy.max_seq_length": 512, "grpo.max_completion_tokens": 256, "view.question_chars": None, "view.answer_chars": None}  # and a vocabulary that outweighs the rest, as in Qwen3


def small(**overrides):
    return load_params("params/smoke.yaml", SMALL | overrides)


def measured(work, tmp_path) -> int:
    """Bytes at the worst moment of ``work``, beyond those at its beginning."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    seen = [event["args"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if event.get("name") == "[memory]"]
    return max(event["Total Allocated"] for event in seen) - seen[0]["Total Allocated"] + seen[0]["Bytes"]


@pytest.mark.parametrize("overrides", [{}, {"policy.lora_rank": 8}, {"policy.lora_rank": 8, "policy.gradient_checkpointing": True},
                                       {"policy.gradient_checkpointing": True}], ids=["full", "lora", "lora again", "full again"])
@pytest.mark.parametrize("completion", [None, 100])
def test_a_step_is_what_it_takes(overrides, completion, tmp_path):
    """The same model with data, and Transformers' own attention."""
    params = small(**overrides)
    planned, real = memory.step(memory.new_model(params), 3, 200, completion), memory.new_model(params, "cpu")
    memory.step(real, 3, 200, completion)  # what a first call prepares
    assert planned == pytest.approx(measured(lambda: memory.step(real, 3, 200, completion), tmp_path), rel=0.02)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Random weights of the small shape, with the demo's tokenizer."""
    folder, params = tmp_path_factory.mktemp("base"), small()
    questions, _ = read_questions(BUNDLED / "questions.jsonl")
    tokenizer = demo_model.tokenizer([q.question for q in questions], 2000 - len(TAGS))
    memory.new_model(params, "cpu").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("rank", [0, 8])
def test_sft_by_trl_takes_what_is_planned(base, rank, tmp_path):
    """Chains longer than max_seq_length, so that every batch is full."""
    params = small(**{"policy.lora_rank": rank, "sft.epochs": 1, "sft.batch_size": 4, "view.question_chars": 60})
    questions = {q.question_id: q.question for q in read_questions(BUNDLED / "questions.jsonl")[0]}
    chains = [{"question": questions[c["question_id"]]} | c for c in read_jsonl(BUNDLED / "coe.jsonl")[:12]]
    taken = measured(lambda: sft.train(chains, base, tmp_path / "sft", params), tmp_path)
    planned = memory.plan(params)[0]
    assert taken == pytest.approx(planned["weights"] + planned["optimizer"] + planned["activations"], rel=0.15)


@pytest.mark.parametrize("rank", [0, 8])
def test_grpo_by_trl_takes_what_is_planned(base, rank, tmp_path):
    from transformers import AutoTokenizer
    params = small(**{"policy.lora_rank": rank, "grpo.max_steps": 2, "grpo.batch_size": 8, "grpo.gradient_accumulation": 1})
    asked, tokenizer = read_questions(BUNDLED / "questions.jsonl")[0][0], AutoTokenizer.from_pretrained(base)
    room = params.policy.max_seq_length - params.grpo.max_completion_tokens
    lengths = [n for n in range(len(asked.question)) if len(tokenizer(policy.prompt(tokenizer, asked.question[:n], params)).input_ids) <= room]
    questions = [asked.model_copy(update={"question": asked.question[:lengths[-1]]})] * 8  # prompts that leave no room
    taken = measured(lambda: grpo.train(questions, [], base, [longer], tmp_path / "grpo", params), tmp_path)
    assert taken == pytest.approx(memory.plan(params)[1]["total"], rel=0.15)


def longer(completions, **kwargs):
    return [float(len(text)) for text in completions]


@pytest.mark.slow
def test_what_does_not_fit_is_mended_in_the_order_of_its_cost():
    paper, gib = load_params("params/paper.yaml"), 2**30
    assert memory.advice(paper, 79 * gib) == {}
    less = memory.advice(paper, 40 * gib)
    assert less["grpo.batch_size"] * less["grpo.gradient_accumulation"] == paper.grpo.batch_size * paper.grpo.gradient_accumulation
    assert "policy.load_in_4bit" not in less and memory.peak(load_params("params/paper.yaml", less)) + memory.RESERVED <= 40 * gib
    smaller = memory.advice(paper, 14.7 * gib)
    assert smaller["policy.load_in_4bit"] and smaller["policy.model"] != paper.policy.model
    assert memory.advice(small(), memory.RESERVED + 1) is None


@pytest.mark.parametrize("name, total, without_embedding", [("0.6B", 0.6, 0.44), ("1.7B", 1.7, 1.4), ("4B", 4.0, 3.6), ("8B", 8.2, 6.95), ("14B", 14.8, 13.2)])
def test_a_bundled_shape_has_as_many_weights_as_its_card_says(name, total, without_embedding):
    model = memory.new_model(load_params("params/paper.yaml", {"policy.model": f"Qwen/Qwen3-{name}", "policy.lora_rank": 0}))
    sizes = {key: w.numel() / 1e9 for key, w in model.named_parameters()}
    flat = sum(size for key, size in sizes.items() if "embed_tokens" not in key and "lm_head" not in key)
    assert sum(sizes.values()) == pytest.approx(total, rel=0.03) and flat == pytest.approx(without_embedding, rel=0.03)


@pytest.mark.parametrize("profile", ["colab_t4", "kaggle_t4x2"])
def test_a_profile_fits_its_gpu(profile):
    assert memory.advice(load_params(f"params/{profile}.yaml"), 14.7 * 2**30) == {}  # what a T4 of 16 GB offers
