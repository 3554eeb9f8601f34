(() => {
  const setting = "LANGUAGE_SETTING";
  const wanted = localStorage.getItem("i2v-language") || (setting === "auto" ? navigator.language : setting);
  // Gradio's own module that holds the running language; loaded already, so this import costs nothing.
  const core = performance.getEntriesByType("resource").find((entry) => /\/assets\/core-[^/]*\.js/.test(entry.name));
  const speak = (locale) => {
    document.documentElement.lang = locale;
    if (core) import(core.name).then((module) => module.changeLocale(locale));
    return locale;
  };
  window.i2vLanguage = () => document.documentElement.lang;
  window.i2vSetLanguage = (locale) => {
    localStorage.setItem("i2v-language", locale);
    return speak(locale);
  };
  speak(String(wanted).toLowerCase().startsWith("zh") ? "zh-CN" : "en");
})();
