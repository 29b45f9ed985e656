"""The demo base: a small Qwen3 and its tokenizer, trained in the run from the run's own training text.

It stands in for Qwen3-8B where no weights can be downloaded. Dev and test texts are never seen. It is called a demo
model everywhere, and nothing it says is advice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.coe import TAGS
from empathy_lib.params import Params
from empathy_lib.run import building, checkpoint
from empathy_lib.view import short

END, PAD = "<|im_end|>", "<|endoftext|>"


def tokenizer(texts: Sequence[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer like Qwen3's, learned from ``texts``, with TRL's Qwen3 chat template.

    Unlike Qwen3's, it has each of the twelve tags as one token: a small model learns the format sooner.
    """
    import trl
    from tokenizers import AddedToken, ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, show_progress=False,
                            special_tokens=[PAD, "<|im_start|>", END])
    result = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END, pad_token=PAD,
                                     padding_side="left", clean_up_tokenization_spaces=False)
    result.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    template = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
    result.chat_template = template.read_text(encoding="utf-8")
    return result


def build(pairs: Sequence[tuple[str, str]], texts: Sequence[str], folder: Path, params: Params) -> dict[str, Any]:
    """Train the demo base on (question, plain answer) pairs and save it to ``folder``; skip what is there already.

    Args:
        pairs: the training split's questions and answers, before the short view.
        texts: what the tokenizer may learn from besides (the training chains).

    Returns:
        ``{"parameters", "vocabulary", "final_loss"}``.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, set_seed
    from trl import SFTConfig, SFTTrainer

    d, p, work = params.demo_model, params.policy, folder.with_name(folder.name + "_training")
    start = work / "start"
    if not start.exists():
        with building(start) as target:
            tok = tokenizer([t for pair in pairs for t in pair] + list(texts), d.vocab_size)
            config = Qwen3Config(
                vocab_size=len(tok), hidden_size=d.hidden_size, intermediate_size=d.intermediate_size,
                num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
                head_dim=d.hidden_size // d.heads, max_position_embeddings=p.max_seq_length,
                tie_word_embeddings=True, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
            set_seed(params.seed)
            Qwen3ForCausalLM(config).save_pretrained(target)
            tok.save_pretrained(target)
    full = params.model_copy(update={"policy": p.model_copy(update={"lora_rank": 0})})
    model, tok = policy.load(start, full, train=True)
    rows = [{"prompt": policy.prompt(tok, q, params), "completion": short(a, params.view.answer_chars) + END}
            for q, a in pairs]
    trainer = SFTTrainer(
        model=model, processing_class=tok, train_dataset=Dataset.from_list(rows),
        args=SFTConfig(**policy.trainer_arguments(params, work, save_steps=200), num_train_epochs=d.epochs,
                       per_device_train_batch_size=d.batch_size, learning_rate=d.learning_rate,
                       lr_scheduler_type="cosine", completion_only_loss=False, max_length=p.max_seq_length))
    trainer.train(resume_from_checkpoint=checkpoint(work))
    if not folder.exists():
        with building(folder) as target:
            policy.save(trainer.model, tok, target, full)
    return {"parameters": model.num_parameters(), "vocabulary": len(tok),
            "final_loss": policy.history(trainer)[-1]["loss"]}
