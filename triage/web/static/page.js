// The page put together: live list, selection, actions, keyboard.

import { post } from "./api.js";
import { closeAll, opener, tell, prompt } from "./dialogs.js";
import { bindKeys } from "./keys.js";
import { listen } from "./live.js";
import * as list from "./list.js";
import * as panel from "./panel.js";
import { localise, setServiceTime, tick } from "./time.js";

setServiceTime(document.body.dataset.now);

const mayRead = document.body.dataset.mayRead === "yes";
let selected = null; // Study Instance UID
const leaving = new Set(); // what the reader's own hand is about to take off this list
let gone = null; // {study, at}: the chosen study that others took off the list
// A key that was meant for a study which has just gone must not fall on the one that took its place.
const MEANT = 1000; // milliseconds

function rowOf(uid) {
  return list.all().find((row) => row.dataset.uid === uid) ?? null;
}

function seenIn(element) {
  return element && { uid: element.dataset.uid, etag: element.dataset.etag };
}

/** The study that a key is meant for, as the reader sees it now. */
function subject() {
  if (gone && Date.now() - gone.at < MEANT) return gone.study;
  return seenIn(rowOf(selected) ?? panel.article());
}

function select(row, { focus = true } = {}) {
  for (const other of list.all()) if (other !== row) other.removeAttribute("aria-current");
  if (!row) return;
  row.setAttribute("aria-current", "true");
  selected = row.dataset.uid;
  gone = null;
  if (focus) row.querySelector(".pick").focus();
  row.scrollIntoView({ block: "nearest" });
  panel.show(selected);
}

function move(step) {
  const rows = list.all();
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.dataset.uid === selected);
  const next = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + step));
  select(rows[next]);
}

/** Do it to the study that the reader meant, and only as the reader saw it: the list may have moved on since. */
async function act(study, verb, body, said) {
  if (!study) return tell("Choose a study first: j and k move.", true);
  if (!mayRead) return tell("Your role may look, but not change the list.", true);
  leaving.add(study.uid);
  try {
    await post(`/api/v1/studies/${study.uid}/${verb}`, body, study.etag);
    tell(said);
  } catch (error) {
    tell(error.message, true);
  }
  await list.refresh();
  leaving.delete(study.uid);
  panel.renew(study.uid);
}

async function shift(study, verb) {
  if (!study) return tell("Choose a study first: j and k move.", true);
  const ahead = verb === "pin";
  const given = await prompt({
    title: ahead ? "Pin ahead" : "Lower",
    hint: "Everybody who asks why sees the reason and your name.",
    minutes: ahead ? "Minutes ahead" : "Minutes back",
    label: "Reason",
    needed: true,
  });
  const said = ahead ? "Pinned ahead." : "Lowered.";
  if (given) await act(study, verb, { minutes: given.minutes, reason: given.text }, said);
}

async function note(study) {
  if (!study) return tell("Choose a study first: j and k move.", true);
  const given = await prompt({ title: "Note", hint: "For the other readers; empty removes it.", label: "Text" });
  if (given) await act(study, "note", { text: given.text }, "Note kept.");
}

// Each takes the study as it was when the reader pressed; a question that stays open never asks for it anew.
const deeds = {
  claim: (study) => act(study, "claim", null, "Claimed: it is yours until you release it or it is done."),
  complete: (study) => act(study, "complete", null, "Done: the study is read."),
  release: (study) => act(study, "release", null, "Released: it waits in its old place."),
};
const questions = { pin: (study) => shift(study, "pin"), lower: (study) => shift(study, "lower"), note };

