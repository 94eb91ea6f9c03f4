// Filters the applications as one types.
// Everything works without it: the form asks the server for ?q=.
"use strict";

const input = document.getElementById("q");
const tiles = [...document.querySelectorAll("#tiles > li")];

function filter() {
  const terms = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const tile of tiles) {
    tile.hidden = !terms.every((term) => tile.dataset.text.includes(term));
    shown += tile.hidden ? 0 : 1;
  }
  document.getElementById("count").textContent = `Showing ${shown} of ${tiles.length}`;
  document.getElementById("none").hidden = shown > 0;
  const address = new URL(location.href);
  if (input.value) address.searchParams.set("q", input.value);
  else address.searchParams.delete("q");
  history.replaceState(null, "", address);
}

if (input) {
  document.body.classList.add("live");
  input.addEventListener("input", filter);
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const found = tiles.filter((tile) => !tile.hidden);
    if (found.length === 1) found[0].querySelector("a").click();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    }
  });
  window.addEventListener("pageshow", filter); // going back brings the old words into the box
}

