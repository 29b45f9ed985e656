"""The blind ranking page in Debian's Chromium: several raters at once, a server that is killed, answers of every kind."""

import asyncio
import os
import resource
import urllib.error
import urllib.request

import pytest
import ranking
from conftest import wait_for
from pages import CHROMIUM, browsing, serving
from ranking import SYSTEMS, Ranking, make_items, opinions, sitting

from empathy_lib.ratings import DIMENSIONS, blind

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"needs {CHROMIUM}")
HOSTILE = ("<script>document.title='x'</script> # **Markdown** <img src=x onerror=\"document.title='x'\"> {{value}} ${1+1} "
           "</div><b id='bold'>\n- 😀👩‍👩‍👧")
BLANK = "clicktheletters,thebestfirst"


@pytest.fixture
def run(tmp_path):
    yield from serving(tmp_path, Ranking)


@pytest.fixture
def window():
    """New windows of a browser, each a rater's own."""
    with browsing() as new:
        def opened(run, rater):
            page = new(run.url, 20_000)
            page.fill("#code", rater)
            page.keyboard.press("Enter")
            page.wait_for_selector("#question")
            return page

        yield opened


def press(page, keys):
    for key in keys.replace(" ", ""):
        page.keyboard.press(key)


def status(page, dimension, text):
    page.wait_for_function("([id, text]) => document.querySelector(`#${id} .status`)?.innerText.includes(text)",
                           arg=[dimension, text])


def shown(page, dimension):
    """The order as it stands there: ``C>A=B``."""
    return page.inner_text(f"#{dimension} .order").replace("\n", "").replace(" ", "")


def body(url):
    try:
        return urllib.request.urlopen(url).read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def hold(run, raters, kills):
    bodies, outside = asyncio.run(sitting(run, raters, kills))
    saved, lines = run.saved()
    assert saved == opinions(run, raters) and set(lines.values()) == {1}
    assert not outside
    answer = run.items[0]["answers"][SYSTEMS[0]][:20]
    assert [url for url, text in bodies if text and answer in text]  # the answers are among them
    assert not [url for url, text in bodies if text and any(system in text for system in SYSTEMS)]
    assert [text for _, text in bodies].count(None) <= kills * len(raters)


def test_three_raters_at_once_and_a_killed_server(run):
    hold(run(make_items(3)), ["王芳", "r02", "r03"], kills=1)


@pytest.mark.slow
def test_twenty_raters_at_once_and_a_server_killed_twice(run):
    hold(run(make_items(30)), [f"r{n:02}" for n in range(20)], kills=2)


def test_every_answer_is_text_and_every_way_to_rank_is_saved(run, window):
    items = make_items(3, systems=4)
    items[0]["question"] = f"问题 {HOSTILE}"
    items[0]["answers"] |= {SYSTEMS[0]: HOSTILE, SYSTEMS[1]: "", SYSTEMS[2]: "长" * 5000}
    on = run(items, "en")
    page = window(on, "R０7")
    assert page.input_value("#code") == "r07"
    order = blind(items[0], "r07", ranking.SEED)
    texts = [page.text_content(f".answer:nth-child({n}) .text") for n in range(1, 5)]
    assert texts == [items[0]["answers"][system] or "(no answer was given)" for system in order]
    assert page.text_content("#question") == items[0]["question"]
    assert page.title() == "Ranking answers" and not page.query_selector("img[src=x], #bold")
    long = page.locator(".text").nth(order.index(SYSTEMS[2])).bounding_box()
    assert long["height"] < 700

    press(page, "b a=c d")  # by keys: a tie in the middle
    status(page, "fluency", "✓ saved")
    for letter in "DCAB":  # by mouse, in a dimension chosen by it, one letter taken back
        page.click(f"#comforting-{letter}")
    status(page, "comforting", "✓ saved")
    page.click("#comforting-A")
    status(page, "comforting", "1 to go; your earlier order still counts")
    page.click("#comforting-A")
    status(page, "comforting", "✓ saved")
    assert shown(page, "comforting") == "D>C>B>A"
    page.click("#comforting-sign-C")  # a tie by mouse
    page.wait_for_function("document.querySelector('#comforting-sign-B').innerText == '='")
    page.drag_and_drop("#comforting-order-A", "#comforting-order-D", target_position={"x": 2, "y": 8})
    wait_for(lambda: (on.file.exists() and on.saved()[0].get(("r07", items[0]["question_id"], "comforting"))
                      == (on.ranks("r07", items[0], "a d b=c"), "")), "the dragged order", 20)
    assert shown(page, "comforting") == "A>D>B=C"
    press(page, "5 a b n")  # the letter of an answer ranks it, typed letters in the note do not
    page.keyboard.type("abc ")
    page.keyboard.insert_text(HOSTILE)
    page.keyboard.press("Escape")
    page.click("#answer-C")
    press(page, "d")
    status(page, "overall", "✓ saved")
    page.wait_for_function("document.querySelector('#noted').innerText.includes('saved')")
    page.click("#language")
    status(page, "overall", "✓ 已保存")
    assert page.inner_text("#progress") == "已完成 0 / 3 题" and page.inner_text("#number") == "第 1 题"
    press(page, "2 abcd 4 dcba")
    page.wait_for_function("document.querySelector('#progress').innerText == '已完成 1 / 3 题'")
    press(page, "j b")  # half an order
    page.reload()  # comes back to this question, and the half order is still there
    status(page, "fluency", "还差 3 个")
    assert page.inner_text("#number") == "第 2 题" and shown(page, "fluency") == "B"

    other = window(on, "r07 ")  # the same code elsewhere: on with the first unfinished question, earlier orders are there
    assert other.inner_text("#number") == "Question 2" and shown(other, "fluency") == BLANK
    press(other, "k")
    orders = [shown(other, dimension) for dimension in DIMENSIONS]
    assert orders == ["B>A=C>D", "A>B>C>D", "A>D>B=C", "D>C>B>A", "A>B>C>D"]
    assert other.input_value("#note") == f"abc {HOSTILE}"
    other.click("#unfinished")
    assert other.inner_text("#number") == "Question 2"
    stranger = window(on, "r08")  # another code sees nothing of it
    assert shown(stranger, "fluency") == BLANK and stranger.input_value("#note") == ""

    saved, _ = on.saved()
    typed = dict(zip(DIMENSIONS, ("b a=c d", "a b c d", "a d b=c", "d c b a", "a b c d")))
    assert {dimension: ranks for (_, _, dimension), (ranks, _) in saved.items()} == {
        dimension: on.ranks("r07", items[0], order) for dimension, order in typed.items()}
    notes = {dimension: note for (_, _, dimension), (_, note) in saved.items()}
    note = f"abc {HOSTILE}"  # with every order saved after it, and perhaps with one that was saved before
    assert {notes[name] for name in ("identification", "suggestion", "overall")} == {note} and set(notes.values()) <= {note, ""}
    for path in ("", "config", "gradio_api/info", "gradio_api/info?all_endpoints=true", "openapi.json",
                 f"gradio_api/file={on.folder}/07_ranking/items.jsonl", f"gradio_api/file={on.file}"):
        assert not [system for system in SYSTEMS if system in body(f"{on.url}/{path}")], path


