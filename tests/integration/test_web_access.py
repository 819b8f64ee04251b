"""Who gets in: each route is tried without, with too small and with a sufficient credential."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from tests import reading_room
from tests.web_room import PASSWORD, Room, open_room
from triage.store import accounts
from triage.store.accounts import Role
from triage.web.access import COOKIE
from triage.web.app import role_of
from triage.web.trail import EACH_ALERT

#: All that a stranger may have.
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/once/{secret}"),
    ("GET", "/static/triage.css"),
    ("GET", "/static/icon.svg"),
}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as opened:
        reading_room.fill(opened.db, opened.clock(), 3)
        yield opened


def routes_of(room: Room) -> list[tuple[str, APIRoute]]:
    found = []
    for route in room.app.routes:
        assert isinstance(route, APIRoute), route
        found += [(method, route) for method in sorted(route.methods or ())]
    assert len(found) > 25
    return found


def address(route: APIRoute) -> str:
    return route.path.format(
        uid=reading_room.uid_of(1), secret="x", name="page.js", workitem="1.2.3", aet="X", number=1
    )


def test_a_stranger_gets_nothing_but_the_open_addresses(room: Room) -> None:
    for method, route in routes_of(room):
        answer = room.client.request(method, address(route))
        if (method, route.path) in OPEN:
            assert answer.status_code != 401 or "Log in" in answer.text, route.path
        else:
            assert answer.status_code == 401, (method, route.path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "SYNTHETIC" not in answer.text


def test_unknown_addresses_are_closed_too(room: Room) -> None:
    assert room.client.get("/nothing/here").status_code == 401
    assert room.client.get("/docs").status_code == 401
    assert room.client.get("/nothing/here", headers=room.bearer()).status_code == 404


@pytest.mark.parametrize("secret", ["wrong", "", "Bearer", "é" * 10, "x" * 5000])
def test_a_wrong_token_is_no_token(room: Room, secret: str) -> None:
    answer = room.client.get("/api/v1/worklist", headers={"Authorization": f"Bearer {secret}".encode()})
    assert answer.status_code == 401


def test_every_route_refuses_a_role_that_is_too_small(room: Room) -> None:
    tried = 0
    for method, route in routes_of(room):
        needed = role_of(route)
        if (method, route.path) in OPEN or needed is None:
            continue
        for role in Role:
            if role.allows(needed.role):
                continue
            tried += 1
            answer = room.client.request(method, address(route), headers=room.bearer(role))
            assert answer.status_code == 403, (method, route.path, role)
    assert tried > 8


def test_the_roles_are_those_of_the_contract(room: Room) -> None:
    for method, route in routes_of(room):
        needed = role_of(route)
        if (method, route.path) in OPEN:
            assert needed is None
            continue
        assert needed is not None
        if method not in ("GET", "HEAD") and route.path != "/logout":
            assert needed.role.allows(Role.RADIOLOGIST), route.path
    policy = next(r for m, r in routes_of(room) if (m, r.path) == ("PUT", "/api/v1/policy"))
    assert role_of(policy).role is Role.ADMINISTRATOR  # type: ignore[union-attr]


def login(room: Room, name: str = "person-radiologist", password: str = PASSWORD, **more: str) -> int:
    answer = room.client.post("/login", data={"name": name, "password": password, **more})
    return answer.status_code


def test_a_password_opens_a_session_in_a_safe_cookie(room: Room) -> None:
    assert login(room, password="wrong password") == 401
    answer = room.client.post(
        "/login", data={"name": "person-viewer", "password": PASSWORD, "there": "/mine"}
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/mine"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie, "a loopback page over http must work"
    assert room.client.get("/", headers={"Accept": "text/html"}).status_code == 200
    with room.db.read() as session:
        assert accounts.principal(session, "session", room.client.cookies[COOKIE], room.clock()) is not None


def test_the_cookie_is_secure_over_https(room: Room) -> None:
    room.client.base_url = "https://testserver"  # type: ignore[assignment]
    answer = room.client.post("/login", data={"name": "person-viewer", "password": PASSWORD})
    assert "secure" in answer.headers["set-cookie"].lower()


def test_an_account_that_is_removed_is_out_at_once_and_its_old_session_stays_out(room: Room) -> None:
    page = {"Accept": "text/html"}
    assert login(room) == 303
    assert room.client.get("/", headers=page).status_code == 200
    with room.db.write() as session:
        accounts.remove_account(session, "person-radiologist", room.clock())
    assert room.client.get("/api/v1/worklist").status_code == 401
    assert login(room) == 401
    with room.db.write() as session:
        accounts.create_account(session, "person-radiologist", PASSWORD, Role.VIEWER, room.clock())
    assert room.client.get("/api/v1/worklist").status_code == 401
    assert login(room) == 303


def test_a_token_that_is_revoked_lets_nobody_in(room: Room) -> None:
    assert room.client.get("/api/v1/worklist", headers=room.bearer(Role.VIEWER)).status_code == 200
    with room.db.write() as session:
        assert accounts.revoke_tokens(session, "program-viewer", room.clock()) == 1
    assert room.client.get("/api/v1/worklist", headers=room.bearer(Role.VIEWER)).status_code == 401
    assert room.client.get("/api/v1/worklist", headers=room.bearer(Role.RADIOLOGIST)).status_code == 200


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/login"]
)
def test_a_login_never_leads_away(room: Room, there: str) -> None:
    answer = room.client.post("/login", data={"name": "person-viewer", "password": PASSWORD, "there": there})
    assert answer.headers["location"] == "/"


def test_a_page_leads_a_stranger_to_the_login_and_back(room: Room) -> None:
    answer = room.client.get("/mine", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/mine"


def test_a_change_with_a_cookie_needs_the_token_of_the_page(room: Room) -> None:
    assert login(room) == 303
    uid = reading_room.uid_of(1)
    assert room.client.post(f"/api/v1/studies/{uid}/claim").status_code == 403
    assert (
        room.client.post(f"/api/v1/studies/{uid}/claim", headers={"X-CSRF-Token": "guess"}).status_code == 403
    )
    page = room.client.get("/", headers={"Accept": "text/html"}).text
    csrf = page.split('name="csrf-token" content="')[1].split('"')[0]
    claimed = room.client.post(
        f"/api/v1/studies/{uid}/claim", headers={"X-CSRF-Token": csrf, "If-Match": "*"}
    )
    assert claimed.status_code == 200
    assert claimed.json()["claimed_by"] == "person-radiologist"


def test_another_site_can_send_no_form(room: Room) -> None:
    evil = {"Origin": "https://evil.example"}
    answer = room.client.post("/login", data={"name": "person-viewer", "password": PASSWORD}, headers=evil)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:triage:problem:csrf"


def test_guessing_is_stopped_and_then_forgiven(room: Room) -> None:
    for _ in range(5):
        assert login(room, password="guess number one") == 401
    refused = room.client.post("/login", data={"name": "person-radiologist", "password": PASSWORD})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 901
    assert login(room, name="person-viewer") == 303, "others may still log in"
    room.clock.forward(minutes=16)
    assert login(room) == 303


def test_a_one_time_address_works_once(room: Room) -> None:
    with room.db.write() as session:
        secret = accounts.create_login(session, "demo", Role.ADMINISTRATOR, room.clock())
    answer = room.client.get(f"/login/once/{secret}")
    assert answer.status_code == 303
    assert room.client.get("/api/v1/worklist").status_code == 200
    room.client.cookies.clear()
    assert room.client.get(f"/login/once/{secret}").status_code == 401


def test_a_one_time_address_grows_old(room: Room) -> None:
    with room.db.write() as session:
        secret = accounts.create_login(session, "demo", Role.VIEWER, room.clock())
    room.clock.forward(minutes=16)
    assert room.client.get(f"/login/once/{secret}").status_code == 401


def test_a_session_ends_by_logout_by_time_and_with_its_account(room: Room) -> None:
    assert login(room) == 303
    page = room.client.get("/", headers={"Accept": "text/html"}).text
    csrf = page.split('name="csrf-token" content="')[1].split('"')[0]
    old = room.client.cookies[COOKIE]
    assert room.client.post("/logout", headers={"X-CSRF-Token": csrf, "If-Match": "*"}).status_code == 204
    room.client.cookies.clear()
    assert room.client.get("/api/v1/worklist", headers={"Cookie": f"{COOKIE}={old}"}).status_code == 401
    assert login(room) == 303
    assert room.client.get("/api/v1/worklist").status_code == 200
    room.clock.forward(hours=13)
    assert room.client.get("/api/v1/worklist").status_code == 401
    assert login(room) == 303
    with room.db.write() as session:
        accounts.by_name(session, "person-radiologist").disabled = True  # type: ignore[union-attr]
    assert room.client.get("/api/v1/worklist").status_code == 401


def test_nothing_secret_is_kept_in_the_database(room: Room) -> None:
    assert login(room) == 303
    raw = b"".join(Path(str(room.db.engine.url.database) + tail).read_bytes() for tail in ("", "-wal"))
    for secret in (*room.tokens.values(), room.client.cookies[COOKIE], PASSWORD):
        assert secret.encode() not in raw


def test_every_answer_tells_the_browser_to_be_strict(room: Room) -> None:
    for path in ("/healthz", "/login", "/nothing", "/"):
        headers = room.client.get(path, headers={"Accept": "text/html"}).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"


def test_no_page_has_inline_script_or_style(room: Room) -> None:
    uid = reading_room.uid_of(1)
    for path in ("/", "/mine", "/problems", "/history", "/statistics", "/login", f"/studies/{uid}"):
        text = room.client.get(path, headers=room.bearer()).text
        assert "<style" not in text
        assert " style=" not in text
        assert "<script>" not in text
        assert " onclick=" not in text
        assert "Research use only" in text


def test_the_audit_log_names_who_saw_and_did_what(room: Room) -> None:
    uid = reading_room.uid_of(1)
    radiologist = room.bearer(Role.RADIOLOGIST)
    room.client.get("/api/v1/worklist", headers=radiologist)
    room.client.get(f"/api/v1/studies/{uid}", headers=radiologist)
    room.client.get(f"/api/v1/studies/{uid}/preview.png", headers=radiologist)
    room.client.post(f"/api/v1/studies/{uid}/claim", headers={**radiologist, "If-Match": "*"})
    room.client.post(f"/api/v1/studies/{uid}/claim", headers={**room.bearer(), "If-Match": "*"})
    login(room, password="not the password")
    rows = {(r["event_code"], r["actor"], r["study_instance_uid"], r["outcome"]) for r in room.audit()}
    reader = "program-radiologist"
    assert ("110112", reader, "", 0) in rows, "a query"
    assert ("110110", reader, uid, 0) in rows, "a patient's record"
    assert ("110103", reader, uid, 0) in rows, "a film"
    assert ("110111", reader, uid, 0) in rows, "a claim"
    assert ("110111", "program-administrator", uid, 4) in rows, "a claim that failed"
    assert ("110114", "person-radiologist", "", 4) in rows, "a login that failed"


def alerts(room: Room) -> list[tuple[object, object, object]]:
    rows = [row for row in room.audit() if row["event_code"] == "110113"]
    return [(row["action"], row["outcome"], row["detail"]) for row in rows]


def test_each_stranger_who_is_turned_away_is_an_alert(room: Room) -> None:
    evil = {"Origin": "https://evil.example"}
    for _ in range(2):
        room.client.get("/api/v1/worklist", headers={"Authorization": "Bearer wrong"})
        room.client.post("/login", data={"name": "x", "password": "y"}, headers=evil)
    room.client.get("/api/v1/audit", headers=room.bearer(Role.VIEWER))
    credential = ("E", 4, "an unknown, expired or revoked credential")
    form = ("E", 4, "a form of another site")
    role = ("E", 4, "role viewer where administrator is needed")
    assert sorted(map(str, alerts(room))) == sorted(map(str, [credential] * 2 + [form] * 2 + [role]))


def test_a_stranger_who_tries_on_and_on_does_not_flood_the_audit_log(room: Room) -> None:
    def attempt(times: int) -> None:
        for _ in range(times):
            room.client.get("/api/v1/worklist", headers={"Authorization": "Bearer wrong"})

    attempt(100)
    assert len(alerts(room)) == EACH_ALERT
    for _ in range(3):
        room.clock.forward(minutes=1)
        attempt(5)
    assert len(alerts(room)) == EACH_ALERT + 3, "one a minute as long as it goes on"
    room.clock.forward(minutes=16)
    attempt(2)
    assert len(alerts(room)) == EACH_ALERT + 5, "each again after a rest"


def test_no_audit_row_names_a_patient(room: Room) -> None:
    room.client.get("/?q=SYNTHETIC", headers=room.bearer())
    assert "SYNTHETIC" not in str(room.audit())
