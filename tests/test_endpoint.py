"""The teacher at an endpoint on this machine: cache, errors, faults, limits, a full disk."""

import asyncio
import json
import subprocess
import sys
import time

import pytest

from empathy_lib import ROOT, coe, prompts, teacher
from empathy_lib.endpoint import EndpointError
from teaching import CHAIN, KEY, QUESTIONS, answering, arrivals, completion, endpoint, params, taught


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
        with pytest.raises(EndpointError, match="none of 3 chains.*text outside the parts"):
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
    with answering(200, reply) as url, pytest.raises(EndpointError, match=r"2 × an empty reply \(finish_reason stop\)"):
        taught(params(url, **prices), tmp_path / "cache", 2)


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
                with pytest.raises(EndpointError, match="spending_limit"):
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
    with answering(200, broke) as url, pytest.raises(EndpointError, match="wants payment"):
        asyncio.run(asyncio.wait_for(teacher.chains(QUESTIONS[:60], params(url, **prices), tmp_path / "cache"), 30))
    assert len(count) <= 3 + 6  # so many were under way: more do not fit under the limit at once


def test_time_outs_count_against_the_limit_and_bound_a_slow_reply(tmp_path):
    def slow(asked):
        time.sleep(1)
        return 200, completion()
    prices = dict(price_prompt=1.0, price_completion=1.0, max_tokens=500, concurrency=1, timeout=0.2, retries=9)
    with answering(200, slow) as url, pytest.raises(EndpointError, match="spending_limit"):
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
    with pytest.raises(EndpointError, match="A_KEY holds white space"):
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
        with pytest.raises(EndpointError, match="coe.spending_limit is .*raise it and run again") as error:
            taught(limited, tmp_path / "cache")
        done = len(list((tmp_path / "cache").rglob("*.json")))
        assert 0 < done < 20 and f"{done} of 20 replies" in str(error.value)
        assert sum(p["usage"][0] * 1e-4 + p["usage"][1] * 1e-3 for p in map(
            json.loads, (f.read_text() for f in (tmp_path / "cache").rglob("*.json")))) <= whole * 0.6
        assert taught(params(url, **prices, spending_limit=whole * 3), tmp_path / "cache").account.sent == 20 - done


def test_each_mistake_has_one_clear_message(tmp_path, monkeypatch):
    def message(p):
        with pytest.raises(EndpointError) as error:
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


@pytest.mark.skipif(subprocess.run(["unshare", "-rm", "true"]).returncode != 0, reason="cannot mount a small disk here")
def test_a_full_disk_is_one_message_and_leaves_no_half_file(tmp_path):
    code = ("import sys, asyncio; sys.path.insert(0, sys.argv[1]); import teaching as t\n"
            "try: t.taught(t.params(sys.argv[2], concurrency=4), t.Path(sys.argv[3]) / 'cache')\n"
            "except t.teacher.EndpointError as error: print('MESSAGE', error)\n"
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
