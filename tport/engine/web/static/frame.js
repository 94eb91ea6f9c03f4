// What pages of who is signed in can do with script; everything works without it.
"use strict";

// Times in the reader's own zone; without script they are in UTC.
for (const time of document.querySelectorAll("time")) {
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

// A notice is said once: reloading or keeping the address doesn't say it again.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  address.searchParams.delete("notice");
  address.searchParams.delete("sign");
  history.replaceState(null, "", address);
}

// Buttons that copy what stands beside them; without script it is selected by one click.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll(".copy")) {
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
