// Passkeys: asks the browser for what the form's options say, and sends its answer with the form.
// Without it, and in browsers that know no passkeys, codes work; the form says so.
"use strict";

const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function decoded(options) {
  const ids = (list) => (list ?? []).map((one) => ({ ...one, id: bytes(one.id) }));
  const read = { ...options, challenge: bytes(options.challenge) };
  if (options.user) read.user = { ...options.user, id: bytes(options.user.id) };
  if (options.excludeCredentials) read.excludeCredentials = ids(options.excludeCredentials);
  if (options.allowCredentials) read.allowCredentials = ids(options.allowCredentials);
  return read;
}

function encoded(credential) {
  const { response } = credential;
  const answer = { clientDataJSON: text(response.clientDataJSON) };
  for (const part of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (response[part]) answer[part] = text(response[part]);
  }
  return JSON.stringify({
    id: credential.id, rawId: text(credential.rawId), type: credential.type, response: answer,
  });
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const button = form.querySelector("button");
  const said = form.querySelector("[role=status]");
  if (!window.PublicKeyCredential) {
    said.textContent = "This browser knows no passkeys.";
    continue;
  }
  said.textContent = "";
  button.disabled = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const publicKey = decoded(JSON.parse(form.dataset.options));
    button.disabled = true;
    said.textContent = "Follow what your browser asks.";
    try {
      const ask = form.dataset.passkey === "create" ? "create" : "get";
      const credential = await navigator.credentials[ask]({ publicKey });
      form.elements.webauthn.value = encoded(credential);
      form.submit();
    } catch (error) {
      said.textContent = error.name === "InvalidStateError"
        ? "This device has a passkey for you already."
        : "Your browser showed no passkey: it was cancelled, took too long, or has none.";
      button.disabled = false;
    }
  });
}
