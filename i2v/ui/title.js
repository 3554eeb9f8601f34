// The tab's title says how far the run is, and when it has ended while nobody looked: "37% · I2V", "✓ I2V", "✗ I2V".
// window.i2vWorkingSince: when the run began, in milliseconds since 1970; 0 if it was under way when the page came.
(() => {
  const AT_WORK = ["running", "decoding"];
  const ENDED = { done: "✓ ", failed: "✗ " };
  let working = false;
  let seen = false;
  const tell = () => {
    const status = document.querySelector(".i2v-status");
    if (!status) return;
    const state = [...status.classList].find((name) => name !== "i2v-status");
    let mark = "";
    if (AT_WORK.includes(state)) {
      if (!working) window.i2vWorkingSince = seen ? Date.now() : 0;
      working = true;
      mark = `${Math.round(status.querySelector(".i2v-bar").ariaValueNow)}% · `;
    } else if (working && document.hidden && ENDED[state]) {
      mark = ENDED[state];
    } else {
      working = false;
    }
    if (!AT_WORK.includes(state)) {
      const since = window.i2vWorkingSince;
      window.i2vWorkingSince = undefined;
      if (since !== undefined && ENDED[state])
        window.i2vRunEnded?.(status.querySelector(".i2v-line").textContent, Date.now() - since);
    }
    seen = true;
    if (document.title !== `${mark}I2V`) document.title = `${mark}I2V`;
  };
  new MutationObserver(tell).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("visibilitychange", tell);
})();
