// One study beside the list, or on its own page.

import { bytes, fragment } from "./api.js";
import { tell } from "./dialogs.js";
import { Film } from "./film.js";
import { failed, worked } from "./live.js";
import { localise } from "./time.js";

const side = document.getElementById("side");
const whole = side?.dataset.page === "study";
const wide = matchMedia("(min-width: 100rem)");
// A reader who steps through the list must not ask for every film on the way.
const REST = 160; // milliseconds

let shown = null;
let timer = 0;
let wanted = null; // the study that stands beside the list, or is on its way there

export function article() {
  return side?.querySelector(".panel") ?? null;
}

/** Whether a study is shown beside the list. */
export function beside() {
  return Boolean(side) && !whole && wide.matches;
}

export function film() {
  return shown;
}

function bring() {
  const section = side.querySelector(".film");
  shown = section && new Film(section);
  shown?.load();
}

async function read(uid) {
  const text = await fragment(`/studies/${uid}`, whole ? "whole" : "panel");
  return new DOMParser().parseFromString(text, "text/html").querySelector(".panel");
}

/** Show a study beside the list; when it can't be read, no other one stands there in its place. */
export function show(uid) {
  if (!beside() || uid === wanted) return;
  clearTimeout(timer);
  wanted = uid;
  if (article()?.dataset.uid === uid) return;
  timer = setTimeout(async () => {
    const fresh = await read(uid).catch(excuse);
    // The reader may have moved on while it was read.
    if (wanted !== uid) return;
    side.replaceChildren(fresh);
    if (!article()) wanted = null;
    localise(side);
    bring();
  }, REST);
}

function excuse(error) {
  const words = document.createElement("p");
  words.className = "empty";
  words.textContent = `${error.message} It is tried again when the list is renewed.`;
  return words;
}

/** Read the study again, but leave the film as it is: its window is the reader's. */
export async function renew(uid = article()?.dataset.uid) {
  const old = article();
  if (!old || !uid || old.dataset.uid !== uid) return;
  try {
    const fresh = await read(uid);
    const now = article();
    if (!now || now.dataset.uid !== uid) return;
    const had = document.activeElement;
    const within = now.contains(had) && !had.closest(".film") ? had.dataset : null;
    fresh.querySelector(".film").replaceWith(now.querySelector(".film"));
    // A heat map that the reader asked for stays; it takes seconds to make.
    const heat = now.querySelector(".heat:has([aria-pressed=true])");
    if (heat) fresh.querySelector(".heat")?.replaceWith(heat);
    now.replaceWith(fresh);
    localise(fresh);
    if (within?.do || within?.ask || within?.feedback) (again(fresh, within) ?? fresh.querySelector(".actions button"))?.focus();
    // Who reads the explanation goes on reading it when the panel is brought up to date.
    if (within && "why" in within) fresh.querySelector("[data-why]")?.focus();
    if (whole) worked();
  } catch (error) {
    if (whole) failed(error.message);
  }
}

function again(root, { do: deed, ask, feedback, agrees }) {
  if (deed) return root.querySelector(`[data-do="${deed}"]`);
  if (ask) return root.querySelector(`[data-ask="${ask}"]`);
  return root.querySelector(`[data-feedback="${feedback}"][data-agrees="${agrees}"]`);
}

/** Show why a study stands where it stands: beside the list, or in a dialog. */
export async function why(uid) {
  if (!uid) return tell("Choose a study first: j and k move.", true);
  const here = article();
  if (here?.dataset.uid === uid && side.offsetParent !== null) {
    const section = here.querySelector("[data-why]");
    section.scrollIntoView({ block: "nearest" });
    section.focus();
    return;
  }
  try {
    const terms = (await read(uid)).querySelector("[data-why]");
    terms.querySelector("h2, h3").remove();
    document.getElementById("why-body").replaceChildren(...terms.childNodes);
    document.getElementById("why").showModal();
  } catch (error) {
    tell(error.message, true);
  }
}

/** Open the site's viewer on a study, which may not stand beside the list, or not yet. */
export async function view(uid) {
  if (!uid) return tell("Choose a study first: j and k move.", true);
  try {
    const here = article()?.dataset.uid === uid ? article() : await read(uid);
    const link = here.querySelector("[data-viewer]");
    // A link of a parsed text leads nowhere until it belongs to this page.
    if (link) document.adoptNode(link.cloneNode(true)).click();
    else tell("No viewer is configured here.", true);
  } catch (error) {
    tell(error.message, true);
  }
}

const RESEARCH = "Research only. Bright is what moved the number, not where a disease is.";

/** Show what moved a finding's number, or hide it again; made only when a reader asks. */
export async function heat(button) {
  const section = button.closest(".heat");
  const figure = section.querySelector("figure");
  const [picture, words] = figure.children;
  const wanted = button.getAttribute("aria-pressed") !== "true";
  for (const other of section.querySelectorAll("[data-heat]")) other.setAttribute("aria-pressed", String(other === button && wanted));
  picture.removeAttribute("src");
  picture.alt = "";
  figure.hidden = !wanted;
  if (!wanted) return;
  words.textContent = "The heat map is being made …";
  const address = `${section.dataset.source}?finding=${button.dataset.heat}`;
  try {
    await bytes(address);
    if (button.getAttribute("aria-pressed") !== "true") return;
    picture.src = address;
    picture.alt = `Heat map for ${button.textContent}; research only`;
    words.textContent = RESEARCH;
  } catch (error) {
    words.textContent = error.message;
  }
}

export function start() {
  if (whole) bring();
}
