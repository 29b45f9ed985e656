"""The review page in Debian's Chromium, as two raters use it."""

import json
import os
import resource

import pytest
from conftest import wait_for
from pages import CHROMIUM, serving
from reviewing import Review, all_saved, box, expect, has, make_chains, open_page, press, showing

from empathy_lib import ROOT
from empathy_lib.coe import FIELDS
from empathy_lib.review import read
from empathy_lib.schema import write_jsonl

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"needs {CHROMIUM}")]


@pytest.fixture
def review(tmp_path):
    yield from serving(tmp_path, Review)


@pytest.fixture
def context():
    """A browser whose pages may ask 127.0.0.1 only."""
    asked = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_context(viewport={"width": 1400, "height": 900})
        window.set_default_timeout(20_000)
        window.on("request", lambda request: asked.append(request.url))
        yield window
        browser.close()
    assert asked and not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]


def test_ten_chains_with_a_reload_and_a_killed_server(review, context):
    chains = make_chains(10)
    run = review(chains)
    expected = {(c["question_id"], part): ("accept", "", "") for c in chains for part in FIELDS}
    page = open_page(context, run, "王芳")

    def arrive(n):
        showing(page, chains[n])
        has(page, **{f"text_{part}": chains[n][part] for part in FIELDS})
        assert "synthetic, not professionally reviewed" in page.inner_text("#question")

    arrive(0)  # keys, as fast as they come
    press(page, *"aaaaa")
    all_saved(page)
    expect(page, "#progress", "1 of 10 chains decided by you")

    press(page, "j")  # an edit by keys, a rejection with a note; typed letters are no shortcuts
    arrive(1)
    press(page, "a", "e", "Control+a")
    page.keyboard.insert_text("改过的原因。\njar 12 <b>粗</b>")
    press(page, "Control+Enter")
    all_saved(page, "L2")
    press(page, "Escape", "3", "n")
    page.keyboard.type("jar 12 ")
    page.keyboard.insert_text("太像说教")
    press(page, "Escape", "r", "a", "a")
    all_saved(page)
    expected[chains[1]["question_id"], "L2"] = ("edit", "改过的原因。\njar 12 <b>粗</b>", "")
    expected[chains[1]["question_id"], "L3"] = ("reject", "", "jar 12 太像说教")

    press(page, "k")  # what was decided is there again
    arrive(0)
    press(page, "j")
    showing(page, chains[1])
    has(page, text_L2="改过的原因。\njar 12 <b>粗</b>", note_L3="jar 12 太像说教")
    assert [page.inner_text(f"#status-{part}").split()[-1] for part in FIELDS] == \
        ["accepted", "edited", "rejected", "accepted", "accepted"]

    page.click("#undecided")  # by mouse, with a reload in the middle
    arrive(2)
    page.click("#accept-L1")
    page.click("#reject-L4")
    all_saved(page, "L1", "L4")
    page.reload()
    arrive(2)
    has(page, rater="王芳")
    assert "accepted" in page.inner_text("#status-L1") and "undecided" in page.inner_text("#status-L2")
    for part in ("L2", "L3", "answer"):
        page.click(f"#accept-{part}")
    page.click("#accept-L4")  # a later decision replaces the earlier
    all_saved(page, "L2", "L3", "answer")
    expect(page, "#status-L4", "accepted")

    for n in range(3, 10):
        # the r comes before the next chain does, and must not fall on the one that is about to leave
        page.evaluate("for (const key of 'jr') document.body.dispatchEvent("
                      "new KeyboardEvent('keydown', {key, bubbles: true}))")
        arrive(n)
        if n == 5:  # the server dies with one part decided and another half typed
            press(page, "1", "a")
            all_saved(page, "L1")
            box(page, "text-L2").fill("还没保存的编辑")
            run.stop()
            page.click("#edit-L2")
            page.get_by_text("Connection to the server was lost").wait_for()
            assert box(page, "text-L2").input_value() == "还没保存的编辑"
            with page.expect_navigation():  # the page finds the new server by itself
                run.start()
            showing(page, chains[n])
            expect(page, "#status-L1", "accepted")
            has(page, text_L2="还没保存的编辑")
            assert "undecided" in page.inner_text("#status-L2")
            page.click("#next")
            expect(page, "#progress", "L2: not saved yet")
            page.click("#edit-L2")
            all_saved(page, "L2")
            expected[chains[n]["question_id"], "L2"] = ("edit", "还没保存的编辑", "")
            press(page, "3", *"aaa")
            all_saved(page, "L3", "L4", "answer")
        else:
            press(page, *"aaaaa")
            all_saved(page)
    expect(page, "#progress", "10 of 10 chains decided by you · all done, thank you")

    saved = run.saved()
    assert {(name, part): rest for name, part, *rest in saved} == {key: [*v, "王芳"] for key, v in expected.items()}
    assert len(saved) == 50 and len(run.file.read_text(encoding="utf-8").splitlines()) == 51


