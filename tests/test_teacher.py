"""The local teacher, decisions and keys through the notebooks, prompts, and the table of quality."""

import json
import random

import pytest

from conftest import copy_run, run_notebook
from empathy_lib import BUNDLED, coe, prompts, quality, review
from empathy_lib.endpoint import EndpointError
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl
from teaching import KEY, QUESTIONS, answering, endpoint, taught


def test_the_local_teacher(smoke_run, tmp_path):
    p = load_params("params/smoke.yaml", {"coe": {
        "teacher": "local", "model": str(smoke_run / "03_sft" / "model"), "n_chains": 6, "concurrency": 4, "reasks": 1,
        "max_tokens": 48, "temperature": 1.0}})
    for _ in range(2):  # the second time all replies come from the cache
        with pytest.raises(EndpointError, match="none of 6 chains can be used"):  # 48 tokens are too few for a chain
            taught(p, tmp_path / "cache", 6)
    entries = [json.loads(file.read_text()) for file in (tmp_path / "cache").rglob("*.json")]
    assert sorted(len(entry["texts"]) for entry in entries) == [2, 2, 4, 4]
    assert all(isinstance(text, str) for entry in entries for text in entry["texts"])


def test_the_key_is_nowhere(smoke_run, tmp_path):
    """A whole run of notebook 02 with a key, and one that fails: no file of either holds it."""
    out = copy_run(smoke_run, tmp_path / "outputs" / "smoke", "02_coe", "03_sft", "05_grpo", "06_evaluation").parent
    values = {"teacher": "openai", "model": "m", "api_key_env": "A_KEY", "n_chains": 5, "retries": 0}
    with endpoint(tmp_path) as url:
        run_notebook("02_coe", out / "executed", {"outputs": str(out), "coe": values | {"base_url": url}}, A_KEY=KEY)
    with answering(401) as url, pytest.raises(AssertionError, match="refuses the key in .A_KEY"):
        run_notebook("02_coe", out / "failed", {"outputs": str(out), "coe": values | {"base_url": url}}, A_KEY=KEY)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"coe.jsonl", "02_generate_coe.ipynb", "manifest.json"} <= {file.name for file in files}
    assert any(".teacher" in file.parts for file in files)
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_decisions_decide_what_may_train_and_the_rest_is_said(smoke_run, tmp_path):
    said = "24 of 24 chains that train this run have not been reviewed by a professional"
    assert said in json.loads((smoke_run / "manifest.json").read_text())["stages"]["02_coe"]["warnings"]
    assert all(said in (smoke_run / name).read_text() for name in ("notebooks/02_generate_coe.ipynb", "report.html"))
    run = copy_run(smoke_run, tmp_path / "outputs" / "smoke", "02_coe", "03_sft", "05_grpo", "06_evaluation")
    strict = {"outputs": str(run.parent), "coe.require_review": True}
    with pytest.raises(AssertionError, match="no chain is left to train on: 24 refused or not reviewed"):
        run_notebook("02_coe", tmp_path / "one", strict)
    assert not (run / "02_coe" / "coe.jsonl").exists() and not (run / "02_coe" / "metrics.json").exists()
    written = read_jsonl(run / "02_coe" / "taught.jsonl")
    for chain in written[:3]:
        for part in coe.FIELDS:
            decision = "reject" if (chain, part) == (written[2], "L3") else "accept"
            review.add(run / "review" / "decisions.jsonl", review.judge(chain["question_id"], part, chain[part], decision, "李医生"))
    run_notebook("02_coe", tmp_path / "two", strict)
    kept, refused = (read_jsonl(run / "02_coe" / name) for name in ("coe.jsonl", "rejected.jsonl"))
    assert [(c["question_id"], c["decision"], c["reviewers"]) for c in kept] == [
        (c["question_id"], "accepted", ["李医生"]) for c in written[:2]]
    assert len(refused) == 22 and refused[0]["reason"].startswith("L3 rejected by 李医生")
    assert json.loads((run / "manifest.json").read_text())["stages"]["02_coe"]["warnings"] == []


