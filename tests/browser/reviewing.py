"""What the tests of the review page do in the browser, and the server they do it to."""

from pages import Server

from empathy_lib import ROOT
from empathy_lib.coe import FIELDS
from empathy_lib.review import read
from empathy_lib.schema import read_jsonl, write_jsonl


def make_chains(n):
    """The first bundled chains as the run's stage writes them."""
    questions = {q["question_id"]: q for q in read_jsonl(ROOT / "empathy_lib/bundled/questions.jsonl")}
    return [{"question_id": c["question_id"], "question": questions[c["question_id"]]["question"],
             **{part: c[part] for part in FIELDS}, "teacher": "bundled", "prompt": "", "reviewers": [],
             "decision": "unreviewed", "own_question": True}
            for c in read_jsonl(ROOT / "empathy_lib/bundled/coe.jsonl")[:n]]


class Review(Server):
    """A run with chains, its server, and the file of decisions."""

    def __init__(self, folder, chains):
        self.chains, self.file = chains, folder / "review" / "decisions.jsonl"
        write_jsonl(folder / "02_coe" / "taught.jsonl", chains)
        super().__init__(folder, "from empathy_lib.review_page import launch; launch(folder, port)")

    def saved(self):
        """What the file holds, without times and digests."""
        decisions, unreadable = read(self.file)
        assert not unreadable
        return [(d["question_id"], d["part"], d["decision"], d["text"], d["note"], d["rater"]) for d in decisions]


def expect(page, where, text):
    page.wait_for_function("([where, text]) => document.querySelector(where)?.innerText.includes(text)",
                           arg=[where, text])


def box(page, name):
    return page.locator(f"#{name} textarea, #{name} input")


def has(page, **texts):
    """Wait until these boxes hold these texts."""
    for name, text in texts.items():
        where = f"#{name.replace('_', '-')} textarea, #{name.replace('_', '-')} input"
        page.wait_for_function("([where, text]) => document.querySelector(where)?.value == text", arg=[where, text])


def showing(page, chain, label=""):
    """Wait until the page shows this chain and takes keys again."""
    page.wait_for_function("!document.body.dataset.moving")
    has(page, question=chain["question"])
    expect(page, "#question", label or chain["question_id"])


def open_page(context, review, rater=None):
    page = context.new_page()
    page.goto(review.url)
    expect(page, "#question", "Question")
    page.wait_for_function("document.body.dataset.chain")
    if rater:
        box(page, "rater").fill(rater)
        page.keyboard.press("Enter")
        page.wait_for_function("!document.body.dataset.moving")
        expect(page, "#progress", f"of {len(review.chains)} chains decided by you")
    return page


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def all_saved(page, *parts):
    for part in parts or FIELDS:
        expect(page, f"#status-{part}", "· saved")
