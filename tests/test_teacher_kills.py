"""200 requests to a real OpenAI-compatible server behind a faulty proxy, killed three times; and the cost of asking."""

import json
import re
import subprocess
import sys
import time

import psutil
import pytest

from conftest import kill, wait_for
from empathy_lib import ROOT
from empathy_lib.schema import read_jsonl
from faulty_proxy import hashed
from serving import served
from teaching import endpoint

N = 200
ASK = """
import asyncio, json, sys
from pathlib import Path
from empathy_lib import BUNDLED, prompts, teacher
from empathy_lib.params import load_params
from empathy_lib.schema import read_questions, write_jsonl
from empathy_lib.view import short
prompts.teacher = prompts.policy  # a small model answers only the prompt it was trained on
values, out, n = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
questions = read_questions(BUNDLED / "questions.jsonl")[0]
questions = [q.model_copy(update={"question_id": f"{q.question_id}-{i}", "question": short(q.question, 40) + str(i or "")})
             for i in range(1 + n // len(questions)) for q in questions][:n]
taught = asyncio.run(teacher.chains(questions, load_params("params/smoke.yaml", {"coe": values}), out / "cache"))
write_jsonl(out / "coe.jsonl", taught.chains)
write_jsonl(out / "rejected.jsonl", taught.rejected)
print(json.dumps({"sent": taught.account.sent, "tokens": taught.account.completion_tokens}))
"""


def ask(values: dict, out, n: int = N) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", ASK, json.dumps({"teacher": "openai", "api_key_env": None} | values),
                             out, str(n)], cwd=ROOT, stdout=subprocess.PIPE, stderr=open(out / "log.txt", "a"), text=True)


@pytest.mark.slow
def test_200_requests_survive_faults_and_three_kills(demo_sft, tmp_path):
    values = {"model": str(demo_sft), "temperature": 0.0, "max_tokens": 200, "concurrency": 8, "retries": 3, "timeout": 30.0,
              "reasks": 1, "n_chains": N}
    logs, started = {}, time.monotonic()
    with served(demo_sft, ready_s=120) as upstream:
        for name in ("undisturbed", "killed"):
            folder = tmp_path / name
            folder.mkdir()
            with endpoint(folder, "", "--upstream", upstream, "--share", "0.3", "--dead", "0.02") as url:
                kills = (0.2, 0.5, 0.8) if name == "killed" else ()
                for part in (*kills, None):
                    process = ask(values | {"base_url": url}, folder)
                    if part:
                        wait_for(lambda: len(cached(folder)) >= part * N, f"{part} of the replies", 900, process)
                        kill(process.pid)
                        process.wait()
                        logs[part] = (len(read_jsonl(folder / "proxy.jsonl")), set(cached(folder).values()))
                    else:
                        said, _ = process.communicate(timeout=1200)
                        assert process.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    whole, disturbed = ({file: read_jsonl(tmp_path / name / file) for file in ("coe.jsonl", "rejected.jsonl")}
                        for name in ("undisturbed", "killed"))
    assert len(whole["coe.jsonl"]) + len(whole["rejected.jsonl"]) == N and all(r["reason"] for r in whole["rejected.jsonl"])
    assert disturbed == whole
    events = read_jsonl(tmp_path / "killed" / "proxy.jsonl")
    arrived = [row for row in events if row["event"] == "arrived"]
    assert len({row["fault"] for row in arrived if row["fault"]}) >= 10
    again = {part: {row["body"] for row in events[length:] if row["event"] == "arrived"} & done
             for part, (length, done) in logs.items()}
    assert all(done for _, done in logs.values()) and not any(again.values())
    reasons = [re.sub(r"'.*'", "…", row["reason"]) for row in whole["rejected.jsonl"]]
    print(json.dumps({"accepted": len(whole["coe.jsonl"]), "rejected": {r: reasons.count(r) for r in sorted(set(reasons))},
                      "arrived": len(arrived), "faulty": sum(bool(row["fault"]) for row in arrived),
                      "seconds": round(time.monotonic() - started)}, ensure_ascii=False))


def cached(folder) -> dict[str, str]:
    """File and request hash (as the proxy counts it) of every reply kept."""
    files = [file for file in (folder / "cache").rglob("*.json") if not file.name.startswith(".")]
    return {file.name: hashed(json.dumps(json.loads(file.read_text())["request"]).encode()) for file in files}


def test_200_requests_a_second_and_flat_memory(tmp_path):
    """An endpoint that answers at once; goal: 200 requests/s on 2 cores at concurrency 64, flat over 5,000."""
    with endpoint(tmp_path) as url:
        began, sizes = time.monotonic(), []
        process = ask({"model": "m", "base_url": url, "concurrency": 64, "n_chains": 5000}, tmp_path / "out", 5000)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                sizes.append(watched.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
    seconds = time.monotonic() - began
    assert json.loads(process.stdout.read())["sent"] == 5000 and len(read_jsonl(tmp_path / "out" / "coe.jsonl")) == 5000
    early, late = sizes[len(sizes) // 3], max(sizes[len(sizes) // 3:])
    print(f"{5000 / seconds:.0f} requests/s, start-up and files included; memory {early:.0f} → {late:.0f} MB")
    assert 5000 / seconds > 100  # half the goal: a busy machine must not fail it
    assert late < early + 60
