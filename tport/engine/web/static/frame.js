// What pages of who is signed in can do with script; everything works without it.
"use strict";

// Times in the reader's own zone; without script they are in UTC.
function showTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    const today = moment.toDateString() === new Date().toDateString();
    const near = Math.abs(moment - Date.now()) < 6 * 24 * 3600e3;
    const date = near ? { weekday: "short" } : { year: "numeric", month: "short", day: "numeric" };
    time.title = moment.toLocaleString();
    time.textContent = moment.toLocaleString([], {
      hour: "2-digit",
      minute: "2-digit",
      ...(today ? {} : date),
    });
  }
}
showTimes(document);

// On a phone the sections are one line that scrolls: the one that is open stands in it.
const sections = document.querySelector(".sections");
const section = sections?.querySelector("[aria-current]");
if (section) sections.scrollLeft = section.offsetLeft - (sections.clientWidth - section.offsetWidth) / 2;

// A notice is said once: reloading or keeping the address doesn't say it again.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  address.searchParams.delete("notice");
  address.searchParams.delete("sign");
  history.replaceState(null, "", address);
}

// Buttons that copy what stands beside them; without script it is selected by one click.
function letCopy(root) {
  if (!navigator.clipboard) return;
  for (const block of root.querySelectorAll(".copy")) {
    const button = block.querySelector("button");
    block.classList.add("can");
    button.addEventListener("click", async () => {
      const name = button.textContent;
      try {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select it instead";
      }
      setTimeout(() => (button.textContent = name), 2500);
    });
  }
}
letCopy(document);

// What waits for something asks again, at the address that data-live names, until it is there.
// Without script the page that waits is loaded anew.
const WAIT = 2000; // ms
let shown = "";

async function follow() {
  const live = document.querySelector("[data-live]");
  if (!live) return;
  try {
    const answer = await fetch(live.dataset.live, { headers: { accept: "text/html" } });
    if (answer.redirected || answer.status === 404) {
      location.assign(live.dataset.live); // signed out, or over: that page says so
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(live.id);
    if (answer.ok && fresh && fresh.outerHTML !== shown) {
      shown = fresh.outerHTML;
      live.replaceWith(fresh);
      showTimes(fresh);
      letCopy(fresh);
      const form = fresh.querySelector("form[data-at-once]");
      if (form) return form.requestSubmit();
    }
  } catch {
    // no answer now: the next round asks again
  }
  setTimeout(follow, WAIT);
}
setTimeout(follow, WAIT);

// On a narrow screen the sections scroll: the one that is shown is in sight.
const here = document.querySelector(".sections [aria-current]");
if (here) here.scrollIntoView({ block: "nearest", inline: "center" });

// The menu closes as menus do.
const menu = document.querySelector("details.me");
if (menu) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}
