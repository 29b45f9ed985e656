"""Both backends on a small Qwen3, and the prompt that keeps <think> out of completions."""

import os
import subprocess
import sys

import pytest
import torch

from empathy_lib import policy, prompts, sft
from empathy_lib.demo_model import tokenizer as demo_tokenizer
from empathy_lib.coe import TAGS, render
from empathy_lib.params import load_params


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small random Qwen3 with a tokenizer trained on a few sentences."""
    policy.unsloth()
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("base")
    tok = demo_tokenizer(["我今天很累，不知道跟谁说。", "听你说累，我也想陪你坐一会儿。"] * 5, 400)
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                 num_attention_heads=2, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
                                 eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def params_of(backend, rank=0, **more):
    return load_params("params/smoke.yaml", {"policy.backend": backend, "policy.lora_rank": rank} | more)


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
def test_load_train_step_save_reload(base, tmp_path, backend, rank):
    p = params_of(backend, rank)
    model, tok = policy.load(base, p, train=True)
    batch = {"input_ids": torch.arange(5, 25)[None]}
    plain, _ = policy.load(base, p)
    assert torch.equal(model(**batch).logits, plain(**batch).logits)  # fresh adapters change nothing
    trainable = [q for q in model.parameters() if q.requires_grad]
    assert hasattr(model, "peft_config") == bool(rank)
    assert sum(q.numel() for q in trainable) < sum(q.numel() for q in plain.parameters()) or not rank
    for _ in range(2):  # the second step also reaches LoRA's A, whose gradient is 0 while B is
        model(**batch, labels=batch["input_ids"]).loss.backward()
        with torch.no_grad():
            for q in trainable:
                if q.grad is not None:
                    q -= 0.5 * q.grad
                    q.grad = None
    model.eval()
    trained = model(**batch).logits
    assert not torch.allclose(trained, plain(**batch).logits, atol=1e-3)
    policy.save(model, tok, tmp_path / "model", p)
    assert not list((tmp_path / "model").glob("*.bin"))
    again, tok2 = policy.load(tmp_path / "model", p)
    assert not hasattr(again, "peft_config") and tok2.chat_template == tok.chat_template
    assert torch.allclose(again(**batch).logits, trained, atol=0.05)  # merged weights are stored in 16 bit


@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
def test_generation_is_seeded_and_batched(base, backend):
    p = params_of(backend)
    model, tok = policy.load(base, p)
    prompts = [policy.prompt(tok, q, p) for q in ("累", "我今天很累，不知道跟谁说。", "陪我坐一会儿")]
    settings = dict(temperature=1.0, max_new_tokens=12, batch_size=2)
    first = policy.generate(model, tok, prompts, seed=1, **settings)
    assert first == policy.generate(model, tok, prompts, seed=1, **settings)
    assert first != policy.generate(model, tok, prompts, seed=2, **settings)
    assert len(first) == 3 and not any("<|im_start|>" in text for text in first)


def test_backends_agree(base):
    one, two = (policy.load(base, params_of(b))[0] for b in ("unsloth", "transformers"))
    ids = torch.arange(5, 25)[None]
    assert torch.allclose(one(ids).logits, two(ids).logits, atol=1e-5)


def test_thinking_is_closed_in_the_prompt(base, chain):
    p = params_of("transformers")
    _, tok = policy.load(base, p)
    text = policy.prompt(tok, "我今天很累。后面的话很长很长很长很长很长很长很长很长很长很长很长很长很长很长很长很长", p)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n") and text.count("<think>") == 1
    assert prompts.policy("zh", p.coe.layers) in text and "我今天很累。" in text and "后面的话" not in text  # the short view
    row = sft.rows([{"question": "累", **vars(chain)}], tok, p)[0]
    assert "<think>" not in row["completion"] and row["completion"].endswith(tok.eos_token)


def test_tags_survive_decoding_and_are_one_token_each(base, chain):
    _, tok = policy.load(base, params_of("transformers"))
    text = render(chain)
    ids = tok(text).input_ids
    assert tok.decode(ids, skip_special_tokens=True) == text
    assert all(len(tok(tag).input_ids) == 1 for tag in TAGS)
    assert tok.decode(tok("罕见字：龘").input_ids) == "罕见字：龘"


def test_unsloth_missing_is_an_error_that_names_the_way_out():
    code = ("import sys; sys.modules['unsloth'] = None\n"
            "from empathy_lib import policy; from empathy_lib.params import load_params\n"
            "policy.load('x', load_params('params/smoke.yaml'))")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: Unsloth cannot be imported here" in result.stderr and "policy.backend: transformers" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_vllm_without_a_gpu_is_an_error_that_names_the_key(base):
    with pytest.raises(ValueError, match="grpo.fast_inference: there is no GPU"):
        policy.load(base, params_of("unsloth", 4), train=True, vllm=True)


@pytest.mark.parametrize("before, after", [({}, "0"), ({"CUDA_VISIBLE_DEVICES": "3"}, "3"), ({"LOCAL_RANK": "1"}, "None")])
def test_a_process_keeps_to_one_gpu(before, after):
    code = ("import os; from empathy_lib import policy; from empathy_lib.params import load_params\n"
            "policy.import_backend(load_params('params/smoke.yaml', {'policy.backend': 'transformers'}))\nprint(os.environ.get('CUDA_VISIBLE_DEVICES'))")
    clean = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK")}
    assert subprocess.run([sys.executable, "-c", code], env=clean | before, capture_output=True, text=True).stdout.split() == [after]
