/* Inside stripe.js's modal the answer is sent without leaving the page, and the port says when it was heard. */

const form = document.getElementById("answer");
let port;

const answer = async (outcome) => {
  await fetch(form.action, { method: "POST", body: new URLSearchParams({ outcome, framed: "1" }) });
  port.postMessage({ event: "finished" });
};

form.addEventListener("submit", (submission) => {
  if (!port) return; // A page of its own: the server sends the customer back.
  submission.preventDefault();
  for (const button of form.elements) button.disabled = true;
  void answer(submission.submitter?.value ?? "failed");
});

// The focus is in this frame, so the dialog around it never hears the key.
addEventListener("keydown", (press) => press.key === "Escape" && port && void answer("failed"));

addEventListener("message", ({ source, data, ports }) => {
  if (port || source !== window.parent || source === window || !data?.greeting || ports.length !== 1) return;
  [port] = ports;
  port.onmessage = ({ data: { verb } }) => verb === "fail" && void answer("failed");
  document.querySelector("button.primary").focus();
});
