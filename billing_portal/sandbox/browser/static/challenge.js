/* Inside stripe.js's modal the answer is sent without leaving the page, and the port says when it was heard. */

const form = document.getElementById("answer");
const isFramed = window.parent !== window;
let greet;
const greeted = new Promise((resolve) => (greet = resolve));

const answer = async (outcome) => {
  for (const button of form.elements) button.disabled = true;
  await fetch(form.action, { method: "POST", body: new URLSearchParams({ outcome, framed: "1" }) });
  (await greeted).postMessage({ event: "finished" });
};

form.addEventListener("submit", (submission) => {
  if (!isFramed) return; // A page of its own: the server sends the customer back.
  submission.preventDefault();
  void answer(submission.submitter?.value ?? "failed");
});

// The focus is in this frame, so the dialog around it never hears the key.
addEventListener("keydown", (press) => isFramed && press.key === "Escape" && void answer("failed"));

addEventListener("message", ({ source, data, ports }) => {
  if (!isFramed || source !== window.parent || !data?.greeting || ports.length !== 1) return;
  const [port] = ports;
  port.onmessage = ({ data: { verb } }) => verb === "fail" && void answer("failed");
  greet(port);
  document.querySelector("button.primary").focus();
});
