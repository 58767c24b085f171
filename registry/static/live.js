// Enhancement only: every page works without this file.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}
// Say that work is going on, and send once; a button keeps its name and value until the form has left.
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    const button = event.submitter;
    if (button?.dataset.busy) { button.textContent = button.dataset.busy; button.setAttribute("aria-busy", "true"); }
  });
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
// A moment stands in UTC; pointing at it tells it in the viewer's own zone.
document.addEventListener("pointerover", ({ target }) => {
  if (target.tagName === "TIME" && !target.title) target.title = new Date(target.dateTime).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "long" });
});
// Follow a run: take the same page again and exchange the part that changes, with its open steps kept open.
const follow = async () => {
  const old = document.querySelector("[data-live]");
  if (!old) return;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
    const fresh = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(old.id);
    if (fresh && !old.contains(document.activeElement)) {
      for (const step of old.querySelectorAll("details[open][id]")) fresh.querySelector(`#${step.id}`)?.setAttribute("open", "");
      old.replaceWith(fresh);
    }
  } catch { /* the hub is away for a moment; the next round tries again */ }
  setTimeout(follow, Number(old.dataset.live));
};
setTimeout(follow, 3000);
