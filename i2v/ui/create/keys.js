// Ctrl+Enter presses Generate and Esc presses Cancel, where these can be seen and pressed. Esc asks first where the run
// is older than ten seconds: it is also what people press to leave something.
(() => {
  const ASKED = ASK_CANCEL;
  const press = (id, certain = () => true) => {
    const button = document.getElementById(id);
    if (!button || button.disabled || !button.offsetParent || !certain()) return false;
    button.click();
    return true;
  };
  const isYoung = () => Date.now() - (window.i2vWorkingSince ?? Date.now()) < 10_000;
  const certain = () => isYoung() || confirm(ASKED[window.i2vLanguage()]);
  // Both are told where somebody points at the button or comes to it with the keyboard.
  const KEYS = { "i2v-generate": ["Ctrl+Enter", "Control+Enter"], "i2v-cancel": ["Esc", "Escape"] };
  const tell = (event) => {
    const button = event.target.closest?.("#i2v-generate, #i2v-cancel");
    if (!button) return;
    button.title = KEYS[button.id][0];
    button.setAttribute("aria-keyshortcuts", KEYS[button.id][1]);
  };
  for (const comes of ["pointerover", "focusin"]) document.addEventListener(comes, tell);
  // A list of choices that is so long that it scrolls would be a stop of its own for the Tab key, and vanish under it.
  const passLists = () => document.querySelectorAll('[role="listbox"]').forEach((list) => (list.tabIndex = -1));
  document.addEventListener("keydown", (event) => event.key === "Tab" && passLists(), true);
  document.addEventListener("keydown", (event) => {
    // Within an input method both keys belong to the word that is being written.
    if (event.defaultPrevented || event.isComposing || event.repeat) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (press("i2v-generate")) event.preventDefault();
    } else if (event.key === "Escape") {
      // Here Esc has a nearer meaning: it closes a list of choices, or leaves the full screen.
      const choosing = event.target.closest?.('[role="listbox"], [aria-expanded="true"]');
      if (!choosing && !document.fullscreenElement) press("i2v-cancel", certain);
    }
  });
})();
