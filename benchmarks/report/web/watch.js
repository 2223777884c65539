"use strict";
// Of the page that `watch` serves: asks for the version of the records, and loads the page anew where it is another one.
// Filters, sorting, what is open, the place and the focus are kept over it.
(() => {
  const KEY = "report-watch";
  const own = document.documentElement.dataset.version;
  const pause = 1000 * Number(document.documentElement.dataset.poll);
  const note = document.getElementById("watch-note");
  const button = document.getElementById("watch-pause");
  let paused = false;

  const fields = () => [...document.querySelectorAll("form select, form input")];
  const name = (field) => `${field.form.id} ${field.name}`;
  // A row's number may be another one in the next page: what is chosen is kept by its text.
  const value = (field) => (field.tagName === "SELECT" ? field.selectedOptions[0]?.textContent : field.value);
  const label = (sort) => sort.getAttribute("aria-label") || sort.textContent;
  const heading = (cell) => label(document.querySelectorAll("#board .sort")[cell.parentNode.cellIndex]);
  const row = (cell) => cell.closest("tr").cells[0].textContent;
  const keep = () => {
    const sorted = document.querySelector("#board th[aria-sort]");
    const focus = document.activeElement;
    const kept = { fields: {}, x: scrollX, y: scrollY };
    for (const field of fields()) kept.fields[name(field)] = value(field);
    if (sorted) kept.sort = [label(sorted.querySelector(".sort")), sorted.getAttribute("aria-sort")];
    if (focus?.matches("#board .cell")) kept.cell = [row(focus), heading(focus)];
    else if (focus?.form && focus.name) kept.field = name(focus);
    else if (focus?.id) kept.id = focus.id;
    kept.open = [...document.querySelectorAll("main details[open] > summary")].map((one) => one.textContent);
    const scroll = document.querySelector(".scroll");
    if (scroll) kept.scroll = [scroll.scrollLeft, scroll.scrollTop];
    try { sessionStorage.setItem(KEY, JSON.stringify(kept)); } catch { /* the page starts afresh */ }
  };
  const restore = () => {
    let kept = null;
    try { kept = JSON.parse(sessionStorage.getItem(KEY)); sessionStorage.removeItem(KEY); } catch { /* none */ }
    if (!kept) return;
    for (const field of fields()) {
      const before = kept.fields[name(field)];
      if (before === undefined || before === value(field)) continue;
      if (field.tagName !== "SELECT") field.value = before;
      else {
        const found = [...field.options].find((one) => one.textContent === before);
        if (!found) continue;
        found.selected = true;
      }
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    if (kept.sort) {
      const sort = [...document.querySelectorAll("#board .sort")].find((one) => label(one) === kept.sort[0]);
      for (let click = 0; sort && click < 2 && sort.parentNode.getAttribute("aria-sort") !== kept.sort[1]; click++) sort.click();
    }
    for (const one of document.querySelectorAll("main details > summary")) {
      if (kept.open.includes(one.textContent)) one.parentNode.open = true;
    }
    const cells = kept.cell ? [...document.querySelectorAll("#board .cell")] : [];
    const focus = kept.cell ? cells.find((one) => row(one) === kept.cell[0] && heading(one) === kept.cell[1])
      : kept.field ? fields().find((one) => name(one) === kept.field) : kept.id && document.getElementById(kept.id);
    if (focus) focus.focus({ preventScroll: true });
    const scroll = document.querySelector(".scroll");
    if (scroll && kept.scroll) [scroll.scrollLeft, scroll.scrollTop] = kept.scroll;
    scrollTo(kept.x, kept.y);
  };

  const say = (text) => { if (note.textContent !== text) note.textContent = text; };
  const ask = async () => {
    try {
      const answer = await (await fetch("/version", { cache: "no-store" })).json();
      const newer = answer.version !== own;
      const busy = paused || document.querySelector("dialog[open]");
      if (newer && !busy) {
        keep();
        location.reload();
        return;
      }
      say(answer.error ? `The page is not of the newest records: ${answer.error}`
        : newer ? "There are newer records." : "Follows the records.");
    } catch {
      say("The server has ended: this page stays as it is.");
    }
    setTimeout(ask, pause);
  };
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
  });
  restore();
  setTimeout(ask, pause);
})();
