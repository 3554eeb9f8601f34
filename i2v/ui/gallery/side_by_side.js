// Two videos play as one: what is done to either is done to both, and they begin again together.
const pair = () => [...element.querySelectorAll(".i2v-pair video")];
const others = (video) => pair().filter((other) => other !== video);
const APART_SECONDS = 0.15;
const on = (name, act) =>
  element.addEventListener(name, (event) => event.target.closest(".i2v-pair") && act(event.target), true);
on("play", (video) => others(video).forEach((other) => !other.ended && other.paused && other.play().catch(() => {})));
on("pause", (video) => !video.ended && others(video).forEach((other) => other.pause()));
on("seeked", (video) =>
  others(video).forEach((other) => {
    const time = Math.min(video.currentTime, other.duration || 0);
    if (Math.abs(other.currentTime - time) > APART_SECONDS && !video.ended) other.currentTime = time;
  }),
);
on("ended", () => {
  if (!pair().every((video) => video.ended)) return;
  pair().forEach((video) => (video.currentTime = 0));
  pair().forEach((video) => video.play().catch(() => {}));
});
