"""The reward r = r_format + r_answer (arXiv 2509.14851, Eq. 6) as TRL reward functions; r_format is in ``coe``."""

from collections.abc import Callable
from typing import Any

from empathy_lib.coe import answer_of, format_reward, loose_answer, text_of
from empathy_lib.params import Grpo
from empathy_lib.reward_model import similarity


def answer_reward(encoder: Any, threshold: float, gated: bool) -> Callable[..., list[float]]:
    """r_answer in {0, 1}: 1 where cos(question, answer) > T. Any ``<answer>…</answer>`` is judged; gated (which is
    ours), only that of a well-formed chain. No answer is 0. Needs the dataset column ``question``."""
    extract = answer_of if gated else loose_answer

    def r_answer(completions: list[Any], question: list[str], **kwargs: Any) -> list[float]:
        answers = [extract(text_of(completion)) for completion in completions]
        near = similarity(encoder, question, answers)
        return [float(bool(answer) and cosine > threshold) for answer, cosine in zip(answers, near)]

    return r_answer


def reward_functions(encoder: Any, grpo: Grpo) -> list[Callable[..., list[float]]]:
    """The functions whose sum is the reward."""
    return [format_reward, answer_reward(encoder, grpo.threshold, gated=grpo.reward == "gated")]
