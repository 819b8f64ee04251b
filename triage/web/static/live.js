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
let unwell = ""; // what the service says of itself
let unread = ""; // why the page could not be renewed: only a renewal that works ends this
const owed = []; // when each change was heard whose renewal is still on its way
let source = null;

function show() {
  const now = Date.now();
  const late = owed.length > 0 && now - owed[0] > SILENCE;
  const silent = late || now - lastHeard > SILENCE || (brokenAt > 0 && now - brokenAt > BROKEN);
  const text = unread || unwell || (silent ? "The service does not answer." : "");
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
  unwell = said.healthy ? "" : "The service can't read its list.";
}

/** Say that a renewal failed, until the next one works. */
export function failed(sentence) {
  unread = sentence;
  show();
}

/** Say that what the page shows was just read. */
export function worked() {
  unread = "";
  lastFresh = Date.now();
  show();
}

/**
 * Call `changed` for each change of the list, and with each beat after a renewal that failed; keep the banner
 * true. The promise that `changed` returns is kept when its renewal has ended, well or not.
 */
export function listen(changed) {
  const renew = () => {
    owed.push(Date.now());
    changed().finally(() => owed.shift());
  };
  const connect = () => {
    source = new EventSource("/api/v1/events");
    source.addEventListener("list", (event) => {
      heard(event);
      show();
      renew();
    });
    source.addEventListener("beat", (event) => {
      heard(event);
      // A beat says that nothing has changed since; what was not read then is as old as before.
      if (unread && !owed.length) renew();
      if (!unread && !unwell && !owed.length) lastFresh = Date.now();
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
