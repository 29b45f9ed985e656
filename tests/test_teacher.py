"""The teacher against an endpoint on this machine: errors, limits, cache, prompts, and the table of quality."""

import asyncio
import json
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import copy_run, run_notebook
from empathy_lib import BUNDLED, ROOT, coe, prompts, quality, review, teacher
from empathy_lib.endpoint import TeacherError
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions

QUESTIONS = read_questions(BUNDLED / "questions.jsonl")[0]
CHAIN = "<empathy_think><L1>累</L1><L2>也许怕落后</L2><L3>被听见</L3><L4>先接住</L4></empathy_think><answer>辛苦了。</answer>"
KEY = "sk-never-to-be-seen-0123456789"


@contextmanager
def endpoint(folder: Path, content: str = CHAIN, *arguments: str):
    """An endpoint that answers ``content`` at once, or with faults; yields its base URL."""
    (folder / "canned.txt").write_text(content)
    source = () if "--upstream" in arguments else ("--canned", folder / "canned.txt")
    process = subprocess.Popen([sys.executable, ROOT / "tests" / "faulty_proxy.py", "--log", folder / "proxy.jsonl",
                                *source, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def params(url: str | None = "http://127.0.0.1:9/v1", **coe_values):
    values = {"teacher": "openai", "base_url": url, "model": "m", "api_key_env": None, "retries": 1, "timeout": 5.0}
    return load_params("params/smoke.yaml", {"coe": values | coe_values})


def taught(p, cache: Path, n: int = 20):
    return asyncio.run(teacher.chains(QUESTIONS[:n], p, cache))


def arrivals(folder: Path) -> list[dict]:
    return [row for row in read_jsonl(folder / "proxy.jsonl") if row["event"] == "arrived"]


def test_each_request_is_sent_once_and_every_chain_says_where_it_is_from(tmp_path):
    with endpoint(tmp_path) as url:
        p = params(url, price_prompt=1.0, price_completion=10.0)
        first, again = taught(p, tmp_path / "cache"), taught(p, tmp_path / "cache")
        other = taught(params(url, temperature=0.0), tmp_path / "cache")
    assert (first.account.sent, again.account.sent, other.account.sent) == (20, 0, 20)
    assert first.chains == again.chains and len(first.chains) == 20 and not first.rejected
    assert first.account.cost(p.coe) == again.account.cost(p.coe) > 0
    chain, asked = first.chains[0], {q.question_id: q.question for q in QUESTIONS}
    assert chain["question"] == asked[chain["question_id"]] and chain["answer"] == "辛苦了。"
    assert chain["teacher"] == "openai:m" and chain["prompt"] == prompts.version("zh", coe.LAYERS)
    assert chain["decision"] == "unreviewed" and chain["reviewers"] == []


def test_reasoning_stays_out_of_the_chain(tmp_path):
    with endpoint(tmp_path, "<think>\n这个人……\n</think>\n\n" + CHAIN) as url:
        assert len(taught(params(url), tmp_path / "cache", 3).chains) == 3
    with endpoint(tmp_path, "好的，这是共情链：" + CHAIN) as url:
        p = params(url, reasks=2, concurrency=1)
        with pytest.raises(TeacherError, match="none of 3 chains.*text outside the parts"):
            taught(p, tmp_path / "other", 3)
    assert len(arrivals(tmp_path)) == 3 + 3 * 3  # asked, and asked again twice, with the reason
    said = [json.loads(file.read_text())["request"]["messages"] for file in (tmp_path / "other").rglob("*.json")]
    assert sum(len(m) == 4 and "text outside the parts" in m[3]["content"] for m in said) == 6


def test_deepseek_s_reasoning_field_a_missing_count_and_an_empty_reply(tmp_path):
    message = {"role": "assistant", "content": CHAIN, "reasoning_content": "先想想：<L1>不是这里</L1>"}
    reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m",
             "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    prices = dict(price_prompt=1.0, price_completion=1.0, max_tokens=50)
    with answering(200, reply) as url:
        result = taught(params(url, **prices), tmp_path / "cache", 2)
    assert [c["L1"] for c in result.chains] == ["累", "累"] and "不是这里" not in json.dumps(result.chains, ensure_ascii=False)
    assert result.account.completion_tokens == 100 and result.account.prompt_tokens > 2000  # no usage: the most it can be
    message["content"] = None
    with answering(200, reply) as url, pytest.raises(TeacherError, match=r"2 × an empty reply \(finish_reason stop\)"):
        taught(params(url, **prices), tmp_path / "cache", 2)


def completion(content: str | None = CHAIN) -> dict:
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": {
        "prompt_tokens": 1800, "completion_tokens": 100, "total_tokens": 1900},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]}


