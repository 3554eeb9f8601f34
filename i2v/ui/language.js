(() => {
  const setting = "LANGUAGE_SETTING";
  const wanted = localStorage.getItem("i2v-language") || (setting === "auto" ? navigator.language : setting);
  const locale = String(wanted).toLowerCase().startsWith("zh") ? "zh-CN" : "en";
  // Gradio reads the language here when it starts, for its own texts and for ours.
  Object.defineProperty(navigator, "language", { value: locale, configurable: true });
  Object.defineProperty(navigator, "languages", { value: [locale], configurable: true });
  document.documentElement.lang = locale;
  performance.setResourceTimingBufferSize(2000);

  window.i2vLanguage = () => document.documentElement.lang;
  window.i2vSetLanguage = (next) => {
    if (next === document.documentElement.lang) return next;
    localStorage.setItem("i2v-language", next);
    document.documentElement.lang = next;
    // Gradio's module that holds the running language; without it a reload does the same.
    const core = performance.getEntriesByType("resource").find((entry) => /\/assets\/core-[^/]*\.js/.test(entry.name));
    if (core) import(core.name).then((module) => module.changeLocale(next)).catch(() => location.reload());
    else location.reload();
    return next;
  };
})();
