"""GRPO's Eq. 1 and Eq. 2 computed by hand, one unpadded completion at a time, against what TRL's trainer computes on
the same completions: the advantages, the clipped objective with its KL term, and the gradient the optimizer gets."""

import statistics

import pytest
import torch

from empathy_lib import grpo, policy
from test_policy import base, params_of  # noqa: F401 (base is a fixture)

FLAT = "我今天很累，不知道跟谁说。"
QUESTIONS = [FLAT, "陪我坐一会儿"]  # all answers to the first earn the same: a group without spread
FULL = {"grpo.learning_rate": 0.02, "grpo.max_completion_tokens": 30}  # such a step makes the next one clip
LORA = FULL | {"grpo.learning_rate": 0.1, "policy.lora_rank": 4}
OTHER = {"grpo.beta": 0.5, "grpo.temperature": 0.9, "grpo.epsilon": 0.1}
TWO_PASSES = {"grpo.batch_size": 4, "grpo.gradient_accumulation": 2}
CASES = {"full": ("unsloth", FULL), "full, transformers": ("transformers", FULL | OTHER | TWO_PASSES),
         "lora": ("unsloth", LORA | OTHER), "lora, transformers": ("transformers", LORA | TWO_PASSES),
         "advantages not divided": ("transformers", FULL | {"grpo.scale_rewards": "none"})}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is so small that more threads mostly wait for each other
    yield
    torch.set_num_threads(before)


def log_probs(model, prompt, completion, temperature):
    logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1:-1]
    return (logits / temperature).log_softmax(-1)[torch.arange(len(completion)), completion]


def eq_1(rewards, scale):
    """The advantages of one group, by the sample standard deviation, or (an ablation) not divided."""
    return [(r - statistics.mean(rewards)) / (statistics.stdev(rewards) + 1e-4 if scale == "group" else 1) for r in rewards]


def eq_2(new, old, ref, advantage, epsilon, beta):
    """The objective of one completion, from the log-probabilities of its tokens under three policies."""
    ratio, kl = torch.exp(new - old), torch.exp(ref - new) - (ref - new) - 1
    surrogate = torch.min(ratio * advantage, torch.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)
    return (surrogate - beta * kl).mean()


def observed(start, folder, params, **changed):
    """The trainer's values and ours, for each pass of four steps: two on the same completions, two on new ones, whose
    old policy is no longer the reference."""
    model, tokenizer = policy.load(start, params, train=True)
    reference, _ = policy.load(start, params)
    from datasets import Dataset
    from trl import GRPOTrainer
    g, end, records, advantage_of, old_of = params.grpo, tokenizer.eos_token_id, [], {}, {}

    def reward(prompts, completions, completion_ids, question, **_):
        old_of.clear()  # called once for each batch of new completions
        values = [1.0 if q == FLAT else len(set(text)) / 10 for q, text in zip(question, completions)]
        for i in range(0, len(values), g.num_generations):
            group = slice(i, i + g.num_generations)
            assert len(set(prompts[group])) == 1
            advantage_of.update(zip(zip(prompts[group], map(tuple, completion_ids[group])), eq_1(values[group], g.scale_rewards)))
        return values

    class Watched(GRPOTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            loss, rows = super().compute_loss(model, inputs, *args, **kwargs), []
            for prompt, mask, ids in zip(inputs["prompt_ids"], inputs["prompt_mask"], inputs["completion_ids"]):
                prompt, ids = prompt[mask.bool()], ids[:[*ids.tolist(), end].index(end) + 1]  # up to the first end
                key, new = (tokenizer.decode(prompt), tuple(ids.tolist())), log_probs(model, prompt, ids, g.temperature)
                with torch.no_grad():
                    ref = log_probs(reference, prompt, ids, g.temperature)
                rows.append((new, old_of.setdefault(key, new.detach()), ref, advantage_of[key]))
            by_hand = -sum(eq_2(*row, g.epsilon, g.beta) for row in rows) / len(rows)
            self.weights = [w for w in model.parameters() if w.requires_grad]
            records.append({
                "lengths": inputs["completion_mask"].sum(1).tolist(), "lengths_by_hand": [len(row[0]) for row in rows],
                "advantages": inputs["advantages"].tolist(), "advantages_by_hand": [row[3] for row in rows],
                "loss": loss.item() * g.gradient_accumulation, "loss_by_hand": by_hand.item(),
                "unclipped": -sum(eq_2(*row, float("inf"), g.beta).item() for row in rows) / len(rows),
                "kl": -sum(eq_2(*row[:3], 0, 0, 1).item() for row in rows) / len(rows),
                "gradient_by_hand": torch.autograd.grad(by_hand / g.gradient_accumulation, self.weights)})
            return loss

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            records[-1]["gradient"] = [w.grad.clone() for w in self.weights]  # the sum over a step's passes so far
            return loss

    arguments = grpo.arguments(params, folder)
    # A likelier end makes the lengths unequal: it changes which completions are drawn, not what is computed from them.
    vars(arguments).update({"num_iterations": 2, "max_steps": 4, "save_strategy": "no",
                            "generation_kwargs": {"sequence_bias": [[[end], 3.0]]}} | changed)
    rows = [{"prompt": policy.prompt(tokenizer, q, params), "question": q} for q in QUESTIONS]
    Watched(model=model, processing_class=tokenizer, reward_funcs=[reward], args=arguments,
            train_dataset=Dataset.from_list(rows)).train()
    return records


@pytest.mark.parametrize("backend, more", CASES.values(), ids=CASES)
def test_the_trainer_computes_eq_1_and_eq_2(base, tmp_path, backend, more):  # noqa: F811
    params = params_of(backend, **more)
    records, passes = observed(base, tmp_path, params), params.grpo.gradient_accumulation
    assert len(records) == 4 * passes
    for r in records:
        assert r["lengths"] == r["lengths_by_hand"]
        assert r["advantages"] == pytest.approx(r["advantages_by_hand"], abs=1e-4)
        assert r["loss"] == pytest.approx(r["loss_by_hand"], abs=1e-4)
    steps = [records[i:i + passes] for i in range(0, len(records), passes)]
    for step in steps:
        by_hand = [sum(parts) for parts in zip(*(r["gradient_by_hand"] for r in step))]
        largest = max(w.abs().max() for w in by_hand)
        assert len(by_hand) > 10 and largest > 1e-3
        assert all((a - b).abs().max() < 1e-4 * largest for a, b in zip(by_hand, step[-1]["gradient"], strict=True))
    # Every term was at work: spread and none, unequal lengths, clipping only at a second step, a KL from then on.
    advantages, lengths = ({x for r in records for x in r[what]} for what in ("advantages", "lengths"))
    assert 0 in advantages and len(advantages) > 4 and len(lengths) > 4
    clipping = [max(abs(r["loss_by_hand"] - r["unclipped"]) for r in step) for step in steps]
    assert max(clipping[0], clipping[2]) < 1e-6 and max(clipping[1], clipping[3]) > 1e-3
    assert max(r["kl"] for r in steps[0]) < 1e-6 and min(r["kl"] for r in records[passes:]) > 1e-3


@pytest.mark.parametrize("name, value", [("loss_type", "dapo"), ("use_bias_correction_kl", True),  # TRL's defaults
                                         ("scale_rewards", "batch")])
def test_another_loss_would_be_noticed(base, tmp_path, name, value):  # noqa: F811
    last = observed(base, tmp_path, params_of("transformers", **FULL | OTHER), **{name: value})[-1]
    assert abs(last["loss"] - last["loss_by_hand"]) > 1e-3
