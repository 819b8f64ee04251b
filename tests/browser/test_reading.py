"""What a reader does with the page, in a real browser."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Page, expect

from tests import reading_room
from tests.browser.conftest import Opener
from tests.browser.stage import PASSWORD, READERS, ROOT, Stage, clock, free_port, prepare
from tests.reading_room import uid_of
from triage.domain.entry import EntryState
from triage.domain.finding import Finding
from triage.domain.result import ResultState, ResultStep
from triage.store import results, studies
from triage.store.tables import Entry, Result
from triage.worklist import actions

NEW = 700


def live(page: Page) -> Page:
    expect(page.locator("#live")).to_have_text("live")
    return page


def rows(page: Page) -> list[str]:
    return list(page.locator(".row").evaluate_all("rows => rows.map(row => row.dataset.uid)"))


def entry_of(room: Stage, uid: str) -> Entry:
    with room.db.read() as session:
        return session.query(Entry).filter_by(study_uid=uid).one()


def test_of_two_browsers_one_gets_the_study(room: Stage, open_page: Opener, complaints: list[str]) -> None:
    pages = [live(open_page(room.way_in(reader))) for reader in READERS]
    first = rows(pages[0])[0]
    for page in pages:
        page.keyboard.press("j")
        expect(page.locator(".row[aria-current=true]")).to_have_attribute("data-uid", first)
    # Both press at the same moment, before either has heard of the other.
    press = """at => setTimeout(() => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", {key: "c", bubbles: true})), at - Date.now())"""
    moment = time.time() * 1000 + 400
    for page in pages:
        page.evaluate(f"at => {{ ({press})(at); }}", moment)
    won = [page.locator(".toast", has_text="Claimed: it is yours") for page in pages]
    lost = [page.locator(".toast.bad") for page in pages]
    deadline = time.monotonic() + 5
    while sum(t.count() for t in won) + sum(t.count() for t in lost) < 2 and time.monotonic() < deadline:
        pages[0].wait_for_timeout(50)
    assert sum(t.count() for t in won) == 1
    assert sum(t.count() for t in lost) == 1
    entry = entry_of(room, first)
    assert entry.state is EntryState.CLAIMED
    winner = 0 if won[0].count() else 1
    assert entry.claimed_by == READERS[winner]
    expect(pages[1 - winner].locator(f'.row[data-uid="{first}"]')).to_have_count(0)
    expect(pages[winner].locator(f'.row[data-uid="{first}"]')).to_contain_text("claimed by you")
    # The browser itself reports the refused claim.
    assert len(complaints) == 1
    assert "412" in complaints[0] or "409" in complaints[0]
    complaints.clear()


def test_a_study_is_found_claimed_read_and_done_by_keyboard_alone(room: Stage, open_page: Opener) -> None:
    page = open_page(room.address)
    expect(page.locator("[name=name]")).to_be_focused()
    page.keyboard.type(READERS[0])
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    live(page)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("Press c to claim it")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()
    order = rows(page)
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    uid = order[1]
    expect(page.locator(".row[aria-current=true]")).to_have_attribute("data-uid", uid)
    page.keyboard.press("c")
    expect(page.locator(f'.row[data-uid="{uid}"]')).to_contain_text("claimed by you")
    assert rows(page).index(uid) == 1, "the claimed row does not move under the hand"
    page.keyboard.press("n")
    page.keyboard.type("compare with the film of last year")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".panel")).to_contain_text("compare with the film of last year")
    page.keyboard.press("w")
    expect(page.locator("[data-why]:focus")).to_contain_text("ahead of its arrival")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator(f'.row[data-uid="{uid}"]')).to_have_count(0)
    expect(page.locator(".row[aria-current=true]")).to_have_attribute("data-uid", order[2])
    entry = entry_of(room, uid)
    assert entry.state is EntryState.READ
    assert entry.read_by == READERS[0]
    page.keyboard.press("/")
    page.keyboard.type("greta")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Search")
    expect(live(page).locator(".row")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("m")
    expect(page.locator("h1")).to_contain_text("Mine")


def test_what_is_chosen_outlives_every_renewal_of_the_list(
    room: Stage, open_page: Opener, complaints: list[str]
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    order = rows(page)
    current = page.locator(".row[aria-current=true]")
    page.keyboard.press("j")
    page.keyboard.press("j")
    for number in range(4):
        reading_room.arrive(room.db, NEW + number, clock() - timedelta(hours=9))
        expect(page.locator(f'.row[data-uid="{uid_of(NEW + number)}"]')).to_have_count(1)
        expect(current).to_have_attribute("data-uid", order[1])
    follower = rows(page)[rows(page).index(order[1]) + 1]
    # A key that falls in the moment in which another reader takes the study is meant for that study.
    page.evaluate(
        """uid => document.addEventListener("triage:renewed", function press() {
             if (document.querySelector(`.row[data-uid="${uid}"]`)) return;
             document.removeEventListener("triage:renewed", press);
             document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "c", bubbles: true}));
           })""",
        order[1],
    )
    with room.db.write() as session:
        actions.claim(session, order[1], "dr.elsewhere", clock())
    expect(page.locator(f'.row[data-uid="{order[1]}"]')).to_have_count(0)
    expect(current).to_have_attribute("data-uid", follower)
    expect(page.locator(".toast.bad")).to_have_count(1)
    assert entry_of(room, follower).state is EntryState.WAITING
    complaints.clear()  # the browser reports the refused claim


def test_pins_ask_for_a_reason_that_everybody_sees(room: Stage, open_page: Opener) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    last = rows(page)[-1]
    page.locator(f'.row[data-uid="{last}"] .pick').focus()
    page.keyboard.press("p")
    page.locator("#ask-minutes").fill("200")
    page.locator("#ask-text").fill("ward called")
    page.keyboard.press("Control+Enter")
    expect(page.locator(f'.row[data-uid="{last}"]')).to_contain_text("ward called")
    assert entry_of(room, last).pins[0]["by"] == READERS[0]


def test_a_heat_map_comes_only_when_asked_for_and_stays(room: Stage, open_page: Opener) -> None:
    page = open_page(room.way_in(READERS[0]))
    page.goto(f"{room.address}/studies/{uid_of(1)}")
    live(page)
    heat = page.locator(".heat")
    expect(heat).to_contain_text("research")
    expect(heat.locator("img")).not_to_be_visible()
    heat.get_by_role("button", name="Tuberculosis").press("Enter")
    expect(heat.locator("figcaption")).to_contain_text("Research only")
    picture = heat.locator("img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("picture => picture.naturalWidth") > 100
    page.keyboard.press("c")
    expect(page.locator(".panel")).to_have_attribute("data-status", "claimed")
    expect(picture).to_be_visible()
    heat.get_by_role("button", name="Tuberculosis").press("Enter")
    expect(picture).not_to_be_visible()


def test_a_dead_letter_is_sent_again_from_the_page(room: Stage, open_page: Opener) -> None:
    now = clock()
    with room.db.write() as session:
        study = studies.by_uid(session, uid_of(1))
        result = results.add(
            session, study_id=study.id, study_version=1, kind="sr", sop_class_uid="1.2", path="x.dcm",
            sop_instance_uid="1.2.3", destination="pacs", now=now,
        )  # fmt: skip
        results.step(session, result, ResultStep.QUEUE, now)
        results.step(session, result, ResultStep.GIVE_UP, now, {"last_error": "pacs: refused."})
        number = result.id
    page = open_page(room.way_in(READERS[0]))
    page.goto(f"{room.address}/problems")
    page.get_by_role("button", name="Send sr to pacs again").press("Enter")
    expect(page.locator(".toast")).to_contain_text("On its way again")
    with room.db.read() as session:
        assert session.get_one(Result, number).state is ResultState.QUEUED


def test_a_new_finding_rises_without_reload_and_without_moving_the_first_rows(
    room: Stage, open_page: Opener
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    before = rows(page)
    page.evaluate("() => { window.notReloaded = true; }")
    # It arrived long ago, so that with its finding it belongs above rows that are held still.
    at = clock() - timedelta(hours=5)
    reading_room.arrive(room.db, NEW, at, name="SYNTHETIC^NEWCOMER")
    newcomer = page.locator(f'.row[data-uid="{uid_of(NEW)}"]')
    expect(newcomer).to_have_count(1)
    begun = time.monotonic()
    reading_room.assess(room.db, NEW, clock(), {Finding.TUBERCULOSIS: 0.97})
    expect(newcomer).to_contain_text("Tuberculosis", timeout=1000)
    assert time.monotonic() - begun < 1.0
    after = rows(page)
    assert after[:3] == before[:3], "the first rows stay"
    assert after[3] == uid_of(NEW), "the newcomer stands directly below them"
    expect(newcomer.locator(".mark")).to_have_text("▲ goes up")
    assert page.evaluate("() => window.notReloaded")
    page.keyboard.press(".")
    expect(page.locator(".row .mark:visible")).to_have_count(0)
    assert rows(page).index(uid_of(NEW)) < 3


def test_stat_goes_above_the_rows_that_are_held(room: Stage, open_page: Opener) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    reading_room.arrive(room.db, NEW, clock() - timedelta(hours=9), priority="STAT")
    expect(page.locator(".row").first).to_have_attribute("data-uid", uid_of(NEW))


def test_a_commit_is_seen_within_three_tenths_of_a_second(room: Stage, open_page: Opener) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    page.evaluate(
        """() => new MutationObserver(() => { window.changedAt ??= Date.now(); })
             .observe(document.getElementById("rows"), {childList: true, subtree: true})"""
    )
    spans = []
    for number in range(5):
        page.wait_for_timeout(150)
        page.evaluate("() => { window.changedAt = undefined; }")
        reading_room.arrive(room.db, NEW + number, clock())
        committed = time.time()
        expect(page.locator(f'.row[data-uid="{uid_of(NEW + number)}"]')).to_have_count(1)
        spans.append(page.evaluate("() => window.changedAt") / 1000 - committed)
    print("seen after (s):", [round(span, 3) for span in sorted(spans)])
    assert sorted(spans)[2] < 0.3


def test_a_killed_service_is_said_within_five_seconds_and_its_return_too(
    tmp_path: Path, open_page: Opener, complaints: list[str]
) -> None:
    db = prepare(tmp_path / "alone.db", 5)
    port = free_port()
    command = [sys.executable, "-m", "tests.browser.stage", str(tmp_path / "alone.db"), str(port)]

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    service = begin()
    try:
        page = open_page(f"http://127.0.0.1:{port}")
        page.locator("[name=name]").fill(READERS[0])
        page.locator("[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        live(page)
        expect(page.locator("#banner")).not_to_be_visible()
        service.kill()
        service.communicate()
        killed = time.monotonic()
        expect(page.locator("#banner")).to_be_visible(timeout=5000)
        assert time.monotonic() - killed < 5
        expect(page.locator("#banner")).to_contain_text("does not answer")
        assert page.locator("body.stale").count() == 1, "the old list does not look fresh"
        service = begin()
        expect(page.locator("#banner")).not_to_be_visible(timeout=15_000)
        expect(page.locator("#live")).to_have_text("live")
        page.context.close()
    finally:
        service.kill()
        service.communicate()
        db.close()
    complaints.clear()  # the browser reports each connection that is refused


def test_a_script_in_a_name_is_shown_and_not_run(room: Stage, open_page: Opener) -> None:
    evil = "<script>document.body.remove()</script>"
    reading_room.arrive(room.db, NEW, clock(), name=evil, accession="<hr onclick=x()>")
    page = live(open_page(room.way_in(READERS[0])))
    expect(page.locator(f'.row[data-uid="{uid_of(NEW)}"]')).to_contain_text(evil)
    page.goto(f"{room.address}/studies/{uid_of(NEW)}")
    expect(page.locator("h1")).to_contain_text(evil)
    expect(page.locator("main hr")).to_have_count(0)