def test_other_ways_to_reason_and_to_say_nothing_at_first(tmp_path):
    with answering(200, completion("先想想：<L1>不是这里</L1>\n</think>\n\n" + CHAIN)) as url:  # vLLM without a reasoning parser
        assert taught(params(url, reasks=0), tmp_path / "a", 2).chains[0]["L1"] == "累"
    with answering(200, lambda asked: (200, completion(None if len(asked["messages"]) == 2 else CHAIN))) as url:
        result = taught(params(url, reasks=1), tmp_path / "b", 3)
    assert len(result.chains) == 3 and result.account.completion_tokens == 600 and result.account.sent == 6


def test_letters_that_are_refused_do_not_stop_the_others(tmp_path):
    """13 of 100 letters are moderated away (400), one with 403: all others are taught, at the first run and later."""
    bad = {q.question for q in QUESTIONS[5:70:5]}
    def moderate(asked):
        letter = asked["messages"][1]["content"]
        return (403 if letter == QUESTIONS[5].question else 400, None) if letter in bad else (200, completion())
    with answering(200, moderate) as url:
        for sent in (100, 13):
            result = taught(params(url, n_chains=100, concurrency=1), tmp_path / "cache", 100)
            assert (len(result.chains), len(result.rejected), result.account.sent) == (87, 13, sent)
    assert all(row["reason"].startswith("status 40") for row in result.rejected)


def test_no_limit_hangs_or_is_passed_whatever_the_letters(tmp_path):
    prices = dict(price_prompt=0.37, price_completion=1.11, max_tokens=150, concurrency=16, n_chains=100)
    def limited(cache, limit, url):
        return asyncio.run(asyncio.wait_for(teacher.chains(QUESTIONS[:100], params(url, **prices, spending_limit=limit), cache), 30))
    with answering(200, completion()) as url:
        whole = taught(params(url, **prices), tmp_path / "whole", 100).account.cost(params(url, **prices).coe)
        for i in range(6):
            cache, limit = tmp_path / str(i), whole * (0.15 + 0.13 * i)
            for _ in range(2):  # the second run counts what the first has paid before it sends anything
                with pytest.raises(TeacherError, match="spending_limit"):
                    limited(cache, limit, url)
                paid = [json.loads(file.read_text())["usage"] for file in cache.rglob("*.json")]
                assert 0 < sum(p * 0.37e-6 + c * 1.11e-6 for p, c in paid) <= limit
            # n_chains lowered: only letters that were waiting for money are sent, at most one a worker
            fewer = params(url, **prices | {"n_chains": len(paid)})
            assert taught(fewer, cache, 100).account.sent <= 16


def test_after_a_fatal_answer_nothing_more_is_sent(tmp_path):
    count = []
    def broke(asked):
        count.append(1)
        return (200, completion()) if len(count) <= 3 else (402, None)
    prices = dict(price_prompt=1.0, price_completion=1.0, max_tokens=150, concurrency=16, n_chains=60, spending_limit=0.03)
    with answering(200, broke) as url, pytest.raises(TeacherError, match="wants payment"):
        asyncio.run(asyncio.wait_for(teacher.chains(QUESTIONS[:60], params(url, **prices), tmp_path / "cache"), 30))
    assert len(count) <= 3 + 6  # so many were under way: more do not fit under the limit at once


def test_time_outs_count_against_the_limit_and_bound_a_slow_reply(tmp_path):
    def slow(asked):
        time.sleep(1)
        return 200, completion()
    prices = dict(price_prompt=1.0, price_completion=1.0, max_tokens=500, concurrency=1, timeout=0.2, retries=9)
    with answering(200, slow) as url, pytest.raises(TeacherError, match="spending_limit"):
        taught(params(url, **prices, spending_limit=0.02), tmp_path / "cache", 4)


def test_equal_letters_are_asked_once_and_a_full_cache_needs_no_key(tmp_path, monkeypatch):
    twins = [QUESTIONS[0], QUESTIONS[0].model_copy(update={"question_id": "twin"})]
    monkeypatch.setenv("A_KEY", "k")
    with answering(200, completion()) as url:
        p = params(url, api_key_env="A_KEY")
        first = asyncio.run(teacher.chains(twins, p, tmp_path / "cache"))
    monkeypatch.delenv("A_KEY")
    again = asyncio.run(teacher.chains(twins, p, tmp_path / "cache"))
    assert (first.account.sent, again.account.sent) == (1, 0) and len(first.chains) == 2 and first.chains == again.chains
    monkeypatch.setenv("A_KEY", "k\n")
    with pytest.raises(TeacherError, match="A_KEY holds white space"):
        taught(params(url, api_key_env="A_KEY"), tmp_path / "other")


