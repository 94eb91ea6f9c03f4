// Filters the applications as one types and chooses labels, lets the arrows go about them, marks
// favourites in place, and shows icons that come late.
// Everything works without it: the forms and the labels ask the server.
import { ask } from "./api.js";

const input = document.getElementById("q");
const tiles = [...document.querySelectorAll("#tiles .tile")];
const labels = [...document.querySelectorAll("#filters a")];

const shownTiles = () => tiles.filter((tile) => !tile.hidden);
const linkOf = (tile) => tile.querySelector("h3 a");

function filter() {
  const terms = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = labels.filter((one) => one.hasAttribute("aria-current")).map((one) => one.dataset.label);
  for (const tile of tiles) {
    const own = tile.dataset.labels.split("\n");
    tile.hidden =
      !terms.every((term) => tile.dataset.text.includes(term)) ||
      !chosen.every((label) => own.includes(label));
  }
  for (const group of document.querySelectorAll("#tiles .group")) {
    group.hidden = !group.querySelector(".tile:not([hidden])");
  }
  const others = document.querySelectorAll("#rest .tile").length;
  document.querySelector("#rest h2").hidden = others === tiles.length;
  const shown = shownTiles().length;
  document.getElementById("count").textContent = `Showing ${shown} of ${tiles.length}`;
  document.getElementById("none").hidden = shown > 0;
  const here = new URL(location.href);
  here.search = "";
  if (input.value) here.searchParams.set("q", input.value);
  for (const label of chosen) here.searchParams.append("label", label);
  history.replaceState(null, "", here);
}

// The tile beside another one, as they lie on the screen.
function beside(tile, key) {
  const shown = shownTiles();
  const at = shown.indexOf(tile);
  if (key === "ArrowRight") return shown[at + 1];
  if (key === "ArrowLeft") return shown[at - 1];
  const from = tile.getBoundingClientRect();
  const down = key === "ArrowDown";
  const rows = (down ? shown.slice(at + 1) : shown.slice(0, at).reverse()).filter((other) =>
    down ? other.getBoundingClientRect().top >= from.bottom : other.getBoundingClientRect().bottom <= from.top
  );
  if (!rows.length) return undefined;
  const line = rows[0].getBoundingClientRect().top;
  const away = (other) => Math.abs(other.getBoundingClientRect().left - from.left);
  return rows
    .filter((other) => other.getBoundingClientRect().top === line)
    .sort((one, other) => away(one) - away(other))[0];
}

function go(event) {
  const tile = event.target instanceof Element && event.target.closest(".tile");
  const next = tile ? beside(tile, event.key) : shownTiles()[0];
  if (!next && !(tile && event.key === "ArrowUp")) return;
  event.preventDefault();
  if (next) linkOf(next).focus();
  else input.focus();
}

// Puts a tile where the server would: favourites and the rest by name, between them the latest first.
function settle(tile, id) {
  const list = document.querySelector(`#${id} .tiles`);
  const isBefore =
    id === "recent"
      ? (other) => tile.dataset.opened > other.dataset.opened
      : (other) => tile.dataset.name < other.dataset.name;
  list.insertBefore(tile, [...list.children].find(isBefore) ?? null);
}

async function mark(event) {
  const form = event.target;
  const tile = form.closest(".tile");
  const button = form.querySelector("button");
  event.preventDefault();
  const favourite = button.value === "1";
  try {
    await ask("mark_favourite", { app: tile.dataset.name, favourite });
  } catch {
    form.removeEventListener("submit", mark); // the server says what is wrong
    form.requestSubmit(button);
    return;
  }
  button.value = favourite ? "" : "1";
  button.textContent = favourite ? "★" : "☆";
  button.title = favourite ? "No favourite any more" : "Make it a favourite";
  button.setAttribute("aria-pressed", String(favourite));
  settle(tile, favourite ? "favourites" : tile.dataset.home);
  filter();
  button.focus();
}

// Icons that nobody looked at before: with this page their agents were asked for them.
const PAUSES = [2000, 8000]; // ms

async function showIcons() {
  for (const pause of PAUSES) {
    const bare = tiles.filter((tile) => !tile.querySelector("img") && !tile.querySelector(".down"));
    if (!bare.length) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
    const known = new Map((await ask("own_apps")).map((app) => [app.name, app.icon]));
    for (const tile of bare) {
      const icon = known.get(tile.dataset.name);
      if (!icon) continue;
      const letter = tile.querySelector(".letter");
      const picture = new Image(28, 28);
      picture.alt = "";
      picture.dataset.letter = letter.textContent;
      picture.src = `${letter.dataset.icon}?v=${icon}`;
      letter.append(picture);
    }
  }
}

if (input) {
  document.body.classList.add("live");
  input.addEventListener("input", filter);
  for (const label of labels) {
    label.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (label.hasAttribute("aria-current")) label.removeAttribute("aria-current");
      else label.setAttribute("aria-current", "true");
      filter();
    });
  }
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const found = shownTiles();
    if (found.length && input.value.trim()) linkOf(found[0]).click();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof Element && event.target.closest("input, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === "ArrowDown" && event.target === input) {
      go(event);
    } else if (event.key.startsWith("Arrow") && document.activeElement?.closest(".tile")) {
      go(event);
    }
  });
  for (const form of document.querySelectorAll("form.star")) form.addEventListener("submit", mark);
  showIcons().catch(() => {}); // letters do
  window.addEventListener("pageshow", filter); // going back brings the old words into the box
}
