// The keyboard: single keys, never while the reader writes, never with Ctrl, Alt or Meta.

const GO = 1200; // milliseconds for the second key after g

function writing(target) {
  return target.matches("textarea, select") || (target.matches("input") && target.type !== "range");
}

/** `keys` maps a key to what it does; `places` maps the key after g to an address. */
export function bindKeys(keys, places) {
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const { target, key } = event;
    if (document.querySelector("dialog[open]")) return;
    if (key === "Escape") {
      keys.Escape();
      return;
    }
    if (writing(target)) return;
    if (Date.now() - going < GO && places[key]) {
      going = 0;
      event.preventDefault();
      location.assign(places[key]);
      return;
    }
    if (key === "g") {
      going = Date.now();
      return;
    }
    const natural = key === "Enter" && target.closest("a, button");
    const arrows = key.startsWith("Arrow") && (target.type === "range" || target.closest(".side, .panel"));
    if (natural || arrows || !keys[key]) return;
    event.preventDefault();
    keys[key]();
  });
}
