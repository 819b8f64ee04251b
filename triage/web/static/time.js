// Waiting times that go on between two refreshes, by the service's clock and not by this computer's.

let ahead = 0; // milliseconds by which the service's clock is ahead of ours

export function setServiceTime(text) {
  const there = Date.parse(text);
  if (!Number.isNaN(there)) ahead = there - Date.now();
}

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const hours = Math.floor(whole / 3600);
  const days = Math.floor(whole / 86400);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${String(minutes % 60).padStart(2, "0")}`;
  return minutes ? `${minutes} min` : `${whole} s`;
}

export function clockWords(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], { hour12: false });
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function tick(root = document) {
  const now = (Date.now() + ahead) / 1000;
  for (const row of root.querySelectorAll(".row")) {
    const since = row.querySelector("[data-since]");
    const due = row.querySelector("[data-due]");
    if (!since || !due) continue;
    const arrived = Number(since.dataset.since);
    const until = Number(due.dataset.due);
    write(since, span(now - arrived));
    const left = until - now;
    write(due, left >= 0 ? `due in ${span(left)}` : `overdue ${span(-left)}`);
    due.classList.toggle("late", left < 0);
    const share = until > arrived ? Math.min(100, Math.max(0, (100 * (now - arrived)) / (until - arrived))) : 100;
    const bar = row.querySelector("svg.due");
    bar.querySelector(".fill").setAttribute("width", String(Math.round(share)));
    bar.classList.toggle("over", left < 0);
    bar.classList.toggle("near", left >= 0 && share >= 75);
  }
}

/** Local times beside the written UTC ones. */
export function localise(root) {
  for (const time of root.querySelectorAll("time[data-clock]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = `${time.dateTime} (UTC)`;
    time.textContent = at.toLocaleString([], {
      month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
    });
  }
}
