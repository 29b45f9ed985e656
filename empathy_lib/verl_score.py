"""The reward for verl: ``compute_score`` as its reward loop calls it, once an answer, made of the functions that TRL gets."""

from functools import cache
from pathlib import Path
from typing import Any

from empathy_lib import rewards
from empathy_lib.params import load_params
from empathy_lib.reward_model import load


@cache
def functions(params: str, encoder: str, threshold: float) -> list[rewards.Reward]:
    """The reward functions of a params file, an encoder's folder and T; loaded once a process."""
    return rewards.reward_functions(load(Path(encoder)), threshold, load_params(params))


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, *,
                  params: str, encoder: str, threshold: float, **kwargs: Any) -> dict[str, float]:
    """r of Eq. 6 as ``score``, and its parts by name. ``extra_info`` must have the ``question``."""
    parts = {reward.__name__: reward([solution_str], question=[extra_info["question"]])[0]
             for reward in functions(params, encoder, threshold)}
    return {"score": sum(parts.values()), **parts}
