// Keeps the panel true: follows the guard's events, and takes the call's standing anew when one comes. The law of this file: what is not
// known to be true at this moment does not stand here. Without an answer the page turns to "not verified: no connection".
"use strict";

(() => {
  const QUIET_MS_MAX = 35000; // two of the stream's heartbeats, and a little
  const AGAIN_MS = 3000;
  const live = document.getElementById("live");
  const announce = document.getElementById("announce");
  let ahead = 0; // the guard's clock less this one's
  let change = 0;
  let quiet = 0;

  const standing = () => document.getElementById("standing");

  const words = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  };

  const tick = () => {
    const now = Date.now() + ahead;
    for (const each of document.querySelectorAll("[data-since]")) each.textContent = words(now - each.dataset.since);
    for (const each of document.querySelectorAll("[data-until]")) each.textContent = words(each.dataset.until - now);
  };

  // What stands in `piece` takes the place of what stood here. Who was typing, or had something in hand, has it still.
  const put = (piece) => {
    const before = standing();
    const held = live.contains(document.activeElement) ? document.activeElement.id : "";
    const kept = [...before.querySelectorAll("input:not([type=hidden])")].map((one) => [one.id, one.value, one.selectionStart]);
    const open = [...before.querySelectorAll("details[open]")].map((one) => one.id);
    before.replaceWith(piece);
    for (const [id, value, at] of kept) {
      const now = id && document.getElementById(id);
      if (now) {
        now.value = value;
        if (at !== null) now.setSelectionRange(at, at);
      }
    }
    for (const id of open) {
      const now = id && document.getElementById(id);
      if (now) now.open = true;
    }
    const focused = held && document.getElementById(held);
    if (focused) focused.focus();
    if (before.dataset.word !== piece.dataset.word) {
      announce.textContent = `${piece.dataset.word}. ${piece.querySelector(".told p").textContent}`;
      document.title = document.title.replace(/^[^·]*/, `${piece.dataset.word} `);
    }
    begin();
  };

  const begin = () => {
    clearTimeout(change);
    const { now, changes } = standing().dataset;
    if (now) ahead = Number(now) - Date.now();
    if (changes) change = setTimeout(refresh, Math.min(Number(changes) - Number(now) + 200, 2 ** 31 - 1));
    tick();
  };

  const lost = () => {
    clearTimeout(quiet);
    if (!standing().dataset.now) return;
    const piece = document.getElementById("lost").content.firstElementChild.cloneNode(true);
    const known = standing().querySelector(".marks time"); // as the server wrote it, in the zone of all other times
    const last = piece.querySelector("[data-lost]");
    last.textContent = known?.textContent ?? "";
    last.dateTime = known?.dateTime ?? "";
    put(piece);
  };

  // The call's standing as it is now; false if the guard did not say.
  const refresh = async () => {
    try {
      const answer = await fetch(live.dataset.piece, { redirect: "error", cache: "no-store" });
      if (answer.status === 404 || answer.status === 401) {
        location.assign(live.dataset.leave); // no longer this agent's, or nobody is signed in
        return true;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      put(document.adoptNode(page.getElementById("standing")));
      return true;
    } catch {
      lost();
      return false;
    }
  };

  // Every byte is a sign of life, comments too; each event means: look again. EventSource shows neither, nor a status.
  const follow = async () => {
    const stop = new AbortController();
    const alive = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => stop.abort(), QUIET_MS_MAX);
    };
    alive();
    try {
      const answer = await fetch(live.dataset.events, { signal: stop.signal, redirect: "error", headers: { Accept: "text/event-stream" } });
      if (answer.status === 401) {
        location.assign(live.dataset.leave); // nobody is logged in any more
        return;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      if (!(await refresh())) throw new Error("no standing");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let got = await reader.read(); !got.done; got = await reader.read()) {
        alive();
        const events = (rest + got.value).split("\n\n");
        rest = events.pop();
        const names = events.map((one) => /^event: (.*)$/m.exec(one)?.[1]);
        if (names.includes("over") || names.includes("unavailable")) lost();
        else if (names.some(Boolean)) await refresh();
      }
    } catch {
      // told below
    }
    stop.abort();
    lost();
    setTimeout(follow, AGAIN_MS);
  };

  // A desk that shows this page in a frame may hand the token in: postMessage({ivrguardToken: "…"}, origin).
  const redemption = document.getElementById("redemption");
  if (redemption && redemption.dataset.embedders) {
    const allowed = redemption.dataset.embedders.split(" ");
    addEventListener("message", (event) => {
      if (event.source !== parent || !allowed.includes(event.origin) || typeof event.data?.ivrguardToken !== "string") return;
      redemption.elements.token.value = event.data.ivrguardToken;
      redemption.requestSubmit();
    });
  }

  if (live) {
    begin();
    setInterval(tick, 1000);
    follow();
  }
})();
