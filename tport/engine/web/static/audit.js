// Follows the log live: asks for what came since, again and again, and puts it on top, in rows as the
// server draws them (audit.py). Without script there is a link that reloads.
import { ask, Refused } from "./api.js";

const log = document.getElementById("log");
const entries = document.getElementById("entries");
const live = document.getElementById("live");
const heard = document.getElementById("heard");
const rowOf = document.getElementById("entry").content.firstElementChild;
const fieldOf = document.getElementById("field").content.firstElementChild;
const MOST = 500; // rows that are kept; older ones are on the next page
const PIECE = 100; // events of one answer
const query = JSON.parse(log.dataset.query);
const apart = new Set(log.dataset.apart.split(" "));
let cursor = log.dataset.cursor;
let going = null; // an AbortController while it runs

const isRequest = (event) => event.event === "app.session.request";
// A remote party's text without what can't be seen, or turns the text around it.
const printable = (text) => text.replace(/(?! )[\p{C}\p{Z}]/gu, "\uFFFD");

function word(value) {
  if (typeof value === "string") return value;
  return Array.isArray(value) ? value.map(word).join(", ") : JSON.stringify(value);
}

function short(text) {
  const letters = [...printable(text)];
  const most = Number(log.dataset.most);
  return letters.length <= most ? letters.join("") : `${letters.slice(0, most).join("")}…`;
}

function isBad(event) {
  if (isRequest(event)) return Boolean(event.error) || event.status_code >= 500;
  return /[WE]$/.test(event.code ?? "");
}

function told(event) {
  if (!isRequest(event)) {
    const kept = Object.entries(event).filter(([key]) => !apart.has(key));
    return kept.map(([key, value]) => `${key}: ${word(value)}`);
  }
  const said = [`${(event.duration_ms ?? 0).toFixed(0)} ms`];
  if (event.bytes_in) said.push(`${event.bytes_in} bytes in`);
  if (event.bytes_out) said.push(`${event.bytes_out} bytes out`);
  if (event.error) said.push(event.error);
  return said;
}

// Puts text into a part of a row; without any the part goes.
function put(row, part, text) {
  if (text) row.querySelector(part).append(printable(text));
  else row.querySelector(part).replaceChildren();
}

function drawn(event) {
  const row = rowOf.cloneNode(true);
  const badge = row.querySelector(".badge");
  row.dataset.uid = event.uid ?? "";
  put(row, ".when", (event.time ?? "").slice(0, 19).replace("T", " "));
  put(row, ".what b", short(isRequest(event) ? `${event.method} ${event.path}` : event.event ?? ""));
  put(row, ".told", short(told(event).join(", ")));
  put(row, ".who", event.user);
  put(row, ".app", event.app_name);
  if (isRequest(event)) {
    badge.textContent = event.status_code || "cut";
    badge.classList.replace("bad", isBad(event) ? "bad" : "good");
  } else if (!isBad(event)) {
    badge.remove();
  }
  for (const [key, value] of Object.entries(event)) {
    const field = fieldOf.cloneNode(true);
    put(field, "dt", key);
    put(field, "dd", word(value));
    row.querySelector(".fields").append(field);
  }
  return row;
}

function show(events) {
  const known = new Set([...entries.children].map((entry) => entry.dataset.uid));
  const fresh = events.filter((event) => !known.has(event.uid)).map(drawn);
  entries.prepend(...fresh.reverse());
  while (entries.children.length > MOST) entries.lastElementChild.remove();
  if (fresh.length) {
    document.getElementById("none")?.remove();
    heard.textContent = fresh.length === 1 ? "1 new entry" : `${fresh.length} new entries`;
  }
}

async function follow(signal) {
  let pause = 1000;
  while (!signal.aborted) {
    try {
      const page = await ask("follow_events", { query, cursor, limit: PIECE }, signal);
      show(page.events);
      cursor = page.cursor || cursor;
      pause = 1000;
    } catch (problem) {
      if (signal.aborted) return;
      if (problem instanceof Refused && [401, 403].includes(problem.status)) {
        stop("Stopped: you are no longer signed in, or may not see this any more.");
        return;
      }
      heard.textContent = "The log can't be read for now; trying again.";
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 30000);
    }
  }
}

function start() {
  going = new AbortController();
  live.setAttribute("aria-pressed", "true");
  live.textContent = "Following live";
  follow(going.signal);
}

function stop(why) {
  going?.abort();
  going = null;
  live.setAttribute("aria-pressed", "false");
  live.textContent = "Follow live";
  heard.textContent = why;
  heard.classList.toggle("unseen", !why);
}

live.hidden = false;
live.addEventListener("click", () => (going ? stop("") : start()));
