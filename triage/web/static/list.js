// The rows: renewed in place, without moving what is under the reader's hand.

import { fragment } from "./api.js";
import { failed, worked } from "./live.js";
import { tick } from "./time.js";

const rows = document.getElementById("rows");
const settleButton = document.getElementById("settle");

let running = null; // the refresh that is on its way
let queued = null; // the one that follows it
let settling = false; // asked for, also while a refresh is on its way

export const list = rows;

export function all() {
  return rows ? [...rows.querySelectorAll(".row")] : [];
}

/**
 * The order to show. The first `freeze` rows stay as they are while they are in the list, and what the reader
 * has claimed stays where it is; STAT that came in goes above; everything else stands in reading order.
 * Each row is {uid, band, claimed}; returns uids.
 */
export function arrange(shown, incoming, freeze) {
  const present = new Map(incoming.map((row, place) => [row.uid, { ...row, place }]));
  const claimed = shown.filter((uid) => present.get(uid)?.claimed);
  const held = shown.filter((uid) => present.has(uid) && !present.get(uid).claimed).slice(0, freeze);
  const order = incoming.filter((row) => !claimed.includes(row.uid)).map((row) => row.uid);
  const isStat = (uid) => present.get(uid).band === 0;
  // A row that became STAT under the hand goes up with the others: STAT is a human's word.
  const top = order.filter(isStat);
  const still = held.filter((uid) => !isStat(uid));
  const placed = new Set([...top, ...still]);
  const result = [...top, ...still, ...order.filter((uid) => !placed.has(uid))];
  const risen = top.filter((uid) => !shown.includes(uid)).length;
  for (const uid of claimed) result.splice(shown.indexOf(uid) + risen, 0, uid);
  return result;
}

function describe(row) {
  return { uid: row.dataset.uid, band: Number(row.dataset.band), claimed: row.dataset.status === "claimed" };
}

function mark(known, renewed) {
  let waitingAbove = 0;
  let lowest = 0;
  for (const row of all()) {
    const position = Number(row.dataset.position);
    const sign = row.querySelector(".mark");
    const ahead = renewed && position > 0 && position < lowest;
    sign.hidden = !ahead;
    sign.textContent = ahead ? "▲ goes up" : "";
    if (ahead) waitingAbove += 1;
    lowest = Math.max(lowest, position);
    row.classList.toggle("newcomer", known !== null && !known.has(row.dataset.uid));
  }
  settleButton.hidden = waitingAbove === 0;
}

function keepScroll(row, work) {
  const before = row?.isConnected ? row.getBoundingClientRect().top : null;
  work();
  if (before !== null && row.isConnected) scrollBy(0, row.getBoundingClientRect().top - before);
}

function replace(text, freeze) {
  const parsed = new DOMParser().parseFromString(text, "text/html").querySelector("ol.rows");
  const fresh = new Map([...parsed.querySelectorAll(".row")].map((row) => [row.dataset.uid, row]));
  const old = new Map(all().map((row) => [row.dataset.uid, row]));
  const order = arrange([...old.keys()], [...fresh.values()].map(describe), freeze);
  const current = rows.querySelector('.row[aria-current="true"]');
  const focused = rows.contains(document.activeElement) ? document.activeElement.closest(".row")?.dataset.uid : null;
  keepScroll(current, () => {
    for (const [uid, row] of old) if (!fresh.has(uid)) row.remove();
    order.forEach((uid, index) => {
      const row = old.get(uid) ?? fresh.get(uid);
      if (old.has(uid)) renew(row, fresh.get(uid));
      if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index] ?? null);
    });
  });
  mark(new Set(old.keys()), true);
  rows.dataset.total = parsed.dataset.total;
  document.getElementById("total").textContent = parsed.dataset.total;
  document.getElementById("empty").hidden = order.length > 0;
  if (focused && !rows.contains(document.activeElement)) {
    rows.querySelector(`[data-uid="${CSS.escape(focused)}"] .pick`)?.focus({ preventScroll: true });
  }
}

function renew(row, fresh) {
  const current = row.getAttribute("aria-current");
  if (row.dataset.etag !== fresh.dataset.etag || row.dataset.position !== fresh.dataset.position
      || row.textContent !== fresh.textContent) {
    const hadFocus = row.contains(document.activeElement);
    row.replaceChildren(...fresh.childNodes);
    if (hadFocus) row.querySelector(".pick").focus({ preventScroll: true });
  }
  for (const { name, value } of [...fresh.attributes]) if (name !== "class") row.setAttribute(name, value);
  row.className = fresh.className;
  if (current) row.setAttribute("aria-current", current);
}

async function once() {
  try {
    const text = await fragment(rows.dataset.live, "rows");
    const shown = new Map(all().map((row) => [row.dataset.uid, { ...row.dataset }]));
    replace(text, settling ? 0 : Number(rows.dataset.freeze));
    settling = false;
    worked();
    tick();
    document.dispatchEvent(new CustomEvent("triage:renewed", { detail: { shown } }));
  } catch (error) {
    failed(error.message);
  }
}

function begin() {
  running = once().finally(() => { running = null; });
  return running;
}

/**
 * Read the list again; `settle` puts newcomers in their place. Refreshes never overlap; the promise is kept
 * when a refresh that began after the call has ended, so its caller sees what it did itself.
 */
export function refresh({ settle = false } = {}) {
  if (!rows) return Promise.resolve();
  settling ||= settle;
  if (!running) return begin();
  queued ??= running.then(() => {
    queued = null;
    return begin();
  });
  return queued;
}

settleButton?.addEventListener("click", () => refresh({ settle: true }));
