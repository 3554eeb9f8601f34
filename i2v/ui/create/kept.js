// The form as it stands is kept in the browser, for this tab and for the next one, so that a reload loses nothing.
// Until the page has answered with what was kept before, nothing is written over it.
(() => {
  const KEY = "i2v-form";
  let answered = false;
  const quietly = (act) => {
    try {
      return act();
    } catch {
      return null; // no storage here, or it is full: then a reload begins anew
    }
  };
  window.i2vKept = () => quietly(() => JSON.parse(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY)));
  window.i2vKeepFromNow = () => {
    answered = true;
  };
  window.i2vKeep = (names, ticket, values) => {
    if (!answered || !ticket) return;
    const kept = { ticket, values: Object.fromEntries(names.map((name, place) => [name, values[place]])) };
    const written = JSON.stringify(kept);
    quietly(() => sessionStorage.setItem(KEY, written));
    quietly(() => localStorage.setItem(KEY, written));
  };
})();
