// Says in the page why a passkey was not used; allauth's script announces it as an event.
document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const notice = document.querySelector("[data-passkey-error]");
  const cancelled = event.detail.exception && event.detail.exception.name === "NotAllowedError";
  notice.textContent = cancelled
    ? "No passkey was used. Try again, or go another way."
    : "This device could not use the passkey. Try again, or go another way.";
  notice.hidden = false;
});
