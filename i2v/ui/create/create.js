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

  // The picture's field takes pictures only. A video goes to the place for one where the model has it, else to the
  // button that restores from a video made here; which videos can be read the server says.
  const PICTURE = "#i2v-picture input[type=file]";
  const CLIP = "#i2v-clip input[type=file]";
  const VIDEO = /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g|ts|ogv|flv|wmv|3gp)$/i;
  const isMade = (one) => one.type === "video/mp4" || /\.mp4$/i.test(one.name ?? "");
  const takesClips = () => document.querySelector("#i2v-clip-note .i2v-takes-clips");
  const isVideo = (one) => isMade(one) || (takesClips() && (/^video\//.test(one.type) || VIDEO.test(one.name ?? "")));
  const isPicture = (one) => /^image\//.test(one.type);
  const onCreate = () => document.getElementById("i2v-prompt")?.offsetParent;
  const give = (input, files) => {
    const given = new DataTransfer();
    for (const file of files) given.items.add(file);
    input.files = given.files;
  };
  const send = (input, file) => {
    give(input, [file]);
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  // A place that holds something has no input: what is there is taken away first.
  const replace = (place, field, file, frames = 60) => {
    const input = document.querySelector(field);
    if (input) return send(input, file);
    if (frames === 60) document.querySelector(`${place} .top-panel button:last-of-type`)?.click();
    if (frames) requestAnimationFrame(() => replace(place, field, file, frames - 1));
  };
  const takeVideo = (file) => {
    if (takesClips()) return replace("#i2v-clip", CLIP, file);
    const input = document.querySelector("input[type=file]:has(+ #i2v-restore)");
    if (input) send(input, file);
  };
  // LoRAs go to their shelf, which opens. What is dragged has no name yet, and browsers know no kind for such a file.
  const isLora = (file) => /\.safetensors$/i.test(file.name);
  const mayBeLora = (one) => one.kind === "file" && one.type === "";
  const takeLoras = (files) => {
    const opener = document.querySelector("#i2v-loras > .i2v-fold-button");
    if (opener?.getAttribute("aria-expanded") !== "true") opener?.click();
    const input = document.querySelector("input[type=file]:has(+ #i2v-lora-add)");
    if (!input) return;
    give(input, files);
    input.dispatchEvent(new Event("change", { bubbles: true }));
    opener?.scrollIntoView({ behavior: "smooth", block: "start" });
  };
  // One that is larger than the page takes is not sent: the server says what to do in place of that.
  document.addEventListener(
    "change",
    (event) => {
      const input = event.target;
      if (!input.matches?.("input[type=file]:has(+ #i2v-lora-add)")) return;
      const large = [...input.files].find((file) => window.i2vLoras?.isTooLarge(file));
      if (!large) return;
      event.stopImmediatePropagation();
      input.value = "";
      window.i2vLoras.tellTooLarge(large);
    },
    true,
  );
  document.addEventListener("dragover", (event) => {
    const items = [...(event.dataTransfer?.items ?? [])];
    if (onCreate() && items.some((one) => isVideo(one) || mayBeLora(one))) event.preventDefault();
  });
  document.addEventListener(
    "drop",
    (event) => {
      if (!onCreate()) return;
      const files = [...(event.dataTransfer?.files ?? [])];
      const loras = files.filter(isLora);
      if (loras.length) {
        event.preventDefault();
        event.stopPropagation();
        return takeLoras(loras);
      }
      const video = files.find(isVideo);
      const picture = event.target.closest?.("#i2v-clip, #i2v-clip-player") && files.find(isPicture);
      const place = event.target.closest?.("#i2v-picture, #i2v-last-picture");
      const dotted = place && files.find((file) => file.name.startsWith("."));
      const input = document.querySelector(dotted ? `#${place.id} input[type=file]` : PICTURE);
      if (!video && !((picture || dotted) && input)) return;
      event.preventDefault();
      event.stopPropagation();
      if (video) takeVideo(video);
      else send(input, picture || dotted);
    },
    true,
  );

  // The picture's own picker offers videos too, and one that is chosen there goes the same way.
  document.addEventListener(
    "click",
    (event) => {
      const place = event.target.closest?.("#i2v-picture, #i2v-clip");
      const accept = place?.id === "i2v-clip" ? "video/*,.mkv" : takesClips() ? "image/*,video/*,.mkv" : "image/*,video/mp4,.mp4";
      for (const input of place?.querySelectorAll("input[type=file]") ?? []) input.accept = accept;
    },
    true,
  );
  document.addEventListener(
    "change",
    (event) => {
      const video = event.target.matches?.(PICTURE) && [...event.target.files].find(isVideo);
      if (!video) return;
      event.stopImmediatePropagation();
      event.target.value = "";
      takeVideo(video);
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