/** Send a dead letter again; its row says so until the page is read anew. */
async function retry(button) {
  button.disabled = true;
  try {
    await post(`/api/v1/results/${button.dataset.retry}/retry`, null, button.dataset.etag);
    button.textContent = "On its way";
    tell("On its way again; it comes back here if it is not taken.");
  } catch (error) {
    button.disabled = false;
    tell(error.message, true);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.retry) retry(button);
  if (button?.dataset.heat) panel.heat(button);
  // A panel's buttons are for the study that the panel shows, whatever is chosen in the list by now.
  const study = seenIn(button?.closest(".panel"));
  if (button?.dataset.do) deeds[button.dataset.do](study);
  if (button?.dataset.ask) questions[button.dataset.ask](study);
  if (button?.dataset.feedback) {
    const agrees = button.dataset.agrees === "yes";
    const said = agrees ? "Agreement kept." : "Disagreement kept.";
    act(study, "feedback", { finding: button.dataset.feedback, agrees }, said);
  }
  const row = event.target.closest(".row");
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey);
  if (row && plain && panel.beside() && event.target.closest(".pick")) {
    event.preventDefault();
    select(row);
  }
});

document.addEventListener("focusin", (event) => {
  const row = event.target.closest?.(".row");
  if (row && row.dataset.uid !== selected) select(row, { focus: false });
});

/** Choose the row at the place of the chosen one, which was among the rows `shown` and has left the list. */
function succeed(shown) {
  const uids = [...shown.keys()];
  const place = uids.indexOf(selected);
  if (place < 0) return;
  const study = shown.get(selected);
  const next = uids.slice(place + 1).map(rowOf).find(Boolean) ?? list.all().at(-1) ?? null;
  const byOthers = !leaving.has(selected);
  const busy = document.querySelector("dialog[open]") || document.activeElement.matches("input, textarea, select");
  selected = null;
  select(next, { focus: !busy });
  gone = byOthers ? { study, at: Date.now() } : null;
}

document.addEventListener("triage:renewed", (event) => {
  const row = rowOf(selected);
  if (!row) return succeed(event.detail.shown);
  row.setAttribute("aria-current", "true");
  panel.show(selected);
  const shown = panel.article();
  if (shown && shown.dataset.uid === selected && shown.dataset.etag !== row.dataset.etag) panel.renew(selected);
});

document.getElementById("logout")?.addEventListener("click", async () => {
  await post("/logout").catch(() => undefined);
  location.assign("/login");
});
document.getElementById("help-button")?.addEventListener("click", opener("help"));

const places = { w: "/", m: "/mine", n: "/not-evaluated", p: "/problems", h: "/history", s: "/statistics" };

bindKeys({
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Enter: () => selected && rowOf(selected) && location.assign(`/studies/${selected}`),
  c: () => deeds.claim(subject()),
  d: () => deeds.complete(subject()),
  r: () => deeds.release(subject()),
  p: () => questions.pin(subject()),
  l: () => questions.lower(subject()),
  n: () => questions.note(subject()),
  w: () => panel.why(subject()?.uid),
  v: () => panel.view(subject()?.uid),
  i: () => panel.film()?.invert(),
  "+": () => panel.film()?.zoomTo(panel.film().zoom * 1.25),
  "-": () => panel.film()?.zoomTo(panel.film().zoom / 1.25),
  0: () => panel.film()?.reset(),
  ".": () => list.refresh({ settle: true }),
  "/": () => document.getElementById("search").focus(),
  "?": opener("help"),
  Escape: () => {
    closeAll();
    const row = rowOf(selected);
    if (row) row.querySelector(".pick").focus();
    else document.activeElement?.blur();
  },
}, places);

// A claim is kept alive by the reader's own hand, never by an open tab alone.
let lastHand = Date.now();
for (const kind of ["keydown", "pointerdown", "wheel"]) addEventListener(kind, () => { lastHand = Date.now(); }, { passive: true });
const ALIVE = 4 * 60 * 1000;
setInterval(() => {
  // A sign of life changes the study's ETag, and the answer to an open question would be refused for it.
  if (Date.now() - lastHand > ALIVE || document.getElementById("ask").open) return;
  const mine = document.querySelectorAll('.row[data-status="claimed"][data-mine="yes"], .panel[data-status="claimed"][data-mine="yes"]');
  for (const uid of new Set([...mine].map((element) => element.dataset.uid))) {
    post(`/api/v1/studies/${uid}/claim`).catch(() => undefined);
  }
}, ALIVE);

localise(document);
tick();
setInterval(tick, 5000);
panel.start();
document.body.classList.remove("early");
listen(() => (list.list ? list.refresh() : panel.renew()));
