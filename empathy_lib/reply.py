"""One question, one reply behind the safety screen: who writes of a crisis gets help and no generated word; who writes of
something near it gets both; a reply that says something unsafe is held back before it is seen."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import BUNDLED, evaluation, guard, policy
from empathy_lib.coe import FIELDS, CoE, CoEFormatError, parse
from empathy_lib.params import Params
from empathy_lib.resources import Place, help_for
from empathy_lib.run import Run, StageMissing
from empathy_lib.safety import screen

LOCALES = {"zh": "zh-CN", "en": "default"}
LONGEST = 8_000  # characters of a question
_END = re.compile(r"[。！？!?…\n>]+[”」』）)]*|\.\s")  # of a sentence, or of a part
_BUSY = Lock()  # one model answers one question at a time, so that a seed gives the same reply


@dataclass(frozen=True)
class Reply:
    """What a person is shown, now and as it grows. ``level`` and ``reasons`` are of the question. ``text`` is the completion as
    far as it was read and found safe; ``chain`` is there once it is whole and well-formed, else ``problem`` says what is wrong
    with it. ``faults``: why a reply was held back. ``message`` and ``place`` stand in its place, or (the latter) beside it."""
    level: str
    reasons: list[str] = field(default_factory=list)
    text: str = ""
    chain: CoE | None = None
    problem: str = ""
    faults: list[str] = field(default_factory=list)
    message: str = ""
    place: Place | None = None
    done: bool = False

    def part(self, name: str) -> str:
        """A layer or the answer, as far as it is there; of text without any tags, the answer is the text."""
        if self.chain:
            return getattr(self.chain, name)
        found = re.search(rf"<{name}>(.*?)(?:<|$)", self.text, re.DOTALL)
        if name == "answer" and not any(f"<{tag}>" in self.text for tag in (*FIELDS, "empathy_think")):
            return self.text.strip()
        return found[1].strip() if found else ""


def systems(run: Run) -> list[str]:
    """The systems of a run that can answer. StageMissing where there is none."""
    there = [name for name, model in evaluation.systems(run.params, run.dir).items()
             if (Path(model) / "config.json").exists() or run.params.policy.model != "demo" and model == run.params.policy.model]
    if not there:
        raise StageMissing(f"{run.dir} holds no trained model yet: run the notebooks from 01 to 03 (05 for empathy_r1) with the same params first")
    return there


def generate_reply(question: str, run: Run, system: str = "empathy_r1", locale: str | None = None,
                   temperature: float | None = None, seed: int | None = None) -> Reply:
    """The whole reply of one of the run's systems (``evaluation.SYSTEMS``): chain, safety, help. ``locale`` names the place that help
    is for (``resources``), of the run's language where None; temperature and seed are the run's where None.

    ValueError for an empty or too long question, an unknown locale or system; StageMissing where the system is not trained."""
    *_, last = stream_reply(question, run, system, locale, temperature, seed)
    return last


def stream_reply(question: str, run: Run, system: str = "empathy_r1", locale: str | None = None, temperature: float | None = None,
                 seed: int | None = None) -> Iterator[Reply]:
    """``generate_reply`` as it grows, a sentence at a time, each one screened before it is given out. Closing it stops the model."""
    place, said, told = help_for(locale or LOCALES[run.params.language]), screen(question[:10 * LONGEST]), messages(spoken(question))
    if said.level == "crisis":
        yield Reply(*said, message=told["crisis"], place=place, done=True)
        return
    begun = Reply(*said, place=place if said.level == "concern" else None)
    yield begun
    if problem := cannot_be_read(question):
        raise ValueError({"empty": "the question has no words", "long": f"the question has more than {LONGEST:,} characters"}[problem])
    if system not in (there := systems(run)):
        raise StageMissing(f"the system '{system}' is not in {run.name}; there are: {', '.join(there)}")
    yield from _generated(question, run, system, temperature, seed, begun, {"message": told["held_back"], "place": place})


def cannot_be_read(question: str) -> str:
    """"empty" where there is no letter or digit in any script, "long" where there is too much; else nothing."""
    return "long" if len(question) > LONGEST else "" if any(map(str.isalnum, question)) else "empty"


def spoken(question: str) -> str:
    """The language that a person is told something in: ``zh`` where there is a Han character."""
    return "zh" if re.search(r"[\u3400-\u9fff]", question) else "en"


@cache
def messages(language: str) -> dict[str, str]:
    """What a person is told in place of a generated reply: ``crisis``, ``held_back``."""
    return OmegaConf.to_container(OmegaConf.load(BUNDLED / "conversation" / "messages.yaml"))[language]


def load(run: Run, system: str) -> tuple[Any, Any]:
    """Model and tokenizer of one of the run's systems; the last ones are kept."""
    policy.import_backend(run.params)
    return _load(str(evaluation.systems(run.params, run.dir)[system]), run)


@lru_cache(1)
def _load(folder: str, run: Run) -> tuple[Any, Any]:
    return policy.load(folder, run.params)


def _generated(question: str, run: Run, system: str, temperature: float | None, seed: int | None, reply: Reply,
               held_back: dict[str, Any]) -> Iterator[Reply]:
    p, plain, text = run.params, system in evaluation.PLAIN, ""
    with closing(_sentences(question, run, system, p.evaluation.temperature if temperature is None else temperature,
                            p.seed if seed is None else seed)) as sentences:
        for text, ended in sentences:
            if faults := guard.faults(text):
                break
            reply = replace(reply, text=text)
            if not ended:
                yield reply
    if faults:
        yield replace(reply, text="", faults=faults, done=True, **held_back)
        return
    try:
        chain, problem = None if plain else parse(text, p.coe.layers), "" if text.strip() else "nothing was said"
    except CoEFormatError as error:
        chain, problem = None, str(error)
    yield replace(reply, chain=chain, problem=problem, done=True)


def _sentences(question: str, run: Run, system: str, temperature: float, seed: int) -> Iterator[tuple[str, bool]]:
    """The completion up to the last whole sentence, again and again, and at last all of it (with True)."""
    policy.import_backend(run.params)
    from transformers import StoppingCriteriaList, TextIteratorStreamer, set_seed
    with _BUSY:
        model, tokenizer = load(run, system)
        asked = tokenizer(policy.prompt(tokenizer, question, run.params, system in evaluation.PLAIN), return_tensors="pt").to(model.device)
        stop, streamer = Event(), TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        sampling = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0) if temperature else dict(do_sample=False)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                set_seed(seed)
                model.generate(**asked, **sampling, max_new_tokens=run.params.evaluation.max_completion_tokens, streamer=streamer,
                               pad_token_id=tokenizer.pad_token_id, stopping_criteria=StoppingCriteriaList([lambda *_, **__: stop.is_set()]))
            except BaseException as error:  # to be raised where somebody waits for text
                failed.append(error)
                streamer.end()

        thread = Thread(target=work, daemon=True)
        thread.start()
        text, shown = "", 0
        try:
            for piece in streamer:
                text += piece
                end = max((match.end() for match in _END.finditer(text, shown)), default=shown)
                if end > shown:
                    shown = end
                    yield text[:end], False
        finally:
            stop.set()
            thread.join()
        if failed:
            raise failed[0]
        yield text, True
