"use strict";
// Everything of a point comes as data and goes into the page as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SHOWN = 25;
const columns = data.columns, byName = new Map(columns.map(c => [c.name, c]));
const count = data.count;
const at = (name, i) => {
  const column = byName.get(name);
  if (!column) return null;
  const value = column.values[i];
  return column.words && value !== null ? column.words[value] : value;
};
const numeric = column => !column.words;
const el = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
// Plotly reads a little markup in names and hover texts.
const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = value => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-2) ? value.toExponential(3) : value.toLocaleString("en", { maximumSignificantDigits: 4 });
};
const shown = (name, i) => {
  const value = at(name, i);
  return typeof value === "number" ? short(value * byName.get(name).factor) : short(value);
};

// Table
const tableColumns = data.table.map(name => byName.get(name));
const table = document.getElementById("points");
const filters = new Map();
let order = { name: null, up: true }, rows = [...Array(count).keys()], page = 0, chosen = null;

const meets = (column, text, i) => {
  const value = at(column.name, i);
  const asked = /^\s*(<=|>=|<|>|=)\s*(-?[\d.]+(?:e-?\d+)?)\s*$/i.exec(text);
  if (asked && numeric(column)) {
    if (value === null) return false;
    const own = value * column.factor, bound = Number(asked[2]);
    return { "<": own < bound, ">": own > bound, "<=": own <= bound, ">=": own >= bound,
             "=": Math.abs(own - bound) <= 1e-6 * Math.abs(bound) }[asked[1]];
  }
  return shown(column.name, i).toLowerCase().includes(text.trim().toLowerCase());
};
const compare = (a, b) => {
  const x = at(order.name, a), y = at(order.name, b);
  // What has no value is last, whichever way.
  if (x === null || y === null) return (x === null) - (y === null);
  const sign = typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0;
  return order.up ? sign : -sign;
};
const update = () => {
  const active = [...filters].filter(([, text]) => text.trim() !== "");
  rows = [...Array(count).keys()].filter(i => active.every(([name, text]) => meets(byName.get(name), text, i)));
  if (order.name !== null) rows.sort(compare);
  page = Math.min(page, Math.max(0, Math.ceil(rows.length / SHOWN) - 1));
  drawRows();
};
const drawRows = () => {
  const body = table.tBodies[0];
  const parts = rows.slice(page * SHOWN, (page + 1) * SHOWN).map(i => {
    const row = el("tr", undefined, { tabindex: "0", "data-point": at("point", i) });
    if (i === chosen) row.className = "chosen";
    for (const column of tableColumns) {
      const cell = el("td", shown(column.name, i));
      if (numeric(column)) cell.className = "number";
      row.append(cell);
    }
    row.addEventListener("click", () => choose(i));
    row.addEventListener("keydown", event => { if (event.key === "Enter") choose(i); });
    return row;
  });
  body.replaceChildren(...parts);
  const last = Math.min(rows.length, (page + 1) * SHOWN);
  document.getElementById("shown").textContent =
    `${rows.length ? page * SHOWN + 1 : 0} to ${last} of ${rows.length}` + (rows.length < count ? `, ${count} in all` : "");
  document.getElementById("before").disabled = page === 0;
  document.getElementById("after").disabled = last >= rows.length;
};
const drawHead = () => {
  const names = el("tr"), fields = el("tr");
  for (const column of tableColumns) {
    const head = el("th", undefined, { scope: "col" }), button = el("button", column.label, { type: "button" });
    button.addEventListener("click", () => {
      order = { name: column.name, up: order.name === column.name ? !order.up : true };
      for (const other of names.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      update();
    });
    head.append(button);
    names.append(head);
    const cell = el("th"), input = el("input", undefined, {
      "aria-label": `filter ${column.label}`, "data-column": column.name, placeholder: numeric(column) ? "< 5" : "contains" });
    input.addEventListener("input", () => { filters.set(column.name, input.value); page = 0; update(); });
    cell.append(input);
    fields.append(cell);
  }
  table.tHead.replaceChildren(names, fields);
};
document.getElementById("before").addEventListener("click", () => { page -= 1; drawRows(); });
document.getElementById("after").addEventListener("click", () => { page += 1; drawRows(); });

// One point
const bars = (title, prefix, words) => {
  const part = el("div");
  part.append(el("h3", title));
  const found = columns.filter(c => c.name.startsWith(prefix)).map(c => [words[c.name] || c.label, at(c.name, chosen)])
    .filter(([, value]) => value >= 0.0005);
  if (prefix === "stall.") found.sort((a, b) => b[1] - a[1]);
  for (const [name, value] of found) {
    const row = el("div", undefined, { class: "bar" }), track = el("div", undefined, { class: "track" });
    const fill = el("div", undefined, { class: "fill" });
    fill.style.width = `${Math.min(100, 100 * value)}%`;
    track.append(fill);
    row.append(el("span", name), track, el("span", `${(100 * value).toFixed(1)} %`, { class: "share" }));
    part.append(row);
  }
  return part;
};
const choose = i => {
  chosen = i;
  const facts = el("div"), list = el("dl");
  facts.append(el("h3", "values"));
  for (const column of columns) {
    if (/^(util|stall)\./.test(column.name) || at(column.name, i) === null || at(column.name, i) === "") continue;
    list.append(el("dt", column.label), el("dd", shown(column.name, i)));
  }
  facts.append(list);
  const box = document.getElementById("detail"), grid = el("div", undefined, { class: "columns" });
  grid.append(facts);
  const title = `Point ${at("point", i)}`;
  if (at("status", i) === "ok") grid.append(bars("busy share of every unit", "util.", data.words),
                                            bars("where warp-group time goes", "stall.", data.words));
  box.replaceChildren(el("h2", title), grid);
  box.firstChild.style.marginTop = "0";
  if (at("status", i) === "ok") box.append(timeline(at("point", i)));
  box.hidden = false;
  drawRows();
  box.scrollIntoView({ behavior: "smooth", block: "nearest" });
};
const timeline = point => {
  const part = el("div");
  part.append(el("h3", "timeline"));
  if (data.timelines[point]) {
    const link = el("p", "Units, warp groups and copies of one SM: ");
    link.append(el("a", data.timelines[point], { href: data.timelines[point], download: "" }),
                document.createTextNode(", for ui.perfetto.dev or chrome://tracing."));
    part.append(link);
  } else {
    const copy = el("button", "copy", { type: "button" }), command = data.command.replace("POINT", point);
    copy.addEventListener("click", () => navigator.clipboard && navigator.clipboard.writeText(command));
    part.append(el("p", "This writes it beside the page and links it here: "), el("code", command, { class: "command" }),
                copy);
  }
  return part;
};

// Charts
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const MARKERS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const base = { margin: { l: 70, r: 20, t: 36, b: 55 }, hovermode: "closest", paper_bgcolor: "#fff", plot_bgcolor: "#fff",
               legend: { orientation: "h", y: -0.22 } };
const ok = [...Array(count).keys()].filter(i => at("status", i) === "ok");
const hover = i => [...data.axes, "time_s", "tflops", "bound"]
  .map(name => `${plain(byName.get(name).label)}: ${plain(shown(name, i))}`).join("<br>");
const choices = (id, names, value, then) => {
  const select = document.getElementById(id);
  select.replaceChildren(...names.map(name => el("option", byName.get(name) ? byName.get(name).label : name, { value: name })));
  select.value = value;
  select.addEventListener("change", then);
};
const onPoint = node => node.on("plotly_click", event => {
  const i = event.points[0].customdata;
  if (Number.isInteger(i)) choose(i);
});

const drawRoofline = () => {
  const hw = document.getElementById("roof-hw").value, by = document.getElementById("roof-by").value;
  const roof = data.roofs[hw], here = ok.filter(i => at("hw", i) === hw && at("intensity", i) > 0 && at("tflops", i) > 0);
  const groups = new Map();
  for (const i of here) {
    const name = shown(by, i);
    groups.set(name, [...(groups.get(name) || []), i]);
  }
  const traces = [...groups].map(([name, points], n) => ({
    type: "scatter", mode: "markers", name: plain(name), x: points.map(i => at("intensity", i)),
    y: points.map(i => at("tflops", i)), customdata: points, text: points.map(hover), hoverinfo: "text",
    marker: { color: PALETTE[n % 6], symbol: MARKERS[(n + Math.floor(n / 6)) % 7], size: here.length > 600 ? 5 : 9, opacity: 0.8 } }));
  const x = here.map(i => at("intensity", i)), top = Math.max(...Object.values(roof.compute)), ridge = top / roof.memory;
  const low = Math.min(...x, ridge / 10) / 2, high = Math.max(...x, ridge * 2) * 2;
  const line = { mode: "lines", type: "scatter", line: { color: "#222", width: 1.4 }, showlegend: false };
  traces.push({ ...line, x: [low, ridge], y: [low * roof.memory, top], hoverinfo: "text",
                text: `device memory ${short(roof.memory)} TB/s` });
  const notes = Object.entries(roof.compute).map(([name, height], n) => {
    traces.push({ ...line, x: [height / roof.memory, high], y: [height, height], hoverinfo: "text",
                  text: `${plain(name)} ${short(height)} TFLOP/s` });
    // Names of close roofs at either end.
    return { x: Math.log10(n % 2 ? height / roof.memory * 1.05 : high), y: Math.log10(height), showarrow: false,
             text: `${plain(name)} ${Math.round(height)}`, xanchor: n % 2 ? "left" : "right", yanchor: "bottom",
             font: { size: 10 }, bgcolor: "rgba(255, 255, 255, 0.75)" };
  });
  const node = document.getElementById("roofline");
  Plotly.react(node, traces, { ...base, annotations: notes,
    xaxis: { type: "log", dtick: "D2", title: { text: "arithmetic intensity [useful FLOP per byte of device memory]" }, gridcolor: "#ebebeb",
             range: [Math.log10(low), Math.log10(high)] },
    yaxis: { type: "log", dtick: "D2", title: { text: "useful throughput [TFLOP/s]" }, gridcolor: "#ebebeb",
             range: [Math.log10(Math.min(...here.map(i => at("tflops", i)), top / 100) / 2), Math.log10(top * 2)] } }, config);
};

const orderOf = (name, points) => {
  const column = byName.get(name);
  const found = [...new Set(points.map(i => column.values[i]))].filter(v => v !== null);
  return found.sort((a, b) => a - b);
};
// Cells of the heat map are single points: every axis that is not across or up is held at one value.
const MOST_CELLS = 100000, SPARSE = 0.05;
const held = new Map();
const shownValue = (name, value) => byName.get(name).words ? byName.get(name).words[value] : short(value * byName.get(name).factor);
const isHere = i => [...held].every(([name, value]) => byName.get(name).values[i] === value);
const isBaseline = i => Object.entries(data.baseline).every(([name, value]) => at(name, i) === value);
const hold = () => {
  const taken = ["heat-x", "heat-y"].map(id => document.getElementById(id).value);
  const others = data.axes.filter(name => !taken.includes(name) && orderOf(name, ok).length > 1);
  for (const name of [...held.keys()]) if (!others.includes(name)) held.delete(name);
  const matching = ok.filter(isHere), pool = matching.length ? matching : ok;
  // Metrics compare with the baseline: a map that has nothing but the baseline would compare it with itself.
  const alone = Object.keys(data.relative).length && !taken.some(name => name in data.baseline);
  const first = pool.find(i => isBaseline(i) !== Boolean(alone)) ?? pool[0];
  for (const name of others) if (!held.has(name)) held.set(name, byName.get(name).values[first]);
  document.getElementById("heat-held").replaceChildren(...others.length ? [el("span", "held at")] : [], ...others.map(name => {
    const label = el("label", `${byName.get(name).label} `), select = el("select", undefined, { "data-held": name });
    const values = orderOf(name, ok);
    select.append(...values.map((value, n) => el("option", shownValue(name, value), { value: n })));
    select.value = values.indexOf(held.get(name));
    select.addEventListener("change", () => { held.set(name, values[select.value]); drawHeatmap(); });
    label.append(select);
    return label;
  }));
  drawHeatmap();
};
const drawHeatmap = () => {
  const [xName, yName, zName] = ["heat-x", "heat-y", "heat-value"].map(id => document.getElementById(id).value);
  const column = byName.get(zName), points = ok.filter(isHere);
  const [x, y] = orderOf(xName, ok).length * orderOf(yName, ok).length <= MOST_CELLS
    ? [orderOf(xName, ok), orderOf(yName, ok)] : [orderOf(xName, points), orderOf(yName, points)];
  const cells = new Map(points.map(i => [`${byName.get(xName).values[i]}/${byName.get(yName).values[i]}`, i]));
  const cell = (a, b) => cells.get(`${a}/${b}`) ?? null;
  const own = i => i === null || column.values[i] === null ? null : column.values[i] * column.factor;
  const text = (name, value) => plain(shownValue(name, value));
  const z = y.map(b => x.map(a => own(cell(a, b))));
  const node = document.getElementById("heatmap");
  document.getElementById("heat-note").textContent = [`${points.length} of ${ok.length} points`, data.relative[zName],
    zName in data.relative && points.length && points.every(isBaseline) ? "these points are the baseline" : ""]
    .filter(Boolean).join("; ");
  const colorbar = { title: { text: plain(column.label), side: "right" } };
  if (numeric(byName.get(xName)) && numeric(byName.get(yName)) && points.length < SPARSE * x.length * y.length) {
    // Drawn values hardly share a row or a column: where they lie says more than cells that are too small to see.
    const known = points.filter(i => column.values[i] !== null), line = name => ({
      title: { text: plain(byName.get(name).label) }, gridcolor: "#ebebeb", zeroline: false, automargin: true });
    Plotly.react(node, [{
      type: "scatter", mode: "markers", customdata: known, text: known.map(hover), hoverinfo: "text",
      x: known.map(i => at(xName, i) * byName.get(xName).factor), y: known.map(i => at(yName, i) * byName.get(yName).factor),
      marker: { color: known.map(own), colorscale: "Cividis", size: 9, symbol: "square", showscale: true, colorbar } }],
    { ...base, xaxis: line(xName), yaxis: line(yName) }, config);
    return;
  }
  Plotly.react(node, [{
    type: "heatmap", x: x.map(v => text(xName, v)), y: y.map(v => text(yName, v)), z, colorscale: "Cividis",
    customdata: y.map(b => x.map(a => cell(a, b))), hoverinfo: "text", xgap: 1, ygap: 1,
    text: y.map((b, r) => x.map((a, c) => `${text(xName, a)}, ${text(yName, b)}: ${short(z[r][c])}`)),
    texttemplate: x.length * y.length <= 150 ? "%{z:.3g}" : undefined, colorbar }],
  { ...base, margin: { ...base.margin, l: 150 },
    xaxis: { type: "category", title: { text: plain(byName.get(xName).label), standoff: 8 }, automargin: true },
    yaxis: { type: "category", title: { text: plain(byName.get(yName).label) }, automargin: true,
             autorange: byName.get(yName).words ? "reversed" : true } }, config);
};

drawHead();
update();
if (ok.length) {
  const names = columns.map(c => c.name);
  choices("roof-hw", Object.keys(data.roofs), Object.keys(data.roofs)[0], drawRoofline);
  const by = ["kernel", ...data.axes.filter(n => n !== "hw" && n !== "kernel")];
  choices("roof-by", by, by[0], drawRoofline);
  choices("heat-x", data.axes, data.heat[0], hold);
  choices("heat-y", data.axes, data.heat[1], hold);
  choices("heat-value", names.filter(n => numeric(byName.get(n))), data.heat[2], drawHeatmap);
  drawRoofline();
  hold();
  onPoint(document.getElementById("roofline"));
  onPoint(document.getElementById("heatmap"));
}
document.documentElement.dataset.ready = "yes";
