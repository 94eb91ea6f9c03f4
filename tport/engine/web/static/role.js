// Tells who would open what while a role is typed, before anything is saved.
// Without script the form's second button does.
import { ask } from "./api.js";

const who = document.getElementById("who");
const form = document.getElementById("role");
const told = document.getElementById("told");
const said = document.getElementById("said");
const lineOf = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const PAUSE = 400; // ms without a key
const before = JSON.parse(form.dataset.role); // what the form doesn't show stays as it was
let going = new AbortController();
let waiting = 0;

// Labels as they are typed, name=value a line; null: a line isn't, yet.
function labels(text) {
  const found = new Map(); // a label may be called as it likes
  for (const line of text.split("\n").map((each) => each.trim()).filter(Boolean)) {
    const [, name, value] = line.match(/^([^=]*[^=\s])\s*=\s*(.+)$/) ?? [];
    if (!name) return null;
    found.set(name, [...(found.get(name) ?? []), value]);
  }
  return Object.fromEntries(found);
}

function role() {
  const [allow, deny] = ["allow_labels", "deny_labels"].map((id) => labels(form.elements[id].value));
  if (!allow || !deny) return null;
  return {
    ...before,
    name: before.name || form.elements.name.value.trim() || "new",
    allow: { ...before.allow, app_labels: allow },
    deny: { ...before.deny, app_labels: deny },
  };
}

const opened = (apps) => apps.join(", ") || "nothing";

function drawn(id, { user, now, then }) {
  const line = lineOf(id);
  line.querySelector("a").href = `/web/user/${encodeURIComponent(user)}`;
  line.querySelector("a").textContent = user;
  line.querySelector("span").textContent = opened(then);
  if (id === "changed") {
    put(line, "gains", then.filter((app) => !now.includes(app)));
    put(line, "loses", now.filter((app) => !then.includes(app)));
  }
  return line;
}

function put(line, word, apps) {
  if (apps.length) line.querySelector(`.${word}`).textContent = `${word} ${apps.join(", ")}`;
  else line.querySelector(`.${word}`).remove();
}

function show({ alone, users }) {
  const changes = users.filter(({ now, then }) => now.join() !== then.join());
  const others = users.filter((user) => !changes.includes(user));
  document.getElementById("alone").textContent = opened(alone);
  document.getElementById("changes").replaceChildren(...changes.map((user) => drawn("changed", user)));
  document.getElementById("changes").hidden = !changes.length;
  document.getElementById("others").replaceChildren(...others.map((user) => drawn("same", user)));
  const count = document.getElementById("count");
  count.textContent = `${changes.length ? "Nothing changes for " : ""}${others.length} user${others.length === 1 ? "" : "s"}`;
  count.parentElement.hidden = !others.length;
  say("");
}

// Says why nothing is told; "": all is.
function say(problem) {
  said.textContent = problem;
  told.hidden = Boolean(problem);
  who.hidden = false;
}

async function preview() {
  going.abort();
  going = new AbortController();
  const { signal } = going;
  const typed = role();
  if (!typed) {
    say("Once each line of labels is name=value, this follows what you type.");
    return;
  }
  try {
    show(await ask("preview_role", { role: typed }, signal));
  } catch (problem) {
    if (!signal.aborted) say(`${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`);
  }
}

form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(preview, PAUSE);
});