def test_what_cannot_be_saved_is_kept_and_said_and_two_windows_of_one_rater_agree(run, window):
    on = run(make_items(2))
    first, second = window(on, "甲"), window(on, "甲")
    press(first, "abc")
    status(first, "fluency", "已保存")
    size, unlimited = on.file.stat().st_size, resource.RLIM_INFINITY
    resource.prlimit(on.server.pid, resource.RLIMIT_FSIZE, (size + 20, unlimited))  # a full disk
    press(first, "c a=b")
    status(first, "identification", "未保存")
    assert "File too large" in first.inner_text("#notice") and shown(first, "identification") == "C>A=B"
    assert on.file.stat().st_size == size
    resource.prlimit(on.server.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    status(first, "identification", "已保存")  # by itself
    assert first.inner_text("#notice") == ""

    press(second, "cba j bac")  # knows nothing of it, and is on another question at the end: the later order counts
    status(second, "fluency", "已保存")
    first.reload()
    first.wait_for_selector("#question")
    assert [shown(first, d) for d in DIMENSIONS[:2]] == ["C>B>A", "C>A=B"]

    on.stop()
    press(first, "acb n")
    first.keyboard.type("夜里写的")
    first.keyboard.press("Escape")
    status(first, "comforting", "未保存")
    assert "连不上服务器" in first.inner_text("#notice")
    on.start()
    status(first, "comforting", "已保存")  # without a reload
    first.route("**/component_server/**", lambda route: (route.fetch(), route.abort()), times=1)
    press(first, "4 cba")  # stored, but the word of it is lost: it must not be stored twice
    status(first, "suggestion", "未保存")
    status(first, "suggestion", "已保存")
    one, two = on.items
    expected = {("甲", one["question_id"], "fluency"): (on.ranks("甲", one, "c b a"), ""),
                ("甲", one["question_id"], "identification"): (on.ranks("甲", one, "c a=b"), ""),
                ("甲", one["question_id"], "comforting"): (on.ranks("甲", one, "a c b"), "夜里写的"),
                ("甲", one["question_id"], "suggestion"): (on.ranks("甲", one, "c b a"), "夜里写的"),
                ("甲", two["question_id"], "fluency"): (on.ranks("甲", two, "b a c"), "")}
    saved, lines = on.saved()
    assert saved == expected and sum(lines.values()) == 6  # the first fluency too

    on.stop()  # the letters of an open page mean other answers after this
    other = next(seed for seed in range(99) if blind(one, "甲", seed)[0] == blind(one, "甲", ranking.SEED)[2])
    press(first, "5 bca n")
    first.keyboard.press("Control+a")
    first.keyboard.type("还在")
    first.keyboard.press("Escape")
    on.reseed(other)
    on.start()
    first.wait_for_function("document.querySelector('#notice').innerText.includes('刚刚更换过')")
    status(first, "overall", "未排序")
    assert first.input_value("#note") == "还在"
    assert on.saved()[0] == expected
    best = blind(one, "甲", other).index(blind(one, "甲", ranking.SEED)[2])  # what was C
    assert shown(first, "fluency")[0] == "ABC"[best] == "A"  # an earlier order is shown in the letters of now
    press(first, "5 bca")
    status(first, "overall", "已保存")
    systems = blind(one, "甲", other)
    assert on.saved()[0]["甲", one["question_id"], "overall"] == ({systems[1]: 1, systems[2]: 2, systems[0]: 3}, "还在")
