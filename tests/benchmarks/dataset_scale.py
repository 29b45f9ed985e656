"""Scale benchmark of data-set construction: cost against size, and planted dirt found, lost and clean texts harmed.

    python tests/benchmarks/dataset_scale.py out.json [--juicer PYTHON]

builds synthetic corpora of 10,000, 40,000 and 168,470 answers, each in a fresh process. ``--juicer`` is the Python of
an environment with py-data-juicer, scipy, ftfy and selectolax: it runs on the same rows, one size after the other, as
long as it needs less than JUICER_LIMIT; the kit's own patterns for personal data and advertising are given to it.

Figures: ``seconds`` of the whole process, start-up and files included, ``cpu_seconds`` on all cores,
``peak_mb`` of resident memory, the sum over the process and its children (sampled; shared pages count in each),
``recall`` of the planted items, ``found``: [found, planted] of each kind and variant, ``harmed``: what should have
survived; ``slope``: of log seconds on log answers.
"""

import argparse
import json
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import psutil

import synthetic
from empathy_lib import ROOT, anonymise, cleaning, dataset
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, write_json, write_jsonl

SIZES = (10_000, 40_000, synthetic.PAPER["answers"])
SEED = 7
GOALS = {"seconds": 180, "peak_mb": 2000, "slope": 1.1, "times faster": 5}
JUICER_LIMIT = 900  # seconds that the next size may be expected to take
PLANTED = ("微信", "QQ", "身份证", "银行卡", "电话", "邮箱")  # the kit's patterns that Data-Juicer gets beside its own
DIRT = ("advertising", "gibberish", "repetition")
KIT = "import sys; sys.path.insert(0, sys.argv[1]); import dataset_scale; dataset_scale.build(*sys.argv[2:])"


def build(source: str, folder: str) -> None:
    """Run the kit on a file and write what it returns; this is what the child process does."""
    params = load_params(ROOT / "params" / "paper.yaml", {"dataset": {"source": source}})
    built = dataset.build(params.dataset, params.language, SEED)
    for name, rows in (built.splits | built.aside).items():
        write_jsonl(Path(folder, f"{name}.jsonl"), rows)