def test_transport_faults_end_accepted_or_rejected_with_a_reason(tmp_path):
    kinds = ["429-retry-after", "truncated", "malformed-json", "reset", "drip", "malformed-chain"]
    with endpoint(tmp_path, CHAIN, "--share", "0.5", "--dead", "0.1", "--faults", *kinds) as url:
        result = taught(params(url, retries=2, concurrency=8, reasks=1, n_chains=40), tmp_path / "cache", 40)
    struck = {row["fault"] for row in arrivals(tmp_path)}
    assert {"dead", *kinds} <= struck
    assert len(result.chains) + len(result.rejected) == 40
    assert {row["reason"].split(":")[0] for row in result.rejected} >= {"no reply after 3 tries"}
    assert all(row["reason"] and row["reasons"] and "raw" in row for row in result.rejected)


def test_the_spending_limit_is_never_passed_and_stops_cleanly(tmp_path):
    with endpoint(tmp_path) as url:
        prices = dict(price_prompt=100.0, price_completion=1000.0, max_tokens=200, concurrency=16)
        whole = taught(params(url, **prices), tmp_path / "all").account.cost(params(url, **prices).coe)
        limited = params(url, **prices, spending_limit=whole * 0.6)
        with pytest.raises(TeacherError, match="coe.spending_limit is .*raise it and run again") as error:
            taught(limited, tmp_path / "cache")
        done = len(list((tmp_path / "cache").rglob("*.json")))
        assert 0 < done < 20 and f"{done} of 20 replies" in str(error.value)
        assert sum(p["usage"][0] * 1e-4 + p["usage"][1] * 1e-3 for p in map(
            json.loads, (f.read_text() for f in (tmp_path / "cache").rglob("*.json")))) <= whole * 0.6
        assert taught(params(url, **prices, spending_limit=whole * 3), tmp_path / "cache").account.sent == 20 - done


def test_each_mistake_has_one_clear_message(tmp_path, monkeypatch):
    def message(p):
        with pytest.raises(TeacherError) as error:
            taught(p, tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*.*"))  # nothing half-written
        return str(error.value)

    assert "cannot be reached: is coe.base_url right" in message(params(retries=0))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert "environment variable NO_SUCH_KEY (coe.api_key_env) is not set" in message(params(api_key_env="NO_SUCH_KEY"))
    monkeypatch.setenv("A_KEY", KEY)
    for status, says in ((401, "refuses the key in $A_KEY"), (404, "does not know the model"), (402, "wants payment")):
        with answering(status) as url:
            said = message(params(url, api_key_env="A_KEY"))
            assert says in said and str(status) in said and KEY not in said and "[key]" in said
    with answering(400) as url:
        assert "10 requests in a row have failed, the last with: status 400" in message(params(url, concurrency=2))


@contextmanager
def answering(status: int, answer=None):
    """A server that says ``answer`` to everything (a function is asked: request → status, answer), or refuses it and
    repeats the key it was given."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            code, said = answer(asked) if callable(answer) else (status, answer)
            body = json.dumps(said or {"error": {"message": f"no: {self.headers['authorization']}"}}).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(subprocess.run(["unshare", "-rm", "true"]).returncode != 0, reason="cannot mount a small disk here")
def test_a_full_disk_is_one_message_and_leaves_no_half_file(tmp_path):
    code = ("import sys, asyncio; sys.path.insert(0, sys.argv[1]); import test_teacher as t\n"
            "try: t.taught(t.params(sys.argv[2], concurrency=4), t.Path(sys.argv[3]) / 'cache')\n"
            "except t.TeacherError as error: print('MESSAGE', error)\n"
            "for f in t.Path(sys.argv[3]).rglob('*'):\n"
            "    if f.is_file(): print('FILE', f.name, 'whole' if f.suffix == '.json' and t.json.loads(f.read_text()) else 'half')")
    small = tmp_path / "small"
    small.mkdir()
    with endpoint(tmp_path) as url:
        result = subprocess.run(
            ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$1" && shift && exec "$@"', "sh", small,
             sys.executable, "-c", code, ROOT / "tests", url, small], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert [line for line in lines if "No space left on device; make room and run again" in line], result.stdout + result.stderr[-2000:]
    assert sum(line.startswith("MESSAGE") for line in lines) == 1
    files = [line for line in lines if line.startswith("FILE")]
    assert len(files) > 3 and all(line.endswith("whole") for line in files), files


def test_the_local_teacher(smoke_run, tmp_path):
    p = load_params("params/smoke.yaml", {"coe": {
        "teacher": "local", "model": str(smoke_run / "03_sft" / "model"), "n_chains": 6, "concurrency": 4, "reasks": 1,
        "max_tokens": 48, "temperature": 1.0}})
    for _ in range(2):  # the second time all replies come from the cache
        with pytest.raises(TeacherError, match="none of 6 chains can be used"):  # 48 tokens are too few for a chain
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
