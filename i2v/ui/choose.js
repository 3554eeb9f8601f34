// Buttons in a list are told to the server by what they do and whose they are; nothing else of the page is read.
const keyOf = (button) => `[data-act="${button.dataset.act}"][data-id="${CSS.escape(button.dataset.id)}"]`;
let last = null;
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button || button.disabled) return;
  last = keyOf(button);
  trigger("click", { act: button.dataset.act, id: button.dataset.id });
});
element.addEventListener("focusin", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) last = keyOf(button);
});
element.addEventListener("focusout", (event) => {
  if (event.relatedTarget) last = null;
});
// A list that moves takes the focus along with the button it was on, and does not leave it to its neighbour; where that
// button is gone, the first one of the same row has it.
watch("value", () => {
  if (!last || !element.contains(document.activeElement)) return;
  const row = last.slice(last.indexOf("]") + 1);
  const button = element.querySelector(last) ?? element.querySelector(`button[data-act]${row}`);
  if (button && button !== document.activeElement) button.focus({ preventScroll: true });
});
