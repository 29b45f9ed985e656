"""The short view: whole first sentences of a text, so that a small demo model can learn on a laptop."""

import re

from empathy_lib.coe import LAYERS, CoE
from empathy_lib.blocks import View


def short(text: str, limit: int | None) -> str:
    """The first whole sentences of ``text`` that fit in ``limit`` characters, at least one; None: all of it."""
    text = text.strip()
    if limit is None or len(text) <= limit:
        return text
    taken = ""
    for sentence in re.findall(r"(?:[^。！？!?….\n]|\.(?!\s|$))*(?:[。！？!?…\n]|\.(?=\s|$))*[”」』）)\"]* *", text):
        if taken and len(taken + sentence.rstrip()) > limit:
            break
        taken += sentence
    return taken.strip()


def short_chain(chain: CoE, view: View) -> CoE:
    """The chain with each layer and the answer in the short view."""
    layers = [short(getattr(chain, name), view.layer_chars) for name in LAYERS]
    return CoE(*layers, answer=short(chain.answer, view.answer_chars))
