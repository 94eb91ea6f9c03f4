// Asks whether a request for access was decided, and then goes where that leads: nothing on the page
// moves until then. Without script the page loads itself anew.
import { ask } from "./api.js";

const WAIT = 5000; // ms
const waiting = document.querySelector("[data-request]");

async function look() {
  try {
    const own = (await ask("own_requests")).find((one) => one.id === waiting.dataset.request);
    if (own?.state !== "pending") return location.replace(waiting.dataset.here);
  } catch (problem) {
    if (problem.status === 401) return location.replace(waiting.dataset.here); // signed out: it says so
  }
  setTimeout(look, WAIT);
}
setTimeout(look, WAIT);
