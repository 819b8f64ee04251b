"""How the page looks: accessible, on a phone and on a wall, with pictures for the documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Opener
from tests.browser.stage import READERS, ROOT, Stage
from tests.peers import need
from tests.reading_room import uid_of

AXE = Path(__file__).resolve().parent / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = (
    "/",
    "/mine",
    "/not-evaluated",
    "/problems",
    "/history",
    "/statistics",
    f"/studies/{uid_of(1)}",
    "/?q=ada",
)


def _violations(page: Page) -> list[str]:
    found = page.evaluate("async rules => (await axe.run({runOnly: rules})).violations", RULES)
    return [f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}" for v in found]


def _axe() -> tuple[Path, ...]:
    need(AXE.exists(), "axe-core (sh tests/browser/install.sh)")
    return (AXE,)


def test_axe_finds_nothing_and_nothing_needs_sideways_scrolling(room: Stage, open_page: Opener) -> None:
    page = open_page(f"{room.address}/login", scripts=_axe())
    assert _violations(page) == []
    page.goto(room.way_in(READERS[0]))
    for path in PAGES:
        page.goto(room.address + path)
        expect(page.locator("#live")).to_have_text("live")
        for width in (3840, 1680, 360):
            page.set_viewport_size({"width": width, "height": 900})
            beyond = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert beyond <= 0, (path, width)
            if width != 3840:
                assert _violations(page) == [], (path, width)


def test_axe_finds_nothing_while_the_page_is_used(room: Stage, open_page: Opener) -> None:
    page = open_page(room.way_in(READERS[0]), scripts=_axe())
    page.keyboard.press("j")
    expect(page.locator(".panel")).to_have_count(1)
    page.keyboard.press("c")
    expect(page.locator(".row").first).to_contain_text("claimed by you")
    assert _violations(page) == [], "with a claimed and chosen study"
    page.keyboard.press("?")
    assert _violations(page) == [], "help"
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    assert _violations(page) == [], "the question of a pin"


def test_a_row_can_be_touched_on_a_phone(room: Stage, open_page: Opener) -> None:
    page = open_page(room.way_in(READERS[0]), width=360, height=740)
    page.locator(".row .pick").first.click()
    expect(page.locator(".panel [data-do=claim]")).to_be_visible()
    page.locator(".panel [data-do=claim]").click()
    expect(page.locator(".panel [data-do=complete]")).to_be_visible()


def test_a_button_is_out_of_reach_until_it_can_act(room: Stage, open_page: Opener) -> None:
    page = open_page(room.way_in(READERS[0]))
    held: list[Route] = []
    page.route("**/static/page.js", lambda route: held.append(route))
    page.goto(f"{room.address}/studies/{uid_of(1)}", wait_until="commit")
    claim = page.locator(".panel [data-do=claim]")
    expect(claim).to_have_css("pointer-events", "none")
    held[0].continue_()
    claim.click()
    expect(page.locator(".panel [data-do=complete]")).to_be_visible()


def test_the_film_answers_to_window_level_zoom_and_inversion(room: Stage, open_page: Opener) -> None:
    page = open_page(room.way_in(READERS[0]))
    page.goto(f"{room.address}/studies/{uid_of(1)}")
    film_is_there(page)
    middle = """canvas => [...canvas.getContext("2d")
        .getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].slice(0, 3)"""
    canvas = page.locator(".film canvas")
    plain = canvas.evaluate(middle)
    page.keyboard.press("i")
    inverted = canvas.evaluate(middle)
    assert all(abs(a + b - 255) <= 2 for a, b in zip(plain, inverted, strict=True))
    page.keyboard.press("0")
    assert canvas.evaluate(middle) == plain
    page.locator("[data-knob=level]").fill("255")
    assert sum(canvas.evaluate(middle)) < sum(plain)
    page.locator("[data-knob=zoom]").fill("300")
    corner = (
        """canvas => [...canvas.getContext("2d").getImageData(1, canvas.height / 2, 1, 1).data].slice(0, 3)"""
    )
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    assert canvas.evaluate(corner) == [0, 0, 0], "beside the film"
    page.keyboard.press("+")
    for _ in range(6):
        page.keyboard.press("+")
    assert canvas.evaluate(corner) != [0, 0, 0], "zoomed in, the film fills the width"


@pytest.mark.skipif(os.environ.get("TRIAGE_SCREENSHOTS") != "1", reason="TRIAGE_SCREENSHOTS=1 takes pictures")
@pytest.mark.parametrize(
    ("name", "width", "height"),
    [("worklist", 1920, 1080), ("page-phone", 360, 740), ("page-wall", 3840, 2160)],
)
def test_pictures_for_the_documents(
    room: Stage, open_page: Opener, name: str, width: int, height: int
) -> None:
    page = open_page(room.way_in(READERS[0]), width=width, height=height)
    expect(page.locator("#live")).to_have_text("live")
    for _ in range(4):
        page.keyboard.press("j")
    if width > 1600:
        film_is_there(page)
    take(page, ROOT / "docs" / f"{name}.png")
    if width == 1920:
        page.goto(f"{room.address}/studies/{uid_of(1)}")
        film_is_there(page)
        take(page, ROOT / "docs" / "page-study.png")


def film_is_there(page: Page) -> None:
    expect(page.locator(".film canvas")).to_be_visible()
    expect(page.locator(".glass p")).to_be_hidden()


def take(page: Page, path: Path) -> None:
    """Write a picture of at most 300 kB: 128 colours are enough for a dark page."""
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if picture.width > 2000:
        picture = picture.resize((1920, 1080), Image.Resampling.LANCZOS)
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size <= 300_000
