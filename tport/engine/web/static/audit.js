// Follows the log live: asks for what came since, again and again, and puts it on top.
// Without script there is a link that reloads.
"use strict";

const log = document.getElementById("log");
const entries = document.getElementById("entries");
const live = document.getElementById("live");
const heard = document.getElementById("heard");
const MOST = 500; // rows that are kept; older ones are on the next page
let cursor = log.dataset.cursor;
let going = null; // an AbortController while it runs

function show(html) {
  const came = new DOMParser().parseFromString(html, "text/html").querySelectorAll(".entry");
  const known = new Set([...entries.children].map((entry) => entry.dataset.uid));
  const fresh = [...came].filter((entry) => !known.has(entry.dataset.uid));
  for (const entry of fresh) entry.classList.add("new");
  entries.prepend(...fresh.map((entry) => document.adoptNode(entry)));
  while (entries.children.length > MOST) entries.lastElementChild.remove();
  if (fresh.length) {
    document.getElementById("none")?.remove();
    heard.textContent = fresh.length === 1 ? "1 new entry" : `${fresh.length} new entries`;
  }
}

async function follow(signal) {
  let pause = 1000;
  while (!signal.aborted) {
    const address = new URL(log.dataset.tail, location.href);
    address.searchParams.set("cursor", cursor);
    try {
      const answer = await fetch(address, { signal, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 403) {
        stop("Stopped: you are no longer signed in, or may not see this any more.");
        return;
      }
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.text());
      cursor = answer.headers.get("tport-cursor") || cursor;
      pause = 1000;
    } catch {
      if (signal.aborted) return;
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