def measured(command: list[str], log: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of a command and its children; its output goes to a log file."""
    start, before, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0
    with open(log, "w") as file:
        process = psutil.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent)
        while process.poll() is None:
            try:
                peak = max(peak, sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]))
            except psutil.NoSuchProcess:
                pass
            time.sleep(.2)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:3])} … failed:\n{log.read_text(errors='replace')[-3000:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_mb": round(peak / 1e6)}


def run_kit(folder: Path) -> tuple[dict, dict[str, str], dict[str, tuple]]:
    """Figures of the kit on corpus.jsonl of a folder; surviving texts by id; (cluster, split) of each question id."""
    figures = measured([sys.executable, "-c", KIT, str(Path(__file__).parent), str(folder / "corpus.jsonl"),
                        str(folder)], folder / "kit.log")
    texts, places = {}, {}
    for split in ("train", "dev", "test", "crisis"):  # training questions set aside were built all the same
        for question in read_jsonl(folder / f"{split}.jsonl"):
            texts[question["question_id"]] = question["question"]
            texts |= {answer["answer_id"]: answer["text"] for answer in question["answers"]}
            places[question["question_id"]] = question["cluster"], split.replace("crisis", "train")
    return figures, texts, places


def recipe(folder: Path) -> dict:
    """Data-Juicer's equivalent operators in the kit's order, on questions and answers as rows of one file."""
    personal = [f"(?a){rule[-1].pattern}" for rule in anonymise._RULES if rule[0] in PLANTED]
    advertising = "|".join(pattern.pattern for pattern in cleaning._ADVERTISING.values())
    operators = [
        {"clean_html_mapper": {}}, {"fix_unicode_mapper": {}}, {"whitespace_normalization_mapper": {}},
        {"replace_content_mapper": {"pattern": f"(?i)^.*?(?:{advertising}).*$", "repl": ""}},  # then it is too short
        {"text_length_filter": {"min_len": 100}}, {"alphanumeric_filter": {"min_ratio": .5}},
        {"character_repetition_filter": {"rep_len": 10, "max_ratio": .05}},
        {"clean_email_mapper": {"repl": "[邮箱]"}}, {"clean_links_mapper": {"repl": "[链接]"}},
        {"clean_ip_mapper": {}}, {"replace_content_mapper": {"pattern": personal, "repl": "[…]"}},
        {"document_deduplicator": {"lowercase": True, "ignore_non_character": True}},
        {"document_minhash_deduplicator": {"tokenization": "character", "window_size": 5, "jaccard_threshold": .5,
                                           "ignore_pattern": r"[\p{P}\s]"}}]
    return {"project_name": "scale", "dataset_path": str(folder / "rows.jsonl"), "np": 2, "process": operators,
            "export_path": str(folder / "juicer" / "rows.jsonl"), "use_cache": False, "open_monitor": False,
            "auto_op_parallelism": False}


def run_juicer(python: str, folder: Path) -> tuple[dict, dict[str, str]]:
    """Figures of py-data-juicer on the same rows; surviving texts by id."""
    corpus = read_jsonl(folder / "corpus.jsonl")
    rows = [{"id": q["question_id"], "text": q["question"]} for q in corpus]
    rows += [{"id": a["answer_id"], "text": a["text"]} for q in corpus for a in q["answers"]]
    write_jsonl(folder / "rows.jsonl", rows)
    (folder / "recipe.yaml").write_text(json.dumps(recipe(folder)))  # JSON is YAML
    figures = measured([python, "-m", "data_juicer.tools.process_data", "--config", str(folder / "recipe.yaml")],
                       folder / "juicer.log")
    return figures, {row["id"]: row["text"] for row in read_jsonl(folder / "juicer" / "rows.jsonl")}


def plain(text: str) -> str:
    """Letters and digits only, in one width and case: how a planted string is looked for."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text)).lower()


def scores(folder: Path, texts: dict[str, str], places: dict[str, tuple] | None = None) -> dict:
    """Planted items found, by kind and variant, and what was harmed: clean texts lost, public data replaced, questions
    wrongly put into one cluster, planted pairs parted by a split. Without clusters a near-duplicate must be gone."""
    corpus, truth = read_jsonl(folder / "corpus.jsonl"), read_jsonl(folder / "truth.jsonl")
    owner = {a["answer_id"]: q["question_id"] for q in corpus for a in q["answers"]}
    owner |= {q["question_id"]: q["question_id"] for q in corpus}
    clean, counts, harmed, root = set(owner), {}, Counter(), {name: name for name in owner.values()}

    def top(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for item in truth:
        name, kind, pair = item.get("answer_id") or item["question_id"], item["kind"], "original" in item
        if kind in DIRT:
            found = name not in texts
            clean.discard(name)
        elif pair:
            clean -= {name, item["original"]}
            a, b = sorted((top(owner[name]), top(owner[item["original"]])))
            root[b] = a
            both = name in texts and item["original"] in texts
            harmed["texts lost"] += name not in texts and item["original"] not in texts
            here, there = (places[owner[x]] for x in (name, item["original"])) if places and both else (None, None)
            found = not both or here is not None and here[0] == there[0]
            harmed["pairs parted by a split"] += here is not None and here[1] != there[1]
        else:
            found = plain(item["string"]) not in plain(texts.get(name, ""))
            if kind == "public data":
                harmed["public data replaced"] += name in texts and found
                continue
        for key in (kind, f"{kind}: {item['variant']}"):
            hits, planted = counts.get(key, (0, 0))
            counts[key] = hits + found, planted + 1
    alive = {owner[name] for name in clean if name not in root}  # a question without a clean answer may go
    harmed["texts lost"] += sum(name not in texts and (name not in root or name in alive) for name in clean)
    if places:
        joined = {(cluster, top(name)) for name, (cluster, _) in places.items()}
        harmed["questions wrongly clustered"] = len(joined) - len({cluster for cluster, _ in joined})
    planted = [counts[kind] for kind in counts if ": " not in kind]
    overall = sum(found for found, _ in planted) / sum(n for _, n in planted)
    return {"recall": round(overall, 4), "found": dict(sorted(counts.items())), "harmed": dict(harmed)}


def note(rows: list[dict], name: str, *parts: dict) -> dict:
    """Add a row to the result and print it, with the kinds below it."""
    row = {key: value for part in parts for key, value in part.items()}
    rows.append(row)
    print(f"{name:<13}{row['answers']:>8}{row['seconds']:>9.1f}{row['cpu_seconds']:>8.1f}"
          f"{row['records'] / row['seconds']:>10.0f}{row['peak_mb']:>8}{row['recall']:>8.3f}  harmed: {row['harmed']}")
    print("   found " + ", ".join(f"{k} {f}/{n}" for k, (f, n) in row["found"].items() if ": " not in k), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--juicer", metavar="PYTHON", help="python of an environment with py-data-juicer")
    arguments = parser.parse_args()
    result = {"seed": SEED, "goals": GOALS, "kit": [], "juicer": [], "slope": {}, "machine": {
        "platform": platform.platform(), "cores": os.cpu_count(), "memory_gb": psutil.virtual_memory().total // 10**9},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("numpy", "pydantic", "rensa")}}
    if arguments.juicer:
        code = "from importlib.metadata import version; print(version('py-data-juicer'), end='')"
        result["versions"]["py-data-juicer"] = subprocess.check_output([arguments.juicer, "-c", code], text=True)
    print(f"{'':<13}{'answers':>8}{'seconds':>9}{'cpu s':>8}{'records/s':>10}{'peak MB':>8}{'recall':>8}")
    expected = 0.  # seconds an answer that Data-Juicer may need
    for answers in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            synthetic.write(folder, answers, SEED)
            size = {"answers": answers, "records": answers + len(read_jsonl(folder / "corpus.jsonl"))}
            figures, texts, places = run_kit(folder)
            kit = note(result["kit"], "kit", size, figures, scores(folder, texts, places))
            if arguments.juicer and expected * answers < JUICER_LIMIT:
                figures, texts = run_juicer(arguments.juicer, folder)
                figures["kit_times_faster"] = round(figures["seconds"] / kit["seconds"], 2)
                note(result["juicer"], "data-juicer", size, figures, scores(folder, texts))
                print(f"   the kit is {figures['kit_times_faster']} times faster", flush=True)
                expected = figures["seconds"] / answers
        write_json(arguments.out, result)
    for name in filter(result.get, ("kit", "juicer")):  # 1 is linear, 2 quadratic
        logs = [[math.log(row[key]) for row in result[name]] for key in ("answers", "seconds")]
        result["slope"][name] = round(statistics.linear_regression(*logs).slope, 2)
    write_json(arguments.out, result)
    print("slope of log seconds on log answers:", result["slope"])


if __name__ == "__main__":
    main()
