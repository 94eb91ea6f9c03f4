// Says "session ended, sign in" on a page that includes this script. Asks once a minute, only while seen.
"use strict";
(() => {
  let bar = null;
  let timer = 0;

  function show() {
    if (bar) return;
    bar = document.createElement("div");
    bar.setAttribute("role", "alert");
    Object.assign(bar.style, {
      position: "fixed", zIndex: 2147483647, left: 0, right: 0, bottom: 0,
      padding: "12px 16px", font: "16px/1.5 system-ui, sans-serif", textAlign: "center",
      color: "#fff", background: "#1f2937",
    });
    const link = document.createElement("a");
    link.href = location.href;
    link.target = "_blank"; // in a tab of its own: what was typed here stays
    link.rel = "noopener";
    link.textContent = "Sign in";
    Object.assign(link.style, { color: "#fff", textDecoration: "underline" });
    bar.append("Your session has ended. ", link, ", then come back here.");
    document.body.append(bar);
  }

  function hide() {
    if (bar) bar.remove();
    bar = null;
  }

  async function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    let wait = 60000;
    try {
      const answer = await fetch("/.tport/session", { cache: "no-store" });
      if (answer.status === 401) show();
      if (answer.ok) {
        hide();
        const left = Date.parse((await answer.json()).expires) - Date.now();
        if (left > 0) wait = Math.min(wait, left + 1000);
      }
    } catch {
      // offline, or the page may connect to nothing: no word about the session
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, wait);
  }

  document.addEventListener("visibilitychange", look);
  addEventListener("online", look);
  look();
})();
