// A folded part stays as the person has left it: answers draw it anew, and so does the next visit.
(() => {
  const key = (part) => `i2v-fold-${part.dataset.fold}`;
  const settle = () => {
    for (const part of document.querySelectorAll("details[data-fold]:not([data-settled])")) {
      const kept = localStorage.getItem(key(part));
      if (kept) part.open = kept === "open";
      part.dataset.settled = "";
    }
  };
  new MutationObserver(settle).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("click", (event) => {
    const part = event.target.closest?.("details[data-fold] > summary")?.parentElement;
    if (part) localStorage.setItem(key(part), part.open ? "closed" : "open"); // it turns after this
  });
})();
