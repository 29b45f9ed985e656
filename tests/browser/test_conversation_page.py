"""The conversation page in Debian's Chromium, on a trained smoke model: ordinary letters, crises, odd input, two windows."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from pages import CHROMIUM, Server, browsing, serving

from empathy_lib.coe import CoE
from empathy_lib.conversation_page import _reasoning, _shown, texts
from empathy_lib.reply import Reply
from empathy_lib.schema import read_jsonl

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"needs {CHROMIUM}")
ORDINARY = "部门合并以后我带的两个徒弟都调走了，新来的主管开会从不叫我。昨天他当着大家说我做的表是十年前的水平，我回家一句话没说，洗了半小时碗。"
CRISIS = "药都攒够了，信也写好压在枕头底下，等孩子周五去他奶奶家我就走。"


class Conversation(Server):
    """The page of a run, at a folder of the smoke profile."""

    def __init__(self, folder, run, params="params/smoke.yaml"):
        code = (f"from empathy_lib.params import load_params; from empathy_lib.run import Run; from empathy_lib.conversation_page import launch; "
                f"launch(Run(load_params({params!r}, {{'outputs': {str(run.parent)!r}, 'run': {run.name!r}}})), port)")
        super().__init__(folder, code)


@pytest.fixture(scope="module")
def server(smoke_run, tmp_path_factory):
    for start in serving(tmp_path_factory.mktemp("page"), Conversation):
        yield start(smoke_run)


@pytest.fixture
def window(server):
    """New windows of a browser."""
    with browsing() as new:
        def opened():
            page = new(server.url, 60_000)
            page.wait_for_selector("#question textarea")
            return page

        yield opened


def ask(page, text):
    if page.query_selector("#status [data-state]"):
        page.click("#clear")
        page.wait_for_function("() => !document.querySelector('#status [data-state]') && !document.querySelector('#question textarea').value")
    page.fill("#question textarea", text)
    page.click("#ask")


def shown(page, name):
    return page.inner_text(f"#{name}")


def state(page, wanted):
    page.wait_for_function("wanted => document.querySelector('#status [data-state]')?.dataset.state == wanted", arg=wanted)


def finished(page):
    """Waits for the end, and says how it ended: a reply, the format's failure, or held back (a smoke model may do any of them)."""
    state(page, "done")
    return "reply" if page.query_selector("#answer .reply") else "held back" if page.query_selector("#told .note") else "failure"


def folded_layers(page):
    assert page.is_visible("#layers") and not page.is_visible("#reasoning")
    page.click("#layers button")
    page.wait_for_selector("#reasoning h4")
    assert [h.inner_text() for h in page.query_selector_all("#reasoning h4")] == ["情绪与情境", "原因与信念", "你希望得到什么", "回应方式"]
    assert all(text.strip() for text in (p.inner_text() for p in page.query_selector_all("#reasoning p")))


def test_an_ordinary_letter_gets_what_the_model_says_or_why_not(window):
    page = window()
    ask(page, ORDINARY)
    if (ended := finished(page)) == "reply":
        folded_layers(page)
    elif ended == "failure":
        assert "没有按规定的格式写完" in shown(page, "answer") and page.query_selector("#answer pre")
    else:
        assert "被拦下了" in shown(page, "told") and not page.query_selector("#answer .reply, #answer pre") and "12356" in shown(page, "told")


@pytest.fixture
def demo(demo_sft, tmp_path):
    for start in serving(tmp_path, Conversation):
        yield start(demo_sft.parents[1], "params/demo.yaml")


