"""Speed of the metrics against a loop over NLTK and rouge-chinese: 4 references of 300 characters a prediction.

    python tests/benchmarks/metrics_speed.py out.json [--predictions 40000]

For each tokenizer the loop and the kit score the same 30 predictions in turn, cutting included, and must agree to 1e-9
(ROUGE-L from rouge-chinese's own p and r, because its f carries an epsilon of 1e-8). Then the kit scores all predictions
alone, on all cores. Texts are sentences of the bundled answers in random order; no two are the same, so that keeping the
tokens of a text for its next use saves nothing. ``times_faster``: the loop's seconds a prediction (the faster of two
rounds, before and after) over the kit's on all predictions, its start-up of processes included. ``kit_cpu_ms``: on all
cores together; where ``kit_ms`` is not far below, the machine was busy otherwise or has one core.
"""

import argparse
import os
import platform
import random
import re
import time
from importlib.metadata import version
from pathlib import Path

import psutil
from nltk.translate.bleu_score import sentence_bleu
from nltk.translate.meteor_score import meteor_score
from rouge_chinese import Rouge

from empathy_lib import BUNDLED, metrics
from empathy_lib.schema import read_jsonl, write_json

GOALS = {"char": 60, "jieba": 15}  # times faster, at least
SAMPLE, REFERENCES, CHARS, SEED = 30, 4, 300, 7
ROUGE = Rouge(metrics=["rouge-l"])


def texts(n: int) -> list[str]:
    """n different texts of CHARS characters."""
    answers = [answer["text"] for question in read_jsonl(BUNDLED / "questions.jsonl") for answer in question["answers"]]
    sentences, rng, made = re.findall(r"[^。！？\n]+[。！？]?", "\n".join(answers)), random.Random(SEED), {}
    while len(made) < n:
        made["".join(rng.sample(sentences, CHARS // 4))[:CHARS]] = None
    return list(made)


def f1(prediction: list[str], reference: list[str]) -> float:
    """ROUGE-L by rouge-chinese, without its epsilon."""
    said = ROUGE.get_scores(" ".join(prediction), " ".join(reference))[0]["rouge-l"]
    return 2 * said["p"] * said["r"] / (said["p"] + said["r"]) if said["p"] else 0.0


def loop(predictions: list[str], references: list[list[str]], tokenizer: str) -> dict[str, list[float]]:
    """What one writes without the kit."""
    found = {"bleu_1": [], "rouge_l": [], "meteor": []}
    for prediction, human in zip(predictions, references):
        p, refs = metrics.tokenize(prediction, tokenizer), [metrics.tokenize(r, tokenizer) for r in human]
        found["bleu_1"].append(sentence_bleu(refs, p, weights=(1,)))
        found["rouge_l"].append(max(f1(p, r) for r in refs))
        found["meteor"].append(meteor_score(refs, p, stemmer=metrics._EXACT, wordnet=metrics._EXACT))
    return found


def cpu() -> float:
    """Processor seconds of this process and of those that it started and that still run."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def timed(function, predictions: list[str], *rest) -> tuple[float, float, dict]:
    """Milliseconds a prediction, by the clock and of the processors, and the result."""
    start, used = time.perf_counter(), cpu()
    result = function(predictions, *rest)
    return *(1000 * t / len(predictions) for t in (time.perf_counter() - start, cpu() - used)), result


def compared(predictions: list[str], references: list[list[str]], tokenizer: str) -> dict:
    """Both ways on the first predictions, then the kit alone on all, then both again."""
    sample = predictions[:SAMPLE], references[:SAMPLE], tokenizer
    loop(predictions[:1], references[:1], tokenizer)  # loads the libraries and jieba's dictionary

    def side_by_side() -> tuple[float, float]:
        (slow, _, theirs), (fast, _, ours) = timed(loop, *sample), timed(metrics.score_samples, *sample)
        if wrong := [(name, i) for name in ours for i in range(SAMPLE) if abs(ours[name][i] - theirs[name][i]) > 1e-9]:
            raise SystemExit(f"{tokenizer}: {wrong[:3]} and {len(wrong)} values in all differ by more than 1e-9")
        return slow, fast

    before = side_by_side()
    alone, used, scores = timed(metrics.score, predictions, references, tokenizer)
    slow, fast = map(min, zip(before, side_by_side()))
    return {"loop_ms": slow, "kit_ms_on_the_sample": fast, "kit_ms": alone, "kit_cpu_ms": used,
            "seconds": alone * len(predictions) / 1000, "times_faster_on_the_sample": slow / fast,
            "times_faster": slow / alone, "scores": scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--predictions", type=int, default=40_000, metavar="N", help=f"{SAMPLE} or more")
    arguments = parser.parse_args()
    cpuinfo = Path("/proc/cpuinfo")  # on Linux platform.processor() is only the architecture
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")] + [platform.processor()]
    result = {"seed": SEED, "goals": GOALS, "predictions": arguments.predictions, "references": REFERENCES,
              "characters": CHARS, "sample": SAMPLE, "machine": {
                  "processor": names[0], "cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)},
              "versions": {"python": platform.python_version()} | {
                  name: version(name) for name in ("jieba", "joblib", "nltk", "rapidfuzz", "rouge-chinese")}}
    made = texts(arguments.predictions * (1 + REFERENCES))
    predictions, rest = made[:arguments.predictions], made[arguments.predictions:]
    references = [rest[i:i + REFERENCES] for i in range(0, len(rest), REFERENCES)]
    for tokenizer in GOALS:
        f = result[tokenizer] = compared(predictions, references, tokenizer)
        print(f"{tokenizer}: loop {f['loop_ms']:.1f} ms a prediction, kit {f['kit_ms']:.2f} ms ({f['seconds']:.0f} s in all): "
              f"{f['times_faster']:.0f} times faster (goal {GOALS[tokenizer]}); on the sample, by one process, "
              f"{f['times_faster_on_the_sample']:.0f} times", flush=True)
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
