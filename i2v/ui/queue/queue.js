// The queue's list: a waiting job is dragged to another place of its line, a finished one turns to the gallery, and
// what has ended can be cleared away, in this browser only.
const KEY = "i2v-queue-cleared"; // unix seconds: what ended until then is not shown
const clear = () => {
  const until = Number(localStorage.getItem(KEY)) || 0;
  for (const row of element.querySelectorAll("[data-ended]")) row.hidden = Number(row.dataset.ended) <= until;
};
watch("value", clear);
clear();
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) {
    const ended = [...element.querySelectorAll("[data-ended]")].map((row) => Number(row.dataset.ended));
    localStorage.setItem(KEY, String(Math.max(...ended)));
    clear();
  }
  if (event.target.closest('[data-act="open"]')) document.querySelector('#i2v-tabs [data-tab-id="gallery"]').click();
});

let dragged = null;
const target = (event) => {
  const row = event.target.closest?.("[data-place]");
  return dragged && row && row !== dragged && row.dataset.line === dragged.dataset.line ? row : null;
};
const unmark = () => element.querySelectorAll(".i2v-drop").forEach((row) => row.classList.remove("i2v-drop"));
element.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.("[data-place]");
  if (!dragged) return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.job);
});
element.addEventListener("dragover", (event) => {
  const row = target(event);
  unmark();
  if (!row) return;
  event.preventDefault();
  row.classList.add("i2v-drop");
});
element.addEventListener("drop", (event) => {
  const row = target(event);
  if (!row) return;
  event.preventDefault();
  trigger("click", { act: "place", id: dragged.dataset.job, place: Number(row.dataset.place) });
});
element.addEventListener("dragend", () => {
  dragged = null;
  unmark();
});
