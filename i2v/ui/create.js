// What the Create tab does by itself: it folds Advanced, takes a dropped video, and shows on a telephone what came of Generate.
(() => {
  const FOLD = ".i2v-fold > .i2v-fold-button";
  // The buttons come with the page, and again when it is drawn anew: each begins closed.
  new MutationObserver(() => {
    for (const button of document.querySelectorAll(`${FOLD}:not([aria-expanded])`)) button.setAttribute("aria-expanded", "false");
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(FOLD);
    if (button) button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
    const run = document.getElementById("i2v-run");
    // Where the buttons stand at the bottom of the window, the status is far below the form.
    if (event.target.closest?.("#i2v-generate") && run && getComputedStyle(run).position !== "sticky")
      run.scrollIntoView({ behavior: "smooth", block: "start" });
  });

  // The picture's field takes pictures only; a video goes to the button that restores from one.
  const isVideo = (one) => one.type === "video/mp4" || /\.mp4$/i.test(one.name ?? "");
  const creating = () => document.getElementById("i2v-picture")?.offsetParent;
  document.addEventListener(
    "dragover",
    (event) => creating() && [...(event.dataTransfer?.items ?? [])].some(isVideo) && event.preventDefault(),
  );
  document.addEventListener(
    "drop",
    (event) => {
      const video = [...(event.dataTransfer?.files ?? [])].find(isVideo);
      const input = document.querySelector("input[type=file]:has(+ #i2v-restore)");
      if (!video || !input || !creating()) return;
      event.preventDefault();
      event.stopPropagation();
      const taken = new DataTransfer();
      taken.items.add(video);
      input.files = taken.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    },
    true,
  );
})();
