"use strict";
// Sorting, filters, differences, the drawer and the theme. All text from the records is set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const table = document.getElementById("board");
  const filters = document.getElementById("filters");
  const said = document.getElementById("said");
  const heads = [...table.tHead.rows[1].cells];
  const spans = [...table.tHead.rows[0].cells].slice(1);
  const bodies = [...table.tBodies].filter((body) => !body.classList.contains("published"));
  const rows = bodies.flatMap((body) => [...body.querySelectorAll("tr.row")]);
  root.classList.add("js");

  // Theme: the system's, or the reader's choice, which the page cannot keep where storage is closed to files.
  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const theme = (name) => {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    button.dataset.theme = name;
    try { localStorage.setItem("report-theme", name); } catch { /* not kept */ }
  };
  let kept = "system";
  try { kept = localStorage.getItem("report-theme") || kept; } catch { /* the system's */ }
  theme(themes.includes(kept) ? kept : "system");
  button.addEventListener("click", () => theme(themes[(themes.indexOf(button.dataset.theme) + 1) % 3]));

  // Sorting, within each group: the best first, then the worst first, then the table's own order. No number is last.
  const order = (column, direction) => {
    const name = (row) => data.rows[row.dataset.row];
    const value = (row) => data.cells[row.dataset.row][column][0];
    const own = (a, b) => a.dataset.row - b.dataset.row;
    if (!direction) return own;
    if (column < 0) return (a, b) => direction * name(a).localeCompare(name(b)) || own(a, b);
    return (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || own(a, b);
      return direction * (x - y) || own(a, b);
    };
  };
  const sort = (head) => {
    const column = Number(head.querySelector(".sort").dataset.column);
    const first = column >= 0 && data.columns[column][3] !== false ? -1 : 1;
    const before = { descending: -1, ascending: 1 }[head.getAttribute("aria-sort")] || 0;
    const direction = before === 0 ? first : before === first ? -first : 0;
    for (const one of heads) one.removeAttribute("aria-sort");
    if (direction) head.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    const compare = order(column, direction);
    for (const body of bodies) body.append(...[...body.querySelectorAll("tr.row")].sort(compare));
    stops();
    said.textContent = direction ? `Sorted by ${head.textContent.trim()}.` : "In the table's own order.";
  };
  for (const head of heads) head.querySelector(".sort").addEventListener("click", () => sort(head));

  // Filters of rows and columns, and differences to a row.
  const choose = () => {
    const chosen = Object.fromEntries(new FormData(filters));
    const text = chosen.text.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = Boolean((chosen.architecture && row.dataset.architecture !== chosen.architecture)
        || (chosen.group && row.parentNode.dataset.group !== chosen.group)
        || (text && !data.rows[row.dataset.row].toLowerCase().includes(text)));
      shown += !row.hidden;
    }
    for (const body of bodies) {
      const head = body.querySelector("tr.group");
      if (head) head.hidden = ![...body.querySelectorAll("tr.row")].some((row) => !row.hidden);
    }
    const seen = heads.map((head, place) => place === 0
      || ((!chosen.task || head.dataset.task === chosen.task) && (!chosen.kind || head.dataset.kind === chosen.kind)));
    for (const line of [table.tHead.rows[1], ...rows, ...table.querySelectorAll(".published tr:not(.group)")]) {
      seen.forEach((there, place) => { line.cells[place].hidden = !there; });
    }
    let from = 1;
    for (const head of spans) {
      const whole = head.dataset.whole || (head.dataset.whole = head.colSpan);
      const count = seen.slice(from, from + Number(whole)).filter(Boolean).length;
      from += Number(whole);
      head.hidden = !count;
      head.colSpan = count || 1;
    }
    stops();
    said.textContent = `${shown} of ${rows.length} rows, ${seen.filter(Boolean).length - 1} of ${heads.length - 1} columns.`;
  };
  const differences = () => {
    const base = filters.elements.delta.value;
    for (const row of rows) {
      data.cells[row.dataset.row].forEach(([mean], column) => {
        const cell = row.cells[column + 1];
        const other = base === "" ? null : data.cells[base][column][0];
        if (mean === null || other === null || row.dataset.row === base) delete cell.dataset.delta;
        else {
          const value = mean - other;
          cell.dataset.delta = `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(data.columns[column][4])}`;
        }
      });
    }
  };
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", (event) => (event.target.name === "delta" ? differences() : choose()));

  // One stop of the Tab key in the table; the arrow keys move from cell to cell.
  const lines = () => [...table.querySelectorAll("tr.row")].filter((row) => !row.hidden)
    .map((row) => [...row.querySelectorAll("td:not([hidden]) .cell")]);
  const stops = () => {
    for (const one of table.querySelectorAll('.cell[tabindex="0"]')) one.tabIndex = -1;
    const first = table.querySelector("tr.row:not([hidden]) td:not([hidden]) .cell");
    if (first) first.tabIndex = 0;
  };
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  table.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move || !event.target.classList.contains("cell")) return;
    const grid = lines();
    const line = grid.findIndex((one) => one.includes(event.target));
    const place = grid[line].indexOf(event.target);
    const next = grid[line + move[0]]?.[place + move[1]];
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  stops();

  // The drawer.
  const drawer = document.getElementById("drawer");
  const make = (name, text, ...children) => {
    const made = document.createElement(name);
    if (text !== "") made.textContent = text;
    made.append(...children);
    return made;
  };
  const list = (facts) => {
    const made = make("dl", "");
    made.className = "facts";
    for (const [key, value] of Object.entries(facts)) {
      if (value !== "" && value !== null) made.append(make("dt", key), make("dd", String(value)));
    }
    return made;
  };
  const changes = (lines) => {
    if (!lines.length) return make("p", "None of the published protocol's settings, as far as they could be resolved here.");
    const head = make("thead", "", make("tr", "", ...["setting", "protocol", "this run"].map((text) => {
      const cell = make("th", text);
      cell.scope = "col";
      return cell;
    })));
    return make("table", "", head, make("tbody", "", ...lines.map((line) => make("tr", "", ...line.map((one) => make("td", one))))));
  };
  const about = (run, open) => {
    const shared = (key) => data.shared[run[key]];
    const made = make("details", "", make("summary", `seed ${run.seed}, ${run.label}: ${run.status}, ${run.wall} s`));
    made.open = open;
    if (run.error) made.append(make("p", run.error));
    for (const note of run.notes) made.append(make("p", note));
    made.append(
      list({ run: run.run, begun: run.start, "wall time": `${run.wall} s`, "peak memory": run.memory === null ? "" : `${run.memory} MB`, record: run.record, log: run.log }),
      make("h3", "Specification and data"), list(shared("spec")),
      make("h3", "Checkpoint"), list(shared("checkpoint")),
      make("h3", "Settings that differ from the published protocol"), changes(shared("settings")),
      make("h3", "Device, commit, versions"), list(shared("where")),
      make("h3", "To repeat it"), make("code", run.repeat));
    return made;
  };
  table.addEventListener("click", (event) => {
    const target = event.target.closest(".cell");
    if (!target) return;
    const row = target.closest("tr").dataset.row;
    const column = target.parentNode.cellIndex - 1;
    const [, runs, reason] = data.cells[row][column];
    const close = make("button", "Close");
    close.type = "button";
    close.addEventListener("click", () => drawer.close());
    const title = make("h2", `${data.rows[row]}, ${data.columns[column][0]} ${data.columns[column][1]}`);
    title.id = "drawer-title";
    const body = document.getElementById("drawer-body");
    body.replaceChildren(close, title, make("p", target.textContent.trim()));
    if (reason) body.append(make("p", reason));
    body.append(...runs.map((place, number) => about(data.runs[place], number === 0)));
    drawer.showModal();
  });
  drawer.addEventListener("click", (event) => { if (event.target === drawer) drawer.close(); });
})();
