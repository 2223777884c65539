"use strict";
// Charts, each drawn when it comes near the view. Vega interprets expressions, so that the policy needs no unsafe-eval.
(() => {
  const island = document.getElementById("charts-data");
  if (!island) return;
  const data = JSON.parse(island.textContent);
  const make = (name, text, ...children) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    made.append(...children);
    return made;
  };
  const tip = make("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const shown = (value) => (value === null || value === undefined ? "–"
    : typeof value === "number" ? String(Number(value.toPrecision(5))).replace("-", "−") : value);
  const lines = (chart, value) => Object.entries(chart.columns)
    .filter(([key]) => value[key] !== null && value[key] !== undefined)
    .map(([key, heading]) => make("div", `${heading}: ${shown(value[key])}`));
  const tooltip = (chart) => (handler, event, item, value) => {
    const datum = value && item && item.datum;
    tip.hidden = !datum;
    if (!datum) return;
    tip.replaceChildren(...lines(chart, datum));
    tip.style.left = `${Math.min(event.pageX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.pageY + 12}px`;
  };
  const table = (chart, values) => {
    const heads = Object.values(chart.columns).map((text) => {
      const head = make("th", text);
      head.scope = "col";
      return head;
    });
    const rows = values.map((value) => make("tr", "", ...Object.keys(chart.columns).map((key, place) => {
      const cell = make(place ? "td" : "th", String(shown(value[key])));
      if (!place) cell.scope = "row";
      return cell;
    })));
    const box = make("div", "", make("table", "", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows)));
    box.className = "scroll";
    box.tabIndex = 0;
    box.role = "region";
    box.setAttribute("aria-label", `Numbers of ${chart.title}`);
    return box;
  };

  // The engine: unpacked once, run as a script of the page, which the policy allows by its hash.
  let engine = null;
  const views = new Map();
  const unpacked = async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("engine").textContent), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = make("script", await new Response(stream).text());
    document.head.append(script);
    script.remove();
    return window.vegaEmbed;
  };

  // A chart whose two columns are chosen: its values, the ends of its axes, the corner of each name that covers least.
  const settled = (chart) => {
    const { columns, rows, points, tau, first, pairs, zero } = chart.choices;
    const [x, y] = chart.chosen || first;
    const all = rows.map(([row, name], place) => {
      const [a, b] = [points[place][x], points[place][y]];
      return a && b && { row, name, x: a[0], x_low: a[1], x_high: a[2], y: b[0], y_low: b[1], y_high: b[2] };
    });
    const values = all.filter(Boolean);
    const ends = (key) => {
      const known = values.flatMap((value) => [value[key], value[`${key}_low`], value[`${key}_high`]]).filter((one) => one !== null);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const gap = (high - low || Math.abs(high) || 1) * 0.06;
      return [low - gap, high + gap];
    };
    const [across, up] = [ends("x"), ends("y")];
    if (zero) across[0] = 0;
    const place = (value) => [(value.x - across[0]) / (across[1] - across[0]), (value.y - up[0]) / (up[1] - up[0])];
    const [wide, tall] = [(chart.width || 800) - 60, 360];
    const taken = [];
    for (const value of values) {
      const [left, bottom] = place(value);
      const size = (6.2 * value.name.length) / wide;
      const boxes = [0, 1, 2, 3].map((corner) => {
        const from = corner < 2 ? left + 6 / wide : left - size - 6 / wide;
        const low = corner % 2 ? bottom - 16 / tall : bottom + 3 / tall;
        return [from, from + size, low, low + 14 / tall];
      });
      const cost = (box) => taken.filter((one) => box[0] < one[1] && one[0] < box[1] && box[2] < one[3] && one[2] < box[3]).length
        + values.filter((one) => { const [a, b] = place(one); return box[0] <= a && a <= box[1] && box[2] <= b && b <= box[3]; }).length
        + 4 * (box[0] < 0 || box[1] > 1);
      const costs = boxes.map(cost);
      value.corner = costs.indexOf(Math.min(...costs));
      taken.push(boxes[value.corner]);
    }
    const titles = [x, y].map((column) => `${columns[column][0]}, ${columns[column][1]}`);
    const fitted = (encoding) => Object.fromEntries(Object.entries(encoding).map(([key, one]) => [key,
      key === "x" ? { ...one, title: titles[0], scale: { domain: across, nice: false } }
        : key === "y" ? { ...one, title: titles[1], scale: { domain: up, nice: false } } : one]));
    const layer = chart.spec.layer.map((one) => ({ ...one, encoding: fitted(one.encoding) }));
    return {
      title: `${columns[y][0]} against ${columns[x][0]}`,
      caption: pairs ? `${pairs.find((pair) => pair[1] === x && pair[2] === y)[3]}.` : `${x === y ? "One column twice" : tau[x < y ? `${x} ${y}` : `${y} ${x}`] || "Fewer than two rows have both numbers"}.`,
      columns: { ...chart.columns, x: columns[x][0], y: columns[y][0] },
      spec: { ...chart.spec, data: { values }, layer },
    };
  };
  const now = (figure) => {
    const chart = data.charts[figure.dataset.chart];
    return chart.choices ? settled(chart) : chart;
  };
  const selects = (figure) => {
    const chart = data.charts[figure.dataset.chart];
    chart.chosen = [...chart.choices.first];
    const { columns, pairs } = chart.choices;
    const box = make("div", "", ...(pairs ? ["Column"] : ["Across", "Up"]).map((word, side) => {
      const select = make("select", "", ...(pairs || columns).map(([name], place) => new Option(name, place)));
      select.value = pairs ? 0 : chart.chosen[side];
      select.addEventListener("input", () => {
        if (pairs) chart.chosen = pairs[select.value].slice(1, 3);
        else chart.chosen[side] = Number(select.value);
        draw(figure);
        numbers(figure);
      });
      return make("label", `${word} `, select);
    }));
    box.className = "filters";
    figure.prepend(box);
  };
  const numbers = (figure) => {
    const box = figure.querySelector(".numbers");
    if (!box.open) return;
    const chart = now(figure);
    box.replaceChildren(box.firstElementChild, table(chart, chart.spec.data.values));
  };

  const draw = async (figure) => {
    const given = data.charts[figure.dataset.chart];
    given.width = figure.querySelector(".plot").clientWidth;
    const chart = now(figure);
    if (given.choices) figure.querySelector("figcaption").replaceChildren(make("b", `${chart.title}.`), ` ${chart.caption}`);
    const plot = figure.querySelector(".plot");
    plot.role = "img";
    if (chart.wide) plot.tabIndex = 0; // it may scroll
    plot.setAttribute("aria-label", `${chart.title}. ${chart.caption} The numbers are in the table below it.`);
    const layered = (one) => ({ ...one, layer: one.layer.map((layer) => ({ ...layer, mark: { tooltip: true, ...(layer.mark.type ? layer.mark : { type: layer.mark }) } })) });
    const options = { mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config: data.config, tooltip: tooltip(chart) };
    try {
      engine ||= unpacked();
      const embed = await engine;
      const place = make("div"); // to which Vega gives roles of its own; the plot around it has the label
      place.ariaHidden = "true";
      plot.replaceChildren(place);
      views.get(figure)?.finalize();
      views.set(figure, await embed(place, layered(chart.spec), options));
      figure.dataset.drawn = "";
    } catch (error) {
      plot.replaceChildren(make("p", `This chart could not be drawn: ${error.message}`));
      console.error(error);
    }
  };
  let turn = Promise.resolve(); // one after the other, so that the page answers in between
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      turn = turn.then(() => draw(entry.target)).then(() => new Promise((next) => { setTimeout(next); }));
    }
  }, { rootMargin: "50px" });
  for (const figure of document.querySelectorAll("figure.chart")) {
    watcher.observe(figure);
    if (data.charts[figure.dataset.chart].choices) selects(figure);
    figure.querySelector(".numbers").addEventListener("toggle", () => numbers(figure));
  }
  window.addEventListener("beforeprint", () => {
    for (const figure of document.querySelectorAll("figure.chart:not([data-drawn])")) draw(figure);
  });
})();
