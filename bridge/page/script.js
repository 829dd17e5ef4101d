// Fetches the page again every two seconds and puts its fresh parts in place. Without it the page reloads by itself.
"use strict";
(() => {
  const EVERY = 2000;
  const stale = document.getElementById("stale");
  const button = document.getElementById("refreshing");
  const version = (page) => page.querySelector("meta[name=version]").content;
  let heard = new Date();
  let stopped = false;
  let busy = false;

  const selecting = () => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed;
  };

  // A part is replaced only if its content changed: the headline is read out when it changes, and only then.
  const place = (fresh) => {
    const focused = document.activeElement;
    const path = focused && focused !== document.body ? focused.id || focused.getAttribute("href") : "";
    const open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
    const scrolled = [...document.querySelectorAll(".scrolls")].map((each) => each.scrollLeft);
    const headline = fresh.getElementById("headline");
    const shown = document.getElementById("headline");
    const same = headline.textContent === shown.textContent && headline.innerHTML === shown.innerHTML;
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (part === shown || !now || !part.isConnected || part.innerHTML === now.innerHTML) continue;
      if (part.id === "story") {
        // The element that is read out stays; everything around it is new.
        const kept = shown;
        if (!same) kept.replaceChildren(...headline.cloneNode(true).childNodes);
        const boxes = part.querySelector(".headline");
        const next = now.querySelector(".headline");
        boxes.className = next.className;
        while (boxes.lastChild !== kept) boxes.lastChild.remove();
        boxes.append(...[...next.childNodes].filter((each) => each.id !== "headline"));
        while (part.lastChild !== boxes) part.lastChild.remove();
        part.append(...[...now.childNodes].filter((each) => each !== next));
      } else {
        part.replaceChildren(...now.childNodes);
      }
    }
    document.title = fresh.title;
    for (const id of open) if (id) document.getElementById(id)?.setAttribute("open", "");
    document.querySelectorAll(".scrolls").forEach((each, at) => (each.scrollLeft = scrolled[at] || 0));
    if (path && !focused.isConnected) {
      const again = document.getElementById(path) || document.querySelector(`[href="${CSS.escape(path)}"]`);
      again?.focus({ preventScroll: true });
    }
  };

  const refresh = async () => {
    if (busy || stopped || document.hidden || selecting()) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (version(fresh) !== version(document)) return location.reload();
      place(fresh);
      heard = new Date();
      stale.hidden = true;
      document.documentElement.classList.remove("old");
    } catch {
      const text = `The bridge does not answer. Everything below is from ${heard.toISOString().slice(11, 19)} UTC.`;
      if (stale.textContent !== text) stale.textContent = text;
      stale.hidden = false;
      document.documentElement.classList.add("old");
      document.title = "NO ANSWER · nats-sqs-bridge";
    } finally {
      busy = false;
    }
  };

  button.hidden = false; // it does not stop a route: `nats-sqs-bridge pause` does
  button.addEventListener("click", () => {
    stopped = !stopped;
    button.textContent = stopped ? "Refresh again" : "Stop refreshing";
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
