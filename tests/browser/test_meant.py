"""What a reader does falls on the study that was meant, whatever the list has done since."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from tests import reading_room
from tests.browser.conftest import Opener
from tests.browser.stage import READERS, Stage, clock
from tests.browser.test_reading import entry_of, live, rows
from tests.reading_room import uid_of
from triage.domain.entry import EntryState
from triage.store.tables import Feedback, Study
from triage.worklist import actions

ADA, DAVID, GRETA = uid_of(1), uid_of(4), uid_of(7)


def choose(page: Page, uid: str) -> None:
    page.locator(f'.row[data-uid="{uid}"] .pick').focus()
    expect(page.locator(".row[aria-current=true]")).to_have_attribute("data-uid", uid)


def show(page: Page, uid: str) -> None:
    choose(page, uid)
    expect(page.locator(".panel")).to_have_attribute("data-uid", uid)


def hold(page: Page, uid: str, times: int | None = None) -> list[Route]:
    """Keep back what the service says of one study; returns the requests that wait."""
    held: list[Route] = []
    page.route(f"**/studies/{uid}", lambda route: held.append(route), times=times)
    return held


@pytest.mark.parametrize("key", ["p", "l", "n"])
def test_what_is_answered_falls_on_the_study_that_was_asked_about(
    room: Stage, open_page: Opener, complaints: list[str], key: str
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    order = rows(page)
    meant, follower = order[3:5]
    choose(page, meant)
    page.keyboard.press(key)
    page.locator("#ask-text").fill("meant for one study only")
    with room.db.write() as session:
        actions.claim(session, meant, "dr.elsewhere", clock())
    expect(page.locator(".row[aria-current=true]")).to_have_attribute("data-uid", follower)
    # The moment in which a key is still meant for the study that has gone passes too.
    begun = page.evaluate("() => Date.now()")
    page.wait_for_function("begun => Date.now() - begun > 1100", arg=begun)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".toast.bad")).to_contain_text("changed since you read it")
    for uid in (meant, follower):
        entry = entry_of(room, uid)
        assert entry.pins == []
        assert not entry.note
    complaints.clear()  # the browser reports the refusal


def test_an_open_question_is_not_spoilt_by_the_readers_own_sign_of_life(
    room: Stage, open_page: Opener
) -> None:
    page = open_page(room.way_in(READERS[0]))
    page.clock.install()
    page.reload()
    choose(live(page), ADA)
    page.keyboard.press("c")
    expect(page.locator(f'.row[data-uid="{ADA}"]')).to_contain_text("claimed by you")
    page.keyboard.press("n")
    page.clock.run_for(3 * 60 * 1000)
    page.keyboard.type("compare with the film of last year")
    page.clock.run_for(2 * 60 * 1000)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".toast", has_text="Note kept.")).to_be_visible()
    assert entry_of(room, ADA).note == "compare with the film of last year"


def test_a_panels_buttons_are_for_the_study_that_it_shows(room: Stage, open_page: Opener) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    show(page, ADA)
    page.keyboard.press("c")
    done = page.locator(".panel [data-do=complete]")
    expect(done).to_be_visible()
    hold(page, DAVID)
    choose(page, DAVID)
    page.get_by_role("button", name="Disagree on Tuberculosis").click()
    expect(page.locator(".toast", has_text="Disagreement kept.")).to_be_visible()
    with room.db.read() as session:
        said = session.scalars(select(Study.study_uid).join(Feedback, Feedback.study_id == Study.id)).all()
    assert said == [ADA]
    page.locator(".panel [data-ask=note]").click()
    page.locator("#ask-text").fill("for the one that is shown")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".panel")).to_contain_text("for the one that is shown")
    assert entry_of(room, ADA).note == "for the one that is shown"
    done.click()
    expect(page.locator(f'.row[data-uid="{ADA}"]')).to_have_count(0)
    assert entry_of(room, ADA).state is EntryState.READ
    other = entry_of(room, DAVID)
    assert (other.state, other.note) == (EntryState.WAITING, "")


def test_the_viewer_opens_on_the_chosen_study_and_not_on_the_one_that_is_still_shown(
    room: Stage, open_page: Opener
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    page.context.route("https://viewer.invalid/**", lambda route: route.fulfill(body="the viewer"))
    show(page, ADA)
    hold(page, DAVID, times=1)
    with page.expect_request(f"**/studies/{DAVID}"):
        choose(page, DAVID)
    expect(page.locator(".panel")).to_have_attribute("data-uid", ADA)
    with page.expect_popup() as opened:
        page.keyboard.press("v")
    assert opened.value.url.endswith(DAVID)


def test_a_late_answer_does_not_put_another_study_beside_the_chosen_one(
    room: Stage, open_page: Opener
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    show(page, ADA)
    held = hold(page, DAVID)
    with page.expect_request(f"**/studies/{DAVID}"):
        choose(page, DAVID)
    show(page, GRETA)
    with page.expect_response(f"**/studies/{DAVID}"):
        held[0].continue_()
    # Two frames later the page has done with the answer what it does with it.
    page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    expect(page.locator(".panel")).to_have_attribute("data-uid", GRETA)


def test_a_study_that_can_not_be_read_leaves_no_other_one_beside_its_row(
    room: Stage, open_page: Opener, complaints: list[str]
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    show(page, ADA)
    page.route(f"**/studies/{DAVID}", lambda route: route.fulfill(status=503, body="overloaded"))
    choose(page, DAVID)
    expect(page.locator(".side")).to_contain_text("answered 503")
    expect(page.locator(".panel")).to_have_count(0)
    page.unroute(f"**/studies/{DAVID}")
    reading_room.arrive(room.db, 900, clock())
    expect(page.locator(".panel")).to_have_attribute("data-uid", DAVID)
    complaints.clear()  # the browser reports the 503