def test_english_letters_and_fewer_layers_through_the_notebooks(tmp_path):
    words = ("worry sleep mother office exam money winter friend letter garden train kitchen doctor music river "
             "tired quiet often never home street morning window brother slowly nobody talked walked waited hoped").split()
    def text(seed):
        return " ".join(random.Random(seed).sample(words, 25)) + "."
    rows = [{"question_id": f"q{i}", "topic": "work", "question": text(i),
             "answers": [{"answer_id": f"a{i}", "text": text(1000 + i)}]} for i in range(30)]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chain = "<empathy_think><L1>tired, and alone with it</L1><L4>begin with the nights</L4></empathy_think><answer>That is hard.</answer>"
    with endpoint(tmp_path, chain) as url:
        values = {"outputs": str(tmp_path), "language": "en", "dataset.source": str(tmp_path / "en.jsonl"), "coe": {
            "teacher": "openai", "base_url": url, "model": "m", "api_key_env": None, "n_chains": 8, "layers": ["L1", "L4"]}}
        run_notebook("01_dataset", tmp_path / "executed", values)
        run_notebook("02_coe", tmp_path / "executed", values)
    kept = read_jsonl(tmp_path / "smoke" / "02_coe" / "coe.jsonl")
    assert len(kept) == 8 and kept[0]["L4"] == "begin with the nights" and kept[0]["L2"] == kept[0]["L3"] == ""
    assert kept[0]["prompt"].startswith("teacher_en@")


def test_prompts_follow_the_layers_and_their_version_follows_the_text():
    for language in ("zh", "en"):
        whole = prompts.teacher(language, coe.LAYERS)
        example = whole[whole.rindex("<empathy_think>"):]
        assert all(coe.parse(example, coe.LAYERS).__dict__.values())
        for layers in (("L1", "L4"), ()):
            text = prompts.teacher(language, layers)
            assert coe.parse(text[text.rindex("<empathy_think>" if layers else "<answer>"):], layers).L2 == ""
            assert "<L2>" not in text + prompts.policy(language, layers) and len(text) < len(whole)
        assert len({prompts.version(language, layers) for layers in (coe.LAYERS, ("L1",), ())}) == 3
        assert coe.is_valid("\n".join(prompts.policy(language, coe.LAYERS).splitlines()[1:]))
    asked = prompts.ask("我累", prompts.teacher("zh", coe.LAYERS))
    again = prompts.ask_again(asked, "坏的", "missing </L2>", 1, "zh")
    assert [m["role"] for m in again] == ["system", "user", "assistant", "user"] and "missing </L2>" in again[3]["content"]
    assert prompts.ask_again(again, "还是坏的", "x", 2, "zh")[2]["content"] == "还是坏的"  # it does not grow


def test_quality_finds_what_was_planted():
    known, asked = read_jsonl(BUNDLED / "coe.jsonl"), {q.question_id: q for q in QUESTIONS}
    chains = [c | {"question": asked[c["question_id"]].question} for c in known if asked[c["question_id"]].safety != "crisis"][:120]
    chains[3] = chains[3] | {"L2": "难。"}
    chains[5] = chains[5] | {"L1": chains[5]["question"][:90]}
    for i in (7, 8, 9, 10):
        chains[i] = chains[i] | {"L4": "先共情再给出建议：" + chains[i]["L4"]}
    chains[12] = chains[12] | {"answer": chains[60]["answer"]}
    chains[14] = chains[14] | {"question": "我已经写好遗书了，今晚就从楼顶跳下去。"}
    rows = quality.table(chains, "zh", "tfidf", 1)
    flags = {name: {i for i, row in enumerate(rows) if name in row["flags"]} for name in quality.summary(rows)}
    assert flags["length"] == {3} and flags["copied"] == {5} and flags["opening"] == {7, 8, 9, 10}
    assert 12 in flags["off_plan"] and len(flags["off_plan"]) <= 4 and 14 in flags["crisis"]
    assert quality.summary(rows)["opening"] == 4
    assert {row["question_id"] for row in quality.worst(rows, 30)} >= {chains[i]["question_id"] for i in (3, 5, 7, 12, 14)}
    assert quality.table(chains[:1], "zh", "tfidf", 1)[0]["flags"] == []
