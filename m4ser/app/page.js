() => {
  // The turns of a timeline play where they begin, and the one that is heard is marked. Answers come and go: the page
  // listens for all of them.
  document.querySelectorAll(".insecure").forEach((note) => (note.hidden = window.isSecureContext));
  document.addEventListener("click", (event) => {
    const turn = event.target.closest(".m4ser [data-start]");
    const player = document.querySelector(".player");
    if (!turn || !player) return;
    player.currentTime = turn.dataset.start;
    player.play().catch(() => {});
  });
  const follow = (event) => {
    if (!event.target.matches(".player")) return;
    const now = event.target.currentTime;
    for (const turn of document.querySelectorAll(".m4ser .turns li")) {
      const isHeard = turn.dataset.start <= now && now < turn.dataset.end;
      if (isHeard === turn.hasAttribute("aria-current")) continue;
      turn.toggleAttribute("aria-current", isHeard);
      if (!isHeard) continue;
      turn.setAttribute("aria-current", "true");
      const list = turn.parentElement;
      list.scrollTop = turn.offsetTop - (list.clientHeight - turn.clientHeight) / 2;
    }
  };
  for (const name of ["timeupdate", "seeked"]) document.addEventListener(name, follow, true); // these do not bubble
}
