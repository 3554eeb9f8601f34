// The table of settings shows the rows that have every word of the search.
element.addEventListener("input", (event) => {
  if (event.target.type !== "search") return;
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const row of element.querySelectorAll("tbody tr"))
    row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
});