@pytest.mark.slow
@pytest.mark.skipif("KIT_DEMO_MODEL" not in os.environ, reason="set KIT_DEMO_MODEL to outputs/demo/03_sft/model of a run")
def test_the_demo_model_shows_four_layers_and_an_answer_soon(demo, demo_sft):
    """Of eight letters some keep the format (about half after SFT): layers, answer, earlier replies; the first words in 3 s."""
    with browsing() as new:
        page = new(demo.url, 60_000)
        page.wait_for_selector("#question textarea")
        ask(page, ORDINARY)  # loads the model
        finished(page)
        firsts, ended = [], []
        for letter in [row["question"] for row in read_jsonl(demo_sft.parents[1] / "01_dataset" / "test.jsonl")[:8]]:
            start = time.monotonic()
            ask(page, letter)
            page.wait_for_function("/正在写… ./.test(document.querySelector('#status').innerText) || document.querySelector('#status [data-state=done]')")
            firsts.append(time.monotonic() - start)
            ended.append(finished(page))
            if ended[-1] == "reply" and ended.count("reply") == 1:
                folded_layers(page)
        page.click("#ask")
        page.wait_for_selector("#earlier .card")
    assert "reply" in ended and sorted(firsts)[len(firsts) // 2] < 3, (ended, firsts)


def test_a_crisis_gets_help_and_no_generated_word(window):
    page = window()
    ask(page, CRISIS)
    state(page, "done")
    assert "12356" in shown(page, "told") and "不该由程序来回答" in shown(page, "status")
    assert not page.query_selector("#answer .reply, #answer .note, #answer pre") and not page.is_visible("#layers")
    page.click("#stop")  # nothing runs; the help stays
    state(page, "stopped")
    assert "12356" in shown(page, "told")
    page.click("#language >> text=English")
    page.wait_for_function("document.querySelector('#ask').innerText == 'Send'")
    assert "Other places" in page.input_value("#place input")
    ask(page, "I have the pills ready and the letters are written, tonight I am going to kill myself")
    state(page, "done")
    assert "That can't have been easy" in shown(page, "told") and "A program should not answer this letter" in shown(page, "status")


def test_a_concern_gets_help_and_what_the_model_says(window):
    page = window()
    ask(page, "要是明天不用醒就好了")
    finished(page)
    assert "12356" in shown(page, "told") and "不该由程序来回答" not in shown(page, "status")


def test_odd_input_is_handled(window):
    page = window()
    for text, says in (("", "没有看到文字"), ("😭😭🥀", "没有看到文字"), ("写" * 8001, "现在有 8001 字")):
        ask(page, text)
        state(page, "failed")
        assert says in shown(page, "status")
    ask(page, f"{CRISIS}{'写' * 8000}")
    state(page, "done")
    assert "12356" in shown(page, "told")
    ask(page, (ORDINARY * 200)[:8000])
    assert finished(page)
    ask(page, f"{ORDINARY}<script>document.title='x'</script><img src=x onerror=\"document.title='x'\"><b id='bold'>")
    finished(page)
    assert page.title() != "x" and not page.query_selector("#bold, img[src=x]")


def test_stop_and_two_windows_at_once(window):
    one, two = window(), window()
    ask(one, ORDINARY)
    ask(two, CRISIS)
    state(two, "done")
    assert "12356" in shown(two, "told")
    finished(one)
    assert "不该由程序来回答" not in shown(one, "status") and not two.query_selector("#answer .reply, #answer .note")
    ask(one, ORDINARY + "再问一次。")
    state(one, "writing")
    one.click("#stop")
    state(one, "stopped")
    ask(two, ORDINARY)  # another window closed while it is written to
    state(two, "writing")
    two.close()
    ask(one, ORDINARY)
    assert finished(one)


def test_what_a_model_says_is_text_and_never_markup():
    hostile = "<script>x</script><img src=x onerror=x> </div> & {{y}}"
    words, chain = texts()["zh"], CoE(hostile, hostile, hostile, hostile, hostile)
    for reply in (Reply("none", text=hostile, chain=chain, done=True), Reply("none", text=f"<L1>{hostile}", problem=hostile, done=True)):
        page = "".join(part for part in _shown(reply, words) if isinstance(part, str)) + _reasoning(reply, words, fold=True)
        assert "<script" not in page and "<img" not in page and page.count("<div") == page.count("</div>")


def test_nothing_typed_is_kept(window, server, smoke_run):
    page = window()
    ask(page, secret := ORDINARY + "暗号是蓝色的萝卜")
    finished(page)
    kept = [path for folder in (smoke_run, server.folder, Path(tempfile.gettempdir()) / "gradio") for path in folder.rglob("*")
            if path.is_file() and path.stat().st_size < 5e6 and secret[-8:].encode() in path.read_bytes()]
    assert not kept
