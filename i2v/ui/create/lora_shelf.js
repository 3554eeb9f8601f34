// The rows of LoRAs and the field in which they are typed say the same thing: the field holds it, the rows show it.
// A row that is ticked or weighed asks for another value of the field, and nothing else is sent.
const rows = () => [...element.querySelectorAll("[data-lora]")];
const shownRows = () => rows().filter((row) => !row.hidden);
const part = (row, kind) => row.querySelector(`input[type=${kind}]`);
const number = (text) => (text.trim() === "" ? NaN : Number(text));
let pending = null; // the row that was changed, until the field has it
// The control that has the focus, to find it again in rows that are drawn anew: its row's name, its place in the row,
// and the row's place, for when the row itself has gone.
let last = null;
let sought = ""; // what was typed to find a row

// Which row a typed text names, and how strongly: the last colon parts them where a file's name stands before it.
const parted = (typed) => {
  const of = (name) => rows().find((row) => row.dataset.lora === name || `${row.dataset.lora}.safetensors` === name);
  const colon = typed.lastIndexOf(":");
  const before = colon > 0 && of(typed.slice(0, colon).trim());
  if (before && Number.isFinite(number(typed.slice(colon + 1)))) return [before, number(typed.slice(colon + 1))];
  return [of(typed.trim()), 1];
};
const written = (name, weight) => (weight === 1 && !name.includes(":") ? name : `${name}:${weight}`);

const show = (loras) => {
  // Folded away, it still says how many there are.
  const opener = document.querySelector("#i2v-loras > .i2v-fold-button");
  if (opener) opener.dataset.count = loras?.length ? `(${loras.length})` : "";
  const weights = new Map((loras ?? []).map(parted).filter(([row]) => row));
  for (const row of rows()) {
    const [tick, slider, typed] = ["checkbox", "range", "number"].map((kind) => part(row, kind));
    tick.checked = weights.has(row);
    // One of another model can still be taken off.
    if (row.classList.contains("other")) tick.disabled = !tick.checked;
    if (document.activeElement !== typed || !tick.checked) typed.value = weights.get(row) ?? 1;
    slider.value = weights.get(row) ?? 1;
    row.classList.toggle("chosen", tick.checked);
    if (tick.checked) row.closest("details")?.setAttribute("open", "");
  }
};

window.i2vLoras = {
  // The field's value after the row was changed; as it is where none was.
  merged: (loras) => {
    const before = loras ?? [];
    if (!pending) return before;
    const { name, on, weight } = pending;
    pending = null;
    const isIt = (typed) => parted(typed)[0]?.dataset.lora === name;
    const place = before.findIndex(isIt);
    const others = before.filter((typed) => !isIt(typed));
    if (on) others.splice(place < 0 ? others.length : place, 0, written(name, weight));
    return others;
  },
  isTooLarge: (file) => file.size > props.most_bytes,
  tellTooLarge: (file) => trigger("click", { act: "large", id: file.name, bytes: file.size }),
  show: (loras) => {
    window.i2vLorasTyped = loras;
    show(loras);
  },
};

const searchField = () => element.querySelector(".i2v-lora-filter");
const filter = (typed) => {
  sought = typed;
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows()) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const others = element.querySelector("details");
  if (others && words.length) others.open = true;
};

element.addEventListener("input", (event) => {
  if (event.target.matches(".i2v-lora-filter")) return filter(event.target.value);
  const row = event.target.closest("[data-lora]");
  if (!row || event.target.type === "checkbox") return;
  const other = part(row, event.target.type === "range" ? "number" : "range");
  if (Number.isFinite(number(event.target.value))) other.value = event.target.value;
});
element.addEventListener("change", (event) => {
  const row = event.target.closest("[data-lora]");
  if (!row) return;
  const typed = part(row, "number");
  const said = number(typed.value);
  const weight = Number.isFinite(said) ? Math.min(Number(typed.max), Math.max(Number(typed.min), said)) : 1;
  typed.value = weight;
  // Who sets a weight means to use it.
  pending = { name: row.dataset.lora, on: event.target.type === "checkbox" ? event.target.checked : true, weight };
  trigger("submit");
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) trigger("click", { act: button.dataset.act, id: button.dataset.id });
});

element.addEventListener("focusin", (event) => {
  const row = event.target.closest("[data-lora]");
  const place = row && [...row.querySelectorAll("input, button")].indexOf(event.target);
  last = row ? [row.dataset.lora, place, shownRows().indexOf(row)] : event.target === searchField() ? "search" : null;
});
element.addEventListener("focusout", (event) => {
  if (event.relatedTarget) last = null;
});
watch("value", () => {
  show(window.i2vLorasTyped);
  const field = searchField();
  if (field) field.value = sought;
  filter(field ? sought : "");
  if (!last || element.contains(document.activeElement)) return;
  if (last === "search") return field?.focus({ preventScroll: true });
  const row = rows().find((one) => one.dataset.lora === last[0]);
  const next = row ?? shownRows()[Math.min(last[2], shownRows().length - 1)];
  const inside = next?.querySelectorAll("input:enabled, button") ?? [];
  (row ? row.querySelectorAll("input, button")[last[1]] : (inside[0] ?? field))?.focus({ preventScroll: true });
});
