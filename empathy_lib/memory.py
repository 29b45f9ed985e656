"""How much memory a profile needs, before anything is downloaded: the model's own code runs one training step on tensors that
have a shape and no data (torch's meta device), and the bytes alive at its worst moment are counted. What cannot be run so is
added by formula: 4-bit weights, optimizer, KV cache."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import BUNDLED, policy
from empathy_lib.params import Params

ALL_QWEN3 = {"vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960}
NF4 = 0.5 + 4 / 64  # bytes a weight: 4 bits, and one float32 for each block of 64 (bitsandbytes, not quantised again)
RESERVED = 1.0 * 2**30  # assumed: CUDA's context, cuBLAS's workspace, what the allocator loses


def shape(params: Params) -> Any:
    """The transformers configuration of ``policy.model``: bundled for Qwen3's dense models, the demo's own, or read from its
    folder (from the hub, some kB, for any other name)."""
    from transformers import AutoConfig, Qwen3Config
    known, d = OmegaConf.to_container(OmegaConf.load(BUNDLED / "qwen3.yaml")), params.demo_model
    if d:
        return Qwen3Config(vocab_size=d.vocab_size, hidden_size=d.hidden_size, intermediate_size=d.intermediate_size,
                           num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
                           head_dim=d.hidden_size // d.heads, tie_word_embeddings=True)
    if params.policy.model in known:
        return Qwen3Config(**ALL_QWEN3, **known[params.policy.model])
    return AutoConfig.from_pretrained(params.policy.model)


def counting(known: Iterable[Any]) -> Any:
    """A context in which the bytes of all tensors that are made, those of the ``known`` ones not, are counted: ``.now``, and
    ``.peak``, the most at once. (torch's own MemTracker stops at frozen weights, and LoRA freezes them.)"""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):
        now = peak = 0

        def __init__(self) -> None:
            super().__init__()
            self.seen = {t.untyped_storage()._cdata for t in known}

        def freed(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.now -= size

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    key, size = storage._cdata, storage.nbytes()
                    if key not in self.seen:
                        self.seen.add(key)
                        weakref.finalize(storage, self.freed, key, size)
                        self.now += size
                        self.peak = max(self.peak, self.now)
            return made

    return Counting()


def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> tuple[Any, None]:
    """Flash attention with a mask, as padded batches need it: on the meta device PyTorch would take the N × N form."""
    import torch
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask.to(query.dtype))[0]
    return out.transpose(1, 2).contiguous(), None


def new_model(params: Params, device: str = "meta") -> Any:
    """The policy with random weights, on the meta device without any data, in the number format of training, with its adapters
    where there are any."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AttentionInterface, AutoModelForCausalLM
    AttentionInterface.register("planned", attention)
    p = params.policy
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape(params), dtype=number_format(params),
                                                 attn_implementation="planned" if device == "meta" else "sdpa")
        if p.lora_rank:  # in the model's format: on a GPU autocast sees to that
            model = get_peft_model(model, LoraConfig(r=p.lora_rank, lora_alpha=p.lora_alpha, target_modules=policy.LORA_TARGETS),
                                   autocast_adapter_dtype=False)
    if p.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        if p.lora_rank:
            model.enable_input_require_grads()
    return model.train()


def number_format(params: Params) -> Any:
    """The torch dtype of training; ``auto`` is planned as 16 bit, but for the demo model, which knows no GPU."""
    import torch
    p = params.policy
    return policy.dtype(params) if p.model == "demo" else torch.bfloat16 if p.dtype == "auto" else getattr(torch, p.dtype)


def step(model: Any, batch: int, length: int, completion: int | None = None) -> int:
    """Bytes at the worst moment of one forward and backward pass over ``batch`` texts of ``length`` tokens, beyond the weights:
    activations, gradients, and the logits that TRL's losses hold at once. The loss is SFT's, over all tokens, or, given how
    many tokens of each text are its ``completion``, GRPO's log-probabilities of those."""
    import torch
    from torch.utils.checkpoint import checkpoint
    from trl.trainer import sft_trainer
    from trl.trainer.utils import selective_log_softmax
    ids = torch.zeros(batch, length, dtype=torch.long, device=model.device)
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    with counting(model.parameters()) as counted:
        mask = torch.ones(batch, 1, length, length, dtype=torch.bool, device=model.device)
        told = {"input_ids": ids, "attention_mask": {"full_attention": mask}, "use_cache": False}
        if completion is None:
            hidden, head = causal.model(**told).last_hidden_state, causal.get_output_embeddings().weight
            parts = zip(*(part.split(sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE) for part in (hidden.flatten(0, 1), ids.flatten())))
            loss = sum(checkpoint(sft_trainer._chunk, part, head, None, labels, 1.0, None, use_reentrant=False)[0] for part, labels in parts)
        else:
            logits = causal(**told, logits_to_keep=completion + 1).logits[:, :-1]
            loss = selective_log_softmax(logits / 1.0, ids[:, -completion:]).sum()
        loss.backward()
    model.zero_grad()
    return counted.peak


def plan(params: Params) -> list[dict[str, Any]]:
    """A row a stage with its parts in bytes: ``weights``, ``optimizer`` (of LoRA, with the adapters themselves),
    ``activations`` (and gradients), ``KV cache``, ``total``. Training and generation do not happen at the same time."""
    p, s, g, e, model = params.policy, params.sft, params.grpo, params.evaluation, new_model(params)
    config, size = model.config, number_format(params).itemsize
    adapters = sum(w.numel() for w in model.parameters() if w.requires_grad) if p.lora_rank else 0
    whole = sum(w.numel() for w in model.parameters()) - adapters
    flat = sum(w.numel() for n, w in model.named_parameters() if any(t in n for t in policy.LORA_TARGETS) and "lora" not in n)
    weights = (whole - flat) * size + flat * (NF4 if p.load_in_4bit else size)
    optimizer = 16 * adapters if p.lora_rank else 2 * size * whole  # float32: weight, gradient, two moments; or two moments
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size  # key and value

    def row(stage: str, training: int, texts: int, length: int) -> dict[str, Any]:
        cache = texts * length * a_token + 4 * texts * config.vocab_size  # and the last token's logits
        trained = optimizer if training else 0
        return {"stage": stage, "weights": weights, "optimizer": trained, "activations": training, "KV cache": cache,
                "total": weights + trained + max(training, cache)}

    longest, rollouts = p.max_seq_length, g.batch_size * g.gradient_accumulation
    return [row("03_sft", step(model, s.batch_size, longest) if s.epochs else 0, e.batch_size, longest),
            row("05_grpo", step(model, g.batch_size, longest, g.max_completion_tokens) if g.max_steps else 0, rollouts, longest),
            row("06_evaluation", 0, e.batch_size, longest)]


def peak(params: Params) -> int:
    """Bytes that the hungriest stage needs."""
    return max(row["total"] for row in plan(params))


def advice(params: Params, available: float) -> dict[str, Any] | None:
    """Overrides by which the profile fits into ``available`` bytes (of which some are RESERVED), tried in the order of what
    they cost; empty where it fits as it is, None where nothing here helps."""
    tried: dict[str, Any] = {}
    for change in changes(params):
        tried |= change
        changed = params.model_copy(update={block: getattr(params, block).model_copy(update={
            key.partition(".")[2]: value for key, value in tried.items() if key.startswith(block + ".")}) for block in ("policy", "sft", "grpo")})
        if peak(changed) + RESERVED <= available:
            return tried
    return None


def changes(params: Params) -> Iterator[dict[str, Any]]:
    """What can be given up, one after the other: time, then the batch (its updates stay the same), then bits, then size."""
    p, s, g = params.policy, params.sft, params.grpo
    yield {}
    if not p.gradient_checkpointing:
        yield {"policy.gradient_checkpointing": True}
    for part in (2, 4, 8, 16):
        if max(s.batch_size, g.batch_size) >= part:
            yield {f"{name}.{key}": value for name, block in (("sft", s), ("grpo", g)) if block.batch_size % part == 0
                   for key, value in (("batch_size", block.batch_size // part), ("gradient_accumulation", block.gradient_accumulation * part))}
    if not p.load_in_4bit and p.lora_rank:
        yield {"policy.load_in_4bit": True}
    names = list(OmegaConf.load(BUNDLED / "qwen3.yaml"))
    for name in reversed(names[:names.index(p.model)] if p.model in names else []):
        yield {"policy.model": name}
