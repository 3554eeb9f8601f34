// A card plays while the pointer or the keyboard is on it, unless the person wants less motion.
const WAIT_MS = 150; // a pointer that only passes by loads nothing
let waiting = 0;
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const cardOf = (event) => event.target.closest?.("[data-video]");
const stop = () => {
  clearTimeout(waiting);
  element.querySelectorAll("[data-video] video").forEach((video) => video.remove());
};
const play = (card) => {
  if (still() || card.querySelector("video")) return;
  stop();
  waiting = setTimeout(() => {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, loop: true, playsInline: true, tabIndex: -1, src: card.dataset.video });
    video.setAttribute("aria-hidden", "true");
    video.addEventListener("canplay", () => video.play().catch(() => {}), { once: true });
    (card.querySelector(".i2v-frame") ?? card).append(video);
  }, WAIT_MS);
};
element.addEventListener("pointerover", (event) => event.pointerType === "mouse" && cardOf(event) && play(cardOf(event)));
element.addEventListener("pointerout", (event) => {
  const card = cardOf(event);
  if (card && !card.contains(event.relatedTarget)) stop();
});
element.addEventListener("focusin", (event) => cardOf(event)?.matches(":focus-visible") && play(cardOf(event)));
element.addEventListener("focusout", stop);
