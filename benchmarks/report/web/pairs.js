"use strict";
// Two rows compared. All text from the records is set as text, never as HTML.
(() => {
  const form = document.getElementById("pair-form");
  if (!form) return;
  const rows = JSON.parse(document.getElementById("data").textContent).rows;
  const place = document.getElementById("pair");
  let read = null;
  const data = () => (read ||= JSON.parse(document.getElementById("pairs-data").textContent));
  const SVG = "http://www.w3.org/2000/svg";

  const make = (name, text, ...children) => {
    const made = document.createElement(name);
    if (text !== "") made.textContent = text;
    made.append(...children);
    return made;
  };
  const draw = (name, values, ...children) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const number = (value, decimals) => {
    const text = Math.abs(value).toFixed(decimals);
    return value < 0 && Number(text) ? `−${text}` : text;
  };
  const signed = (value, decimals) => {
    const text = number(value, decimals);
    return text.startsWith("−") || !Number(text) ? text : `+${text}`;
  };
  const heads = (names) => make("thead", "", make("tr", "", ...names.map((name) => {
    const cell = make("th", name);
    cell.scope = "col";
    return cell;
  })));
  const table = (caption, names, lines) => {
    const made = make("table", "", make("caption", caption), heads(names), make("tbody", "", ...lines));
    const box = make("div", "", made);
    box.className = "scroll";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption);
    return box;
  };
  const line = (name, ...cells) => {
    const head = make("th", name);
    head.scope = "row";
    head.className = "name";
    return make("tr", "", head, ...cells);
  };

  // An interval on a scale that all rows of the same unit share; zero is the middle.
  const interval = (value, low, high, most) => {
    const at = (one) => 60 + (56 * one) / most;
    const marks = [draw("line", { x1: 60, x2: 60, y1: 0, y2: 18, class: "zero" })];
    if (low !== null) marks.push(draw("line", { x1: at(low), x2: at(high), y1: 9, y2: 9, class: "interval" }));
    marks.push(draw("circle", { cx: at(value), cy: 9, r: 3.5, class: "value" }));
    return make("td", "", draw("svg", { viewBox: "0 0 120 18", width: 120, height: 18, "aria-hidden": "true" }, ...marks));
  };
  const widest = (lines) => Math.max(1e-9, ...lines.flat().filter((one) => one !== null).map(Math.abs));

  const short = (unit) => unit.length < 10;
  const units = (lines) => {
    const found = {};
    for (const [title, unit] of lines) if (!short(unit)) (found[unit] ||= []).push(title);
    return Object.entries(found).map(([unit, titles]) => make("p", `In ${unit}: ${titles.join(", ")}.`));
  };
  const columns = (lines, flip, names) => {
    const scales = {};
    for (const one of lines) (scales[one[1]] ||= []).push(one.slice(7, 10));
    return table(
      "Differences A − B; bold where Holm's p over these rows is below 0.05",
      ["column", ...names.map((name, one) => `${"AB"[one]}: ${name.length > 50 ? `${name.slice(0, 49)}…` : name}`), "A − B", "drawn", "95 % interval", "p", "over"],
      lines.map(([title, unit, decimals, a, na, b, nb, value, low, high, p, over]) => {
        const sides = [`${number(a, decimals)} (${na})`, `${number(b, decimals)} (${nb})`];
        if (flip) [sides[0], sides[1], value, low, high] = [sides[1], sides[0], -value, high === null ? null : -high, low === null ? null : -low];
        const gap = make("td", signed(value, decimals));
        if (p !== null && p < 0.05) gap.className = "certain";
        return line(
          short(unit) && unit !== "%" ? `${title} (${unit})` : title, make("td", sides[0]), make("td", sides[1]), gap,
          interval(value, low, high, widest(scales[unit])),
          make("td", low === null ? "–" : `${signed(low, decimals)} to ${signed(high, decimals)}`),
          make("td", p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3)), make("td", over || "one run each, nothing kept"));
      }));
  };

  const classes = ({ title, metric, rows: found, left, over }, flip) => {
    const lines = found.map(([name, a, b, low, high]) => {
      const value = flip ? b - a : a - b;
      const ends = low === null ? null : flip ? [-high, -low] : [low, high];
      return [name, ...(flip ? [b, a] : [a, b]), value, ends];
    });
    const most = widest(lines.map((one) => [one[3], ...(one[4] || [])]));
    const made = table(`${title}, ${metric} of the classes with the largest differences`,
      ["class", "A", "B", "A − B", "drawn", "95 % interval"],
      lines.map(([name, a, b, value, ends]) => line(name, make("td", number(a, 1)), make("td", number(b, 1)),
        make("td", signed(value, 1)), interval(value, ends && ends[0], ends && ends[1], most),
        make("td", ends ? `${signed(ends[0], 1)} to ${signed(ends[1], 1)}` : "–"))));
    const words = [over ? `The intervals are over ${over}, each of one class and not corrected for their number.`
      : "There is one run on each side: no interval is known."];
    if (left) words.push(`${left} more ${left === 1 ? "class differs" : "classes differ"} less, or not at all.`);
    const whole = make("details", "", make("summary", `${title}: ${metric} per class`));
    if (found.length) whole.append(made, make("p", words.join(" ")));
    else whole.append(make("p", "No class differs."));
    return whole;
  };

  // A thumbnail with boxes, if it has any, drawn over it.
  const picture = (thumb, boxes, words) => {
    const [uri, width, height] = data().thumbs[thumb];
    const marks = (boxes || []).map(([left, top, across, down, name, state]) => {
      const box = draw("rect", { x: left, y: top, width: across, height: down, class: `box ${state}` });
      const title = draw("title", {});
      title.textContent = name;
      box.append(title);
      return box;
    });
    return draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words },
      draw("image", { href: uri, width, height }), ...marks);
  };
  const panel = (thumb, boxes, words) => {
    const made = make("div", "", picture(thumb, boxes, words), make("span", words));
    made.className = "panel";
    return made;
  };
  const listed = (boxes) => boxes.map((one) => one[4]).join(", ") || "nothing";
  const figure = (kind, { thumb, file, truth, said, right, boxes }, flip) => {
    const order = flip ? [1, 0] : [0, 1];
    const sides = order.map((one, number) => {
      const words = `${"AB"[number]}: ${said[one]}`;
      if (kind === "boxes") return panel(thumb, boxes[one + 1], `${words}; ${listed(boxes[one + 1])}`);
      const made = make("div", words);
      made.className = right[one] ? "right" : "wrong";
      return made;
    });
    const made = make("figure", "");
    if (kind === "boxes") {
      const band = make("div", "", panel(thumb, boxes[0], `Truth: ${truth}; ${listed(boxes[0])}`), ...sides);
      band.className = "panels";
      made.append(band);
    } else made.append(picture(thumb, null, `${file}, truth: ${truth}`), make("div", `Truth: ${truth}`), ...sides);
    made.append(make("figcaption", file));
    return made;
  };
  const images = ({ title, reason, kind, shown, left }, flip) => {
    const whole = make("details", "", make("summary", `${title}: test images`));
    if (reason) {
      whole.append(make("p", `The images are not shown: ${reason}`));
      return whole;
    }
    const gallery = make("div", "", ...shown.map((one) => figure(kind, one, flip)));
    gallery.className = `gallery ${kind}`;
    const words = [shown.length ? kind === "boxes"
      ? "The images whose mean F1 differs most, in turns better for either side. Pink boxes are the truth; of detections blue ones are right, orange ones wrong; dotted ones do not count. At most 15 are drawn."
      : "The images that more runs of one side have right, in turns for either side."
      : left ? "" : "No image is judged differently."];
    if (left) words.push(`${left} more ${left === 1 ? "is" : "are"} left out: the page holds at most ${data().album}, and no image that cannot be read.`);
    whole.append(make("p", words.join(" ")), gallery);
    return whole;
  };

  const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const command = (a, b) => `python -m benchmarks compare ${quoted(rows[a])} ${quoted(rows[b])} --profile ${quoted(data().profile)}`;
  const items = (texts) => make("ul", "", ...texts.map((text) => make("li", text)));
  const show = () => {
    const [a, b] = [Number(form.elements.a.value), Number(form.elements.b.value)];
    if (a === b) return place.replaceChildren(make("p", "Choose two rows."));
    const flip = a > b;
    const found = data().pairs[flip ? `${b} ${a}` : `${a} ${b}`];
    const command_line = make("code", command(a, b));
    if (!found) {
      return place.replaceChildren(make("p", `This pair is not in the page, which has the pairs of ${data().chosen.length} rows: `
        + `${data().chosen.map((one) => rows[one]).join(", ")}. These are the rows that are best, or not told apart from the best, in most columns. This command compares it:`), command_line);
    }
    const parts = [];
    if (found.rows.length) parts.push(columns(found.rows, flip, [rows[a], rows[b]]), ...units(found.rows));
    else parts.push(make("p", "They have no column in common."));
    const differs = found.differs.length ? make("details", "", make("summary", "What differs besides the weights"), items(found.differs)) : make("p", "Nothing differs but the weights.");
    parts.push(differs);
    if (found.refused.length) parts.push(make("details", "", make("summary", "Columns that are not compared"), items(found.refused)));
    if (found.classes.length) parts.push(make("h3", "Classes"), ...found.classes.map((one) => classes(one, flip)));
    if (found.images.length) parts.push(make("h3", "Test images"), ...found.images.map((one) => images(one, flip)));
    else parts.push(make("p", data().pictures ? "No test images: these runs kept no predictions." : "The page was made without test images (--without-images)."));
    parts.push(make("p", "The same differences as a file:"), command_line);
    return place.replaceChildren(...parts);
  };

  for (const select of [form.elements.a, form.elements.b]) {
    select.append(...rows.map((label, number) => {
      const one = make("option", label);
      one.value = number;
      return one;
    }));
  }
  // Parsed when they are wanted: they hold the images.
  const first = () => {
    const [a, b] = data().chosen;
    form.elements.a.value = a;
    form.elements.b.value = b;
    show();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", show);
  document.getElementById("pair-swap").addEventListener("click", () => {
    [form.elements.a.value, form.elements.b.value] = [form.elements.b.value, form.elements.a.value];
    show();
  });
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    observer.disconnect();
    if (!read) first();
  }).observe(form);
})();
