// The JSON API as scripts of pages ask it: POST /v1/<call>, in the name of who is signed in.
// What can be asked, and what comes back, is at /v1/openapi.json.

// A call that was refused: `status`, `message` and `hint` as the API says them.
export class Refused extends Error {
  constructor(status, told) {
    super(told.message);
    this.status = status;
    this.hint = told.hint ?? "";
  }
}

// Returns the answer. Throws Refused, or what fetch throws when there is none.
export async function ask(call, given = {}, signal = undefined) {
  const answer = await fetch(`/v1/${call}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(given),
    signal,
  });
  const told = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}
