"""An old page never looks fresh, and becomes fresh by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests import reading_room
from tests.browser.conftest import Opener
from tests.browser.stage import READERS, Stage, clock
from tests.browser.test_reading import live
from tests.reading_room import uid_of
from triage.worklist import actions

NEW = 800


def hinder(page: Page, address: str) -> list[Route]:
    """Let the service fail at an address; returns the requests that failed, as they come."""
    failed: list[Route] = []

    def refuse(route: Route) -> None:
        failed.append(route)
        route.fulfill(status=503, body="overloaded")

    page.route(address, refuse)
    return failed


def wait_for(page: Page, requests: list[Route], count: int) -> None:
    for _ in range(400):
        if len(requests) >= count:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"the page asked {len(requests)} times and not {count}")


def note_each_look(page: Page) -> None:
    page.evaluate(
        """() => {
             window.looks = [];
             new MutationObserver(() => window.looks.push(document.body.classList.contains("stale")))
               .observe(document.body, {attributes: true, attributeFilter: ["class"]});
           }"""
    )


@pytest.mark.parametrize("place", ["list", "study"])
def test_what_could_not_be_renewed_stays_old_until_a_renewal_works(
    room: Stage, open_page: Opener, complaints: list[str], place: str
) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    if place == "study":
        page.goto(f"{room.address}/studies/{uid_of(1)}")
        live(page)
    failed = hinder(page, page.url)
    note_each_look(page)
    # The only change for a long time.
    if place == "list":
        reading_room.arrive(room.db, NEW, clock(), priority="STAT")
    else:
        with room.db.write() as session:
            actions.claim(session, uid_of(1), "dr.elsewhere", clock())
    expect(page.locator("#banner")).to_contain_text("answered 503")
    since = page.locator("#live").inner_text()
    assert since.startswith("as of ")
    wait_for(page, failed, 4)
    assert page.locator("#live").inner_text() == since, "it is as old as it was"
    assert set(page.evaluate("() => window.looks")) == {True}, "it never looked fresh"
    page.unroute(page.url)
    expect(page.locator("#banner")).not_to_be_visible()
    expect(page.locator("#live")).to_have_text("live")
    if place == "list":
        expect(page.locator(f'.row[data-uid="{uid_of(NEW)}"]')).to_contain_text("STAT")
    else:
        expect(page.locator(".panel")).to_contain_text("claimed by dr.elsewhere")
    complaints.clear()  # the browser reports each 503


def test_a_renewal_without_an_end_is_said_and_given_up(room: Stage, open_page: Opener) -> None:
    page = live(open_page(room.way_in(READERS[0])))
    held: list[Route] = []
    page.route(page.url, lambda route: held.append(route), times=1)
    reading_room.arrive(room.db, NEW, clock(), priority="STAT")
    expect(page.locator("#banner")).to_contain_text("does not answer", timeout=6000)
    expect(page.locator("#banner")).not_to_be_visible()
    expect(page.locator(f'.row[data-uid="{uid_of(NEW)}"]')).to_contain_text("STAT")
