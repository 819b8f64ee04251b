// The live stream, and the banner when it is silent: an old list never looks fresh.

import { clockWords, setServiceTime } from "./time.js";

// The service speaks every two seconds; a stream that broke is opened again within one.
const SILENCE = 4000; // milliseconds
const BROKEN = 1500; // milliseconds

const banner = document.getElementById("banner");
const sign = document.getElementById("live");

let lastHeard = Date.now();
let lastFresh = Date.now();
let brokenAt = 0;
let problem = "";
let source = null;

function show() {
  const now = Date.now();
  const silent = now - lastHeard > SILENCE || (brokenAt > 0 && now - brokenAt > BROKEN);
  const text = problem || (silent ? "The service does not answer." : "");
  const dead = text !== "";
  document.body.classList.toggle("stale", dead);
  sign.classList.toggle("dead", dead);
  sign.classList.toggle("waiting", false);
  const words = dead ? `as of ${clockWords(lastFresh)}` : "live";
  if (sign.textContent !== words) sign.textContent = words;
  const sentence = dead
    ? `${text} What you see is as old as ${clockWords(lastFresh)}; it renews itself as soon as the service is back.`
    : "";
  if (banner.textContent !== sentence) banner.textContent = sentence;
  banner.hidden = !dead;
}

function heard(event) {
  lastHeard = Date.now();
  brokenAt = 0;
  const said = JSON.parse(event.data);
  setServiceTime(said.at);
  problem = said.healthy ? "" : "The service can't read its list.";
}

/** Say that what the page shows was just read. */
export function fresh() {
  lastFresh = Date.now();
}

/** Say that a refresh failed, until the next one works. */
export function failed(sentence) {
  problem = sentence;
  show();
}

export function worked() {
  problem = "";
  fresh();
  show();
}

/** Call `changed` for each change of the list; keep the banner true. */
export function listen(changed) {
  const connect = () => {
    source = new EventSource("/api/v1/events");
    source.addEventListener("list", (event) => {
      heard(event);
      show();
      changed();
    });
    source.addEventListener("beat", (event) => {
      heard(event);
      if (!problem) fresh();
      show();
    });
    source.onerror = () => {
      brokenAt ||= Date.now();
      // A refused stream (a lost session) is never tried again by the browser itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    };
  };
  connect();
  setInterval(show, 500);
  document.addEventListener("visibilitychange", show);
  addEventListener("pagehide", () => source?.close());
}
