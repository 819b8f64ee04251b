// Short words at the edge, and the few questions that the page asks.

const STAYS = 6000; // milliseconds

export function tell(text, bad = false) {
  const toast = document.createElement("div");
  toast.className = bad ? "toast bad" : "toast";
  toast.textContent = text;
  document.getElementById("toasts").append(toast);
  setTimeout(() => toast.remove(), bad ? 2 * STAYS : STAYS);
}

export function opener(id) {
  return () => document.getElementById(id).showModal();
}

export function closeAll() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/** Ask for a text (and minutes); gives null when the reader thinks better of it. */
export function prompt({ title, hint, label, minutes = "", needed = false }) {
  const dialog = document.getElementById("ask");
  const form = document.getElementById("ask-form");
  const text = document.getElementById("ask-text");
  const number = document.getElementById("ask-minutes");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-hint").textContent = hint;
  document.getElementById("ask-text-label").textContent = label;
  const numberLabel = document.getElementById("ask-minutes-label");
  numberLabel.hidden = !minutes;
  number.disabled = !minutes;
  if (minutes) numberLabel.firstChild.textContent = `${minutes} `;
  text.required = needed;
  text.value = "";
  number.value = Math.min(60, Number(number.max) || 60);
  return new Promise((resolve) => {
    let answer = null;
    const submit = () => { answer = { text: text.value.trim(), minutes: Number(number.value) }; };
    form.addEventListener("submit", submit, { once: true });
    dialog.addEventListener("close", () => {
      form.removeEventListener("submit", submit);
      resolve(answer);
    }, { once: true });
    dialog.showModal();
    (minutes ? number : text).focus();
  });
}

document.querySelector("#ask [data-close]")?.addEventListener("click", () => document.getElementById("ask").close());
document.getElementById("ask-text")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.getElementById("ask-form").requestSubmit();
});
