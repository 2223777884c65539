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

  const draw = async (figure) => {
    const chart = data.charts[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    plot.role = "img";
    plot.setAttribute("aria-label", `${chart.title}. ${chart.caption} The numbers are in the table below it.`);
    const layered = (one) => ({ ...one, layer: one.layer.map((layer) => ({ ...layer, mark: { tooltip: true, ...(layer.mark.type ? layer.mark : { type: layer.mark }) } })) });
    const options = { mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config: data.config, tooltip: tooltip(chart) };
    try {
      await window.vegaEmbed(plot, layered(chart.spec), options);
      figure.dataset.drawn = "";
    } catch (error) {
      plot.replaceChildren(make("p", `This chart could not be drawn: ${error.message}`));
      console.error(error);
    }
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "300px" });
  for (const figure of document.querySelectorAll("figure.chart")) {
    watcher.observe(figure);
    const numbers = figure.querySelector(".numbers");
    numbers.addEventListener("toggle", () => {
      const chart = data.charts[figure.dataset.chart];
      if (numbers.open && numbers.children.length === 1) numbers.append(table(chart, chart.spec.data.values));
    });
  }
  window.addEventListener("beforeprint", () => {
    for (const figure of document.querySelectorAll("figure.chart:not([data-drawn])")) draw(figure);
  });
})();
