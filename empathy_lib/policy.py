"""The language model: prompt it, load it, sample from it, save it. One code path on CPU and GPU.

``policy.backend: unsloth`` loads through Unsloth's ``FastLanguageModel`` (which also has a CPU backend);
``transformers`` is plain Transformers + PEFT, for machines where Unsloth does not import.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import BUNDLED
from empathy_lib.params import Params
from empathy_lib.view import short

SYSTEM = (BUNDLED / "prompts" / "policy_zh.txt").read_text(encoding="utf-8").strip()
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def unsloth() -> Any:
    """Import Unsloth's FastLanguageModel, before trl and transformers as it asks.

    Raises:
        ImportError: with the two ways out.
    """
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    try:
        from unsloth import FastLanguageModel
    except (ImportError, NotImplementedError) as error:
        raise ImportError(f"Unsloth cannot be imported here ({error}). Install it as README says, or set "
                          "policy.backend: transformers in the params file.") from error
    return FastLanguageModel


def base(params: Params, run_folder: Path) -> str | Path:
    """The untrained policy: the demo model of the run, or the named one."""
    return run_folder / "03_sft" / "base" if params.policy.model == "demo" else params.policy.model


def dtype(params: Params) -> Any:
    """The torch dtype of ``policy.dtype``; ``auto`` is bfloat16 or float16 by what the GPU has, float32 on a CPU."""
    import torch

    name = params.policy.dtype
    if name == "auto":
        name = "float32" if not torch.cuda.is_available() else \
            "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return getattr(torch, name)


def prompt(tokenizer: Any, question: str, params: Params) -> str:
    """The text the model continues: instruction and question in the chat template, thinking switched off.

    Qwen3's template then closes an empty ``<think>`` block inside the prompt, so that none leaks into completions.
    """
    messages = [{"role": "system", "content": SYSTEM},
                {"role": "user", "content": short(question, params.view.question_chars)}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def fits(tokenizer: Any, text: str, params: Params) -> bool:
    """Whether a prompt leaves room for a whole GRPO completion."""
    return len(tokenizer(text).input_ids) + params.grpo.max_completion_tokens <= params.policy.max_seq_length


def load(name: str | Path, params: Params, train: bool = False) -> tuple[Any, Any]:
    """Load model and tokenizer from a folder or hub name.

    With ``train`` and ``policy.lora_rank`` > 0 the model gets fresh LoRA adapters (so it starts as the loaded one).
    """
    p, full = params.policy, params.policy.lora_rank == 0
    lora = dict(r=p.lora_rank, lora_alpha=p.lora_alpha, lora_dropout=0.0, bias="none", target_modules=LORA_TARGETS)
    if p.backend == "unsloth":
        fast = unsloth()
        model, tokenizer = fast.from_pretrained(
            str(name), max_seq_length=p.max_seq_length, dtype=dtype(params), load_in_4bit=p.load_in_4bit,
            full_finetuning=train and full)
        if train and not full:
            model = fast.get_peft_model(model, **lora, random_state=params.seed, use_gradient_checkpointing=(
                "unsloth" if p.gradient_checkpointing else False))
        if not train:
            fast.for_inference(model)
    else:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed

        quantise = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                      bnb_4bit_compute_dtype=dtype(params)) if p.load_in_4bit else None
        tokenizer = AutoTokenizer.from_pretrained(str(name))
        model = AutoModelForCausalLM.from_pretrained(
            str(name), dtype=dtype(params), quantization_config=quantise,
            device_map={"": 0} if torch.cuda.is_available() else None)
        if train and not full:
            set_seed(params.seed)
            model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    tokenizer.padding_side = "left"
    return model, tokenizer


def save(model: Any, tokenizer: Any, folder: Path, params: Params) -> None:
    """Save the whole model as safetensors, LoRA merged into the weights, so that any stage can load it alone."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
    elif params.policy.backend == "unsloth":
        model.save_pretrained_merged(str(folder), tokenizer, save_method="merged_16bit")
    else:
        model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], *, temperature: float, max_new_tokens: int,
             batch_size: int, seed: int, what: str = "generate") -> list[str]:
    """Sample one completion for each prompt (text after the prompt, special tokens removed).

    Seeded batch by batch, so that the same prompts, batch size and seed give the same completions.
    """
    import torch
    from tqdm.auto import tqdm
    from transformers import set_seed

    model.eval()
    completions = []
    for start in tqdm(range(0, len(prompts), batch_size), desc=what, unit="batch"):
        set_seed(seed + start)
        batch = tokenizer(list(prompts[start:start + batch_size]), return_tensors="pt", padding=True,
                          padding_side="left").to(model.device)
        with torch.inference_mode():
            out = model.generate(**batch, do_sample=True, temperature=temperature, top_k=0, top_p=1.0,
                                 max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id)
        completions += tokenizer.batch_decode(out[:, batch.input_ids.shape[1]:], skip_special_tokens=True)
    return completions


def trainer_arguments(params: Params, folder: Path, save_steps: int) -> dict[str, Any]:
    """What every trainer of the kit shares: where it writes, its seed, its number format, its checkpoints."""
    import torch

    kind = dtype(params)
    return dict(output_dir=str(folder), seed=params.seed, data_seed=params.seed, report_to="none", logging_steps=1,
                save_strategy="steps", save_steps=save_steps, save_total_limit=2, bf16=kind == torch.bfloat16,
                fp16=kind == torch.float16)


def history(trainer: Any) -> list[dict[str, Any]]:
    """A trainer's log, one dict a step, without times and totals, which differ when a run was interrupted."""
    dropped = ("runtime", "per_second", "time", "flos", "num_input_tokens")
    return [{k: v for k, v in row.items() if not any(d in k for d in dropped)}
            for row in trainer.state.log_history if "train_loss" not in row]
