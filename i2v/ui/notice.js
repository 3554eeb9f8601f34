// For who has switched it on: a notice of the system's when a run of more than a minute has ended and nobody looks at
// its tab. The browser is asked for its permission only then, and gives none to pages of another computer without https.
(() => {
  const KEY = "i2v-notify";
  const LONG_MS = 60_000;
  const can = "Notification" in window && isSecureContext;
  document.documentElement.classList.toggle("i2v-can-notify", can);
  // Returns what the switch then shows: off where the permission is refused.
  window.i2vNotify = async (wanted) => {
    const on = wanted && can && (await Notification.requestPermission()) === "granted";
    localStorage.setItem(KEY, on ? "on" : "off");
    return on;
  };
  window.i2vNotifies = () => can && localStorage.getItem(KEY) === "on" && Notification.permission === "granted";
  window.i2vRunEnded = (line, tookMs) => {
    if (tookMs < LONG_MS || !document.hidden || !window.i2vNotifies()) return;
    const notice = new Notification("I2V", { body: line, tag: "i2v" });
    notice.onclick = () => (window.focus(), notice.close());
  };
})();
