// What the Create tab does by itself: it folds Advanced, takes a dropped video and names with a dot, and shows on a telephone what came of Generate.
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

  // On a telephone the plan's first line stands on the bar with the buttons, which is as high as they need.
  const bar = new ResizeObserver(([entry]) => {
    document.documentElement.style.setProperty("--i2v-bar", `${entry.target.offsetHeight}px`);
  });
  let measured = null;
  new MutationObserver(() => {
    const actions = document.getElementById("i2v-actions");
    if (actions === measured) return;
    bar.disconnect();
    if (actions) bar.observe(actions);
    measured = actions;
  }).observe(document.documentElement, { childList: true, subtree: true });

  // Before a run of hours the server sends a question in place of a job. A yes presses the same button again.
  let agreed = "";
  window.i2vAgreed = (button) => {
    const was = agreed === button;
    agreed = "";
    return was;
  };
  window.i2vAsk = (button, question) => {
    if (!question || !confirm(question)) return;
    agreed = button;
    document.getElementById(button)?.click();
  };

  // The picture's field takes pictures only; a video goes to the button that restores from one.
  const isVideo = (one) => one.type === "video/mp4" || /\.mp4$/i.test(one.name ?? "");
  const creating = () => document.getElementById("i2v-picture")?.offsetParent;
  document.addEventListener(
    "dragover",
    (event) => creating() && [...(event.dataTransfer?.items ?? [])].some(isVideo) && event.preventDefault(),
  );
  const give = (input, files) => {
    const given = new DataTransfer();
    for (const file of files) given.items.add(file);
    input.files = given.files;
  };
  document.addEventListener(
    "drop",
    (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      const video = files.find(isVideo);
      const dotted = event.target.closest?.("#i2v-picture") && files.find((file) => file.name.startsWith("."));
      const field = video ? "input[type=file]:has(+ #i2v-restore)" : "#i2v-picture input[type=file]";
      const input = document.querySelector(field);
      if (!(video || dotted) || !input || !creating()) return;
      event.preventDefault();
      event.stopPropagation();
      give(input, [video || dotted]);
      input.dispatchEvent(new Event("change", { bubbles: true }));
    },
    true,
  );

  // The field's own picker offers videos too, and one that is chosen there goes to the same button.
  const picker = "#i2v-picture input[type=file]";
  document.addEventListener(
    "click",
    (event) => {
      if (!event.target.closest?.("#i2v-picture")) return;
      for (const input of document.querySelectorAll(picker)) input.accept = "image/*,video/mp4,.mp4";
    },
    true,
  );
  document.addEventListener(
    "change",
    (event) => {
      const video = event.target.matches?.(picker) && [...event.target.files].find(isVideo);
      const input = video && document.querySelector("input[type=file]:has(+ #i2v-restore)");
      if (!input) return;
      event.stopImmediatePropagation();
      event.target.value = "";
      give(input, [video]);
      input.dispatchEvent(new Event("change", { bubbles: true }));
    },
    true,
  );

  // Gradio refuses a name that begins with a dot, in words about its own settings: ".jpg" is sent as "picture.jpg".
  document.addEventListener(
    "change",
    (event) => {
      const input = event.target;
      if (!input.matches?.("input[type=file]") || ![...input.files].some((file) => file.name.startsWith("."))) return;
      const named = (file) => new File([file], file.name.replace(/^\.+/, "picture."), { type: file.type });
      give(input, [...input.files].map(named));
    },
    true,
  );
})();
