// Ctrl+Enter presses Generate and Esc presses Cancel, where these can be seen and pressed.
(() => {
  const press = (id) => {
    const button = document.getElementById(id);
    if (!button || button.disabled || !button.offsetParent) return false;
    button.click();
    return true;
  };
  document.addEventListener("keydown", (event) => {
    // Within an input method both keys belong to the word that is being written.
    if (event.defaultPrevented || event.isComposing || event.repeat) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (press("i2v-generate")) event.preventDefault();
    } else if (event.key === "Escape") {
      // Here Esc has a nearer meaning: it closes a list of choices, or leaves the full screen.
      const choosing = event.target.closest?.('[role="listbox"], [aria-expanded="true"]');
      if (!choosing && !document.fullscreenElement) press("i2v-cancel");
    }
  });
})();
