"""What the tests of the ranking page do in the browser, the server they do it to, and raters who know their minds."""

import asyncio
import random
from collections import Counter

from pages import CHROMIUM, Server

from empathy_lib import ROOT
from empathy_lib.ratings import DIMENSIONS, blind, read
from empathy_lib.schema import read_jsonl, write_jsonl

SEED = 42
SYSTEMS = ("zqx-base", "zqx-prompted", "zqx-sft", "zqx-grpo", "zqx-plain", "zqx-whole")  # no other text has these
def make_items(n, systems=3):
    """Bundled questions with bundled answers, some of them another question's, as those of so many systems."""
    questions = read_jsonl(ROOT / "empathy_lib/bundled/questions.jsonl")
    texts = [answer["text"] for question in questions for answer in question["answers"]]
    return [{"question_id": question["question_id"], "question": question["question"],
             "answers": dict(zip(SYSTEMS[:systems], texts[i * systems:]))} for i, question in enumerate(questions[:n])]


class Ranking(Server):
    """A run with answers to rank, its server, and the file of ratings."""

    def __init__(self, folder, items, language="zh"):
        self.items, self.file = items, folder / "ratings" / "ratings.jsonl"
        write_jsonl(folder / "07_ranking" / "items.jsonl", items)
        self.code = f"from empathy_lib.ranking_page import launch; launch(folder, {{seed}}, {language!r}, port)"
        super().__init__(folder, self.code.format(seed=SEED))

    def reseed(self, seed):
        """What it serves from its next start on."""
        self.launch = self.code.format(seed=seed)

    def saved(self):
        """What the file holds: ``{(rater, question_id, dimension): (ranks, note)}``; how often each stands in it."""
        ratings, unreadable = read(self.file)
        assert not unreadable
        lines = Counter((row["rater"], row["question_id"], row["dimension"]) for row in read_jsonl(self.file))
        return {(r["rater"], r["question_id"], r["dimension"]): (r["ranks"], r["note"]) for r in ratings}, lines

    def ranks(self, rater, item, typed):
        """The ranks that ``c a=b`` means, worked out from what the page showed this rater."""
        systems, ranks = blind(item, rater, SEED), {}
        for tied in typed.replace("=", "\0").replace(" ", ">").replace("\0", "=").split(">"):
            ranks |= dict.fromkeys([systems["abcdef".index(letter)] for letter in tied.split("=")], len(ranks) + 1)
        return ranks


def opinion(rater, item, dimension):
    """What this rater types on a dimension: a permutation, a third of them with a tie."""
    chance = random.Random(f"{rater} {item['question_id']} {dimension}")
    letters = chance.sample("abcdef"[:len(item["answers"])], len(item["answers"]))
    return " ".join(letters) if chance.random() < 0.67 else " ".join(letters[:-1]) + "=" + letters[-1]


def opinions(ranking, raters):
    """What the file must hold when these raters have ranked everything."""
    return {(rater, item["question_id"], dimension): (ranking.ranks(rater, item, opinion(rater, item, dimension)), "")
            for rater in raters for item in ranking.items for dimension in DIMENSIONS}


async def rate_all(page, url, rater, items, tick=lambda: None):
    """One rater's sitting, by keyboard alone: the code, then every order of every question, waiting until all of a question
    are shown as saved. What the server has been through meanwhile is not looked at. ``tick`` is called a question."""
    await page.goto(url)
    await page.wait_for_selector("#code:focus")
    await page.keyboard.type(rater)
    await page.keyboard.press("Enter")
    for item in items:
        await page.wait_for_function("text => document.querySelector('#question')?.textContent == text", arg=item["question"])
        for dimension in DIMENSIONS:
            for key in opinion(rater, item, dimension).replace(" ", ""):
                await page.keyboard.press(key)
        await page.wait_for_function("document.querySelectorAll('#dimensions .saved').length == 5")
        tick()
        await page.keyboard.press("j")


async def sitting(ranking, raters, kills):
    """All raters at once, each in a window of a real browser, the server killed and started again as often as ``kills``
    says, evenly over the work. Returns ``[(url, body)]`` of every response that the windows received (None: cut by the
    death of the server) and the addresses elsewhere that they asked."""
    from playwright.async_api import Error, async_playwright
    bodies, outside, done, dead = [], [], 0, asyncio.Event()
    total, killed = len(raters) * len(ranking.items), 0

    def tick():
        nonlocal done, killed
        done += 1
        if killed < kills and done >= total * (killed + 1) / (kills + 1):
            killed += 1
            ranking.stop()
            dead.set()

    async def revive():
        while True:
            await dead.wait()
            dead.clear()
            await asyncio.sleep(1)  # long enough that orders are typed in vain
            await asyncio.to_thread(ranking.start)

    async def keep(response):
        try:
            bodies.append((response.url, await response.text()))
        except Error:  # the death of the server cut it
            bodies.append((response.url, None))

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        reviver = asyncio.create_task(revive())
        pages, readers = [], []
        window = await browser.new_context(viewport={"width": 1300, "height": 800})
        for _ in raters:
            page = await window.new_page()
            page.set_default_timeout(120_000)
            page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(
                (ranking.url, "data:", "blob:")) else None)
            page.on("websocket", lambda socket: outside.append(socket.url))  # there is none: what it carries is not searched
            page.on("response", lambda response: readers.append(asyncio.create_task(keep(response))))
            pages.append(page)
        await asyncio.gather(*[rate_all(page, ranking.url, rater, ranking.items, tick) for page, rater in zip(pages, raters)])
        await asyncio.gather(*readers)
        reviver.cancel()
        await browser.close()
    assert killed == kills
    return bodies, outside