def test_every_text_is_shown_as_text(review, context):
    hostile = ("<script>document.title='x'</script> # **Markdown** <img src=x onerror=\"document.title='x'\"> "
               "{{value}} ${1+1} </textarea><b id='bold'>")
    chains = [{**make_chains(1)[0], "question_id": f"id {hostile}", "topic": f"topic {hostile}", "question": hostile,
               **{part: f"{part} {hostile}" for part in FIELDS}}]
    run = review(chains)
    page = open_page(context, run, f"甲 {hostile}")
    showing(page, chains[0], f"id {hostile} · topic {hostile}")
    box(page, "note-L1").fill(hostile)
    page.click("#reject-L1")
    box(page, "text-L2").fill(f"改 {hostile}")
    page.click("#edit-L2")
    all_saved(page, "L1", "L2")
    box(page, "text-L3").fill("<L1>")
    page.click("#edit-L3")
    expect(page, "#status-L3", "not saved: decision: Value error, L3 contains the tag <L1>")
    page.click("#undo-L3")
    has(page, text_L3=chains[0]["L3"])
    page.reload()
    expect(page, "#status-L2", "edited")
    showing(page, chains[0], f"id {hostile} · topic {hostile}")
    has(page, note_L1=hostile, text_L1=chains[0]["L1"], text_L2=f"改 {hostile}", text_answer=chains[0]["answer"])
    assert page.title() == "Review of chains of empathy" and not page.query_selector("img[src=x], #bold")
    assert run.saved() == [(chains[0]["question_id"], "L1", "reject", "", hostile, f"甲 {hostile}"),
                           (chains[0]["question_id"], "L2", "edit", f"改 {hostile}", "", f"甲 {hostile}")]


def test_two_raters_in_two_windows_do_not_disturb_one_another(review, context):
    chains = make_chains(3)
    run = review(chains)
    first = open_page(context, run, "甲")
    second = open_page(context, run, "乙")
    press(second, "j")
    showing(second, chains[1])
    for key in "aaraa":  # in turns, on different chains
        press(first, "a")
        press(second, key)
    all_saved(first)
    all_saved(second)
    for page, n, rater in ((first, 1, "甲"), (second, 0, "乙")):
        page.reload()
        has(page, rater=rater)
        showing(page, chains[n])
        expect(page, "#progress", "1 of 3 chains decided by you")
        assert "undecided" in page.inner_text("#status-L1")  # not what the other decided
    assert sorted(run.saved()) == sorted(
        [(chains[0]["question_id"], part, "accept", "", "", "甲") for part in FIELDS]
        + [(chains[1]["question_id"], part, "reject" if part == "L3" else "accept", "", "", "乙") for part in FIELDS])


def test_nothing_is_saved_without_a_name_or_over_typed_text(review, context):
    run = review(make_chains(2))
    page = open_page(context, run)
    press(page, "a")
    expect(page, "#status-L1", "not saved: type your name first")
    box(page, "text-L2").fill("先写了再填名字")
    box(page, "rater").fill("甲")
    press(page, "Enter")
    expect(page, "#progress", "0 of 2 chains decided by you")
    assert box(page, "text-L2").input_value() == "先写了再填名字"
    page.click("#accept-L2")
    expect(page, "#status-L2", "not saved: you changed this text")
    page.click("#edit-L1")
    expect(page, "#status-L1", "not saved: this is the text as it came")
    page.click("#edit-L2")
    all_saved(page, "L2")
    box(page, "note-L2").fill("看过两遍")
    page.click("#accept-L2")  # accepts what is seen: the edit
    wait_for(lambda: run.saved()[0][4] == "看过两遍", "the note", 20)
    has(page, text_L2="先写了再填名字")
    name = run.chains[0]["question_id"]
    assert run.saved() == [(name, "L2", "edit", "先写了再填名字", "看过两遍", "甲")]
    box(page, "text-L2").fill(run.chains[0]["L2"])  # typed back, the text as it came can be accepted
    page.click("#accept-L2")
    expect(page, "#status-L2", "accepted")
    has(page, text_L2=run.chains[0]["L2"])
    assert run.saved() == [(name, "L2", "accept", "", "看过两遍", "甲")]


def test_a_full_disk_is_said_in_red_and_the_text_stays(review, context):
    run = review(make_chains(2))
    page = open_page(context, run, "甲")
    press(page, "a")
    all_saved(page, "L1")
    size, unlimited = run.file.stat().st_size, resource.RLIM_INFINITY
    resource.prlimit(run.server.pid, resource.RLIMIT_FSIZE, (size + 20, unlimited))
    box(page, "text-L2").fill("磁盘满了也要在")
    press(page, "Control+Enter")
    expect(page, "#status-L2", "not saved: ")
    assert "File too large" in page.inner_text("#status-L2") and run.file.stat().st_size == size
    assert page.eval_on_selector("#status-L2 .failed", "e => getComputedStyle(e).color") == "rgb(192, 0, 0)"
    assert box(page, "text-L2").input_value() == "磁盘满了也要在"
    resource.prlimit(run.server.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    press(page, "Control+Enter")
    all_saved(page, "L2")
    assert [row[1:4] for row in run.saved()] == [("L1", "accept", ""), ("L2", "edit", "磁盘满了也要在")]


def test_a_cut_line_is_said_and_the_review_goes_on(review, context):
    run = review(make_chains(2))
    run.file.parent.mkdir()
    run.file.write_text(json.dumps({"question_id": run.chains[0]["question_id"]})[:-3])
    page = open_page(context, run, "甲")
    expect(page, "#progress", "line 1 of decisions.jsonl cannot be read")
    press(page, "a")
    all_saved(page, "L1")
    assert [len(found) for found in read(run.file)] == [1, 1]


def test_from_a_notebook_launch_returns_and_shows_the_page_below_the_cell(tmp_path):
    import nbformat
    from nbclient import NotebookClient
    write_jsonl(tmp_path / "02_coe" / "taught.jsonl", make_chains(2))
    cells = (f"from empathy_lib.review_page import launch\npage = launch({str(tmp_path)!r})",
             "print(page.local_url, page.share_url)", "page.close()")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(book, timeout=60, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert "<iframe" in str(book.cells[0].outputs) and "http://127.0.0.1:" in str(book.cells[1].outputs)
    assert " None" in str(book.cells[1].outputs)
