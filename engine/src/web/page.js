// The query page: panels with an expression, its table and its graph. Talks to the HTTP API only.

import { Graph, color, formatTime } from "./graph.js";

const root = document.documentElement;
const api = `${root.dataset.prefix}/api/v1`;
const settings = {
  get local() { return localStorage.getItem("local-time") === "1"; },
  set local(on) { localStorage.setItem("local-time", on ? "1" : "0"); },
};

// ---- small things

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

async function ask(path, parameters, signal) {
  const response = await fetch(`${api}/${path}`, { method: "POST", body: new URLSearchParams(parameters), signal });
  return unpack(response);
}

async function read(path) {
  return unpack(await fetch(`${api}/${path}`));
}

async function unpack(response) {
  const text = await response.text();
  let answer;
  try { answer = JSON.parse(text); } catch { throw new Error(`${response.status} ${text.slice(0, 300)}`); }
  if (answer.status !== "success") throw new Error(`${answer.errorType}: ${answer.error}`);
  return { ...answer, bytes: text.length };
}

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };

function parseDuration(text) {
  let total = 0, matched = "";
  for (const [whole, number, unit] of text.trim().matchAll(/(\d+)(ms|[smhdwy])/g)) { total += number * UNITS[unit]; matched += whole; }
  return matched && matched === text.trim() ? total : null;
}

function formatDuration(seconds) {
  let rest = Math.round(seconds * 1000), text = "";
  for (const [unit, size] of [["d", 864e5], ["h", 36e5], ["m", 6e4], ["s", 1e3], ["ms", 1]]) {
    if (rest >= size) { text += Math.floor(rest / size) + unit; rest %= size; }
  }
  return text || "0s";
}

function seriesName(metric) {
  const { __name__: name = "", ...labels } = metric;
  const quote = (label) => (/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label) ? label : JSON.stringify(label));
  const legacy = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
  const pairs = Object.entries(labels).map(([label, value]) => `${quote(label)}=${JSON.stringify(value)}`);
  if (name && !legacy) pairs.unshift(JSON.stringify(name));
  return pairs.length ? `${legacy ? name : ""}{${pairs.join(", ")}}` : name || "{}";
}

function describeHistogram({ count, sum, buckets = [] }) {
  const bracket = (rule, low, high) => `${rule === 1 || rule === 3 ? "[" : "("}${low}, ${high}${rule === 0 || rule === 3 ? "]" : ")"}`;
  return [`count ${count}, sum ${sum}`, ...buckets.map(([rule, low, high, number]) => `${bracket(rule, low, high)}  ${number}`)].join("\n");
}

// ---- completion

const FUNCTIONS = "abs absent absent_over_time acos acosh asin asinh atan atanh avg avg_over_time bottomk ceil changes clamp clamp_max clamp_min cos cosh count count_over_time count_values day_of_month day_of_week day_of_year days_in_month deg delta deriv exp floor group histogram_avg histogram_count histogram_fraction histogram_quantile histogram_stddev histogram_stdvar histogram_sum hour idelta increase irate label_join label_replace last_over_time ln log10 log2 max max_over_time min min_over_time minute month pi predict_linear present_over_time quantile quantile_over_time rad rate resets round scalar sgn sin sinh sort sort_desc sqrt stddev stddev_over_time stdvar stdvar_over_time sum sum_over_time tan tanh time timestamp topk vector year".split(" ");
const KEYWORDS = "and bool by group_left group_right ignoring offset on or unless without".split(" ");
const known = new Map();

// Answers of the label endpoints, asked once a minute at most.
async function remembered(path) {
  const have = known.get(path);
  if (have && Date.now() - have.at < 60000) return have.list;
  try {
    const list = (await read(path)).data;
    known.set(path, { at: Date.now(), list });
    return list;
  } catch { return have ? have.list : []; }
}

// What may stand at the caret: [start of the word, candidates].
async function candidates(text, caret) {
  const before = text.slice(0, caret);
  const value = before.match(/([a-zA-Z_:][\w:]*)?\{[^{}]*?([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"([^"]*)$/);
  if (value) {
    const match = value[1] ? `?limit=2000&match[]=${encodeURIComponent(value[1])}` : "?limit=2000";
    const list = await remembered(`label/${encodeURIComponent(value[2])}/values${match}`);
    return [caret - value[3].length, list.map((name) => ({ name, kind: "value" }))];
  }
  const label = before.match(/([a-zA-Z_:][\w:]*)?\{[^{}]*?([a-zA-Z_]\w*)?$/);
  if (label && (before.match(/"/g) || []).length % 2 === 0) {
    const list = await remembered(label[1] ? `labels?limit=2000&match[]=${encodeURIComponent(label[1])}` : "labels?limit=2000");
    return [caret - (label[2] || "").length, list.filter((name) => name !== "__name__").map((name) => ({ name, kind: "label" }))];
  }
  const grouping = before.match(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*,)?\s*([a-zA-Z_]\w*)?$/);
  if (grouping) {
    const list = await remembered("labels?limit=2000");
    return [caret - (grouping[2] || "").length, list.filter((name) => name !== "__name__").map((name) => ({ name, kind: "label" }))];
  }
  const word = before.match(/[a-zA-Z_:][\w:]*$/);
  if (!word) return [caret, []];
  const metrics = await remembered("label/__name__/values?limit=40000");
  return [caret - word[0].length, [
    ...metrics.map((name) => ({ name, kind: "metric" })),
    ...FUNCTIONS.map((name) => ({ name, kind: "function" })),
    ...KEYWORDS.map((name) => ({ name, kind: "keyword" })),
  ]];
}

function ranked(list, word) {
  const wanted = word.toLowerCase();
  const score = ({ name }) => { const at = name.toLowerCase().indexOf(wanted); return at < 0 ? -1 : at === 0 ? 0 : 1; };
  return list
    .map((one) => ({ one, rank: score(one) }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => a.rank - b.rank || a.one.name.length - b.one.name.length)
    .slice(0, 60)
    .map(({ one }) => one);
}

class Completion {
  constructor(input, list, execute) {
    Object.assign(this, { input, list, execute, items: [], chosen: -1, start: 0, turn: 0 });
    input.addEventListener("input", () => this.update());
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    input.addEventListener("keydown", (event) => this.key(event));
  }

  async update() {
    const turn = ++this.turn;
    const caret = this.input.selectionStart;
    const [start, list] = await candidates(this.input.value, caret);
    if (turn !== this.turn || document.activeElement !== this.input) return;
    const word = this.input.value.slice(start, caret);
    this.items = ranked(list, word).filter(({ name }) => name !== word);
    this.start = start;
    this.chosen = -1;
    this.render();
  }

  render() {
    this.list.hidden = !this.items.length;
    this.list.replaceChildren(...this.items.map(({ name, kind }, index) => {
      const item = make("li", { onmousedown: (event) => { event.preventDefault(); this.take(index); } }, make("span", { textContent: name }), make("small", { textContent: kind }));
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", index === this.chosen);
      return item;
    }));
    this.list.children[this.chosen]?.scrollIntoView({ block: "nearest" });
  }

  take(index) {
    const { name, kind } = this.items[index];
    const { value, selectionStart } = this.input;
    const inserted = kind === "function" ? `${name}(` : name;
    this.input.value = value.slice(0, this.start) + inserted + value.slice(selectionStart);
    this.input.selectionStart = this.input.selectionEnd = this.start + inserted.length;
    this.close();
    this.input.focus();
  }

  close() {
    this.turn++;
    this.items = [];
    this.list.hidden = true;
  }

  key(event) {
    const open = this.items.length > 0;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (open && this.chosen >= 0) this.take(this.chosen);
      else { this.close(); this.execute(); }
    } else if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const count = this.items.length;
      this.chosen = event.key === "ArrowDown" ? (this.chosen + 1) % count : (this.chosen <= 0 ? count : this.chosen) - 1;
      this.render();
    } else if (open && event.key === "Tab") {
      event.preventDefault();
      this.take(Math.max(0, this.chosen));
    } else if (event.key === "Escape") this.close();
    else if (event.key === " " && event.ctrlKey) { event.preventDefault(); this.update(); }
  }
}

// ---- panels

const panels = [];
const RANGES = [1, 10, 60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 1209600, 2419200, 4838400, 15768000, 31536000];

class Panel {
  constructor(state = {}) {
    Object.assign(this, { expr: "", tab: "table", range: 3600, end: null, step: null, turn: null }, state);
    this.build();
    panels.push(this);
    document.getElementById("panels").append(this.node);
    this.select(this.tab);
  }

  build() {
    this.input = make("textarea", { value: this.expr, rows: Math.max(1, this.expr.split("\n").length), placeholder: "Expression (Enter runs it, Shift+Enter breaks the line)", spellcheck: false, autocomplete: "off" });
    this.input.setAttribute("aria-label", "PromQL expression");
    const hints = make("ul", { className: "hints", hidden: true });
    hints.setAttribute("role", "listbox");
    new Completion(this.input, hints, () => this.run());
    const remove = make("button", { type: "button", title: "Remove this panel", textContent: "✕", onclick: () => this.remove() });
    const execute = make("button", { type: "button", className: "primary", textContent: "Execute", onclick: () => this.run() });
    this.tableTab = make("button", { type: "button", textContent: "Table", onclick: () => { this.select("table"); this.run(); } });
    this.graphTab = make("button", { type: "button", textContent: "Graph", onclick: () => { this.select("graph"); this.run(); } });
    this.rangeInput = make("input", { type: "text", value: formatDuration(this.range), title: "Range", onchange: () => this.setRange(parseDuration(this.rangeInput.value)) });
    const step = (direction) => () => {
      const next = direction > 0 ? RANGES.find((size) => size > this.range) : [...RANGES].reverse().find((size) => size < this.range);
      this.setRange(next ?? this.range);
    };
    this.endInput = make("input", { type: "datetime-local", step: 1, title: "End of the range, or the time of the table", onchange: () => { this.end = this.readEnd(); this.run(); } });
    this.stepInput = make("input", { type: "text", placeholder: "auto", title: "Resolution", onchange: () => { this.step = parseDuration(this.stepInput.value); this.run(); } });
    const shift = (direction) => () => { this.end = (this.end ?? Date.now() / 1000) + direction * this.range / 2; this.writeEnd(); this.run(); };
    this.rangeGroup = make("span", { className: "group" },
      make("button", { type: "button", textContent: "−", title: "Shorter range", onclick: step(-1) }), this.rangeInput,
      make("button", { type: "button", textContent: "+", title: "Longer range", onclick: step(1) }));
    const endGroup = make("span", { className: "group" },
      make("button", { type: "button", textContent: "‹", title: "Earlier", onclick: shift(-1) }), this.endInput,
      make("button", { type: "button", textContent: "›", title: "Later", onclick: shift(1) }),
      make("button", { type: "button", textContent: "Now", onclick: () => { this.end = null; this.writeEnd(); this.run(); } }));
    this.stepGroup = make("label", { className: "group" }, "Step ", this.stepInput);
    this.summary = make("span", { className: "quiet" });
    this.notes = make("div");
    this.notes.setAttribute("aria-live", "polite");
    this.result = make("div");
    const tabs = make("span", { className: "tabs" }, this.tableTab, this.graphTab);
    this.node = make("section", { className: "panel" },
      make("div", { className: "ask" }, this.input, execute, remove, hints),
      make("div", { className: "bar" }, tabs, this.rangeGroup, endGroup, this.stepGroup, this.summary),
      this.notes, this.result);
    this.writeEnd();
  }

  remove() {
    this.turn?.abort();
    panels.splice(panels.indexOf(this), 1);
    this.node.remove();
    if (!panels.length) new Panel();
    remember();
  }

  select(tab) {
    this.tab = tab;
    this.tableTab.setAttribute("aria-selected", tab === "table");
    this.graphTab.setAttribute("aria-selected", tab === "graph");
    this.rangeGroup.hidden = this.stepGroup.hidden = tab !== "graph";
    this.rangeGroup.style.display = this.stepGroup.style.display = tab === "graph" ? "" : "none";
    this.result.replaceChildren();
  }

  setRange(seconds) {
    if (seconds) this.range = seconds;
    this.rangeInput.value = formatDuration(this.range);
    this.run();
  }

  readEnd() {
    if (!this.endInput.value) return null;
    return new Date(settings.local ? this.endInput.value : `${this.endInput.value}Z`).getTime() / 1000;
  }

  writeEnd() {
    this.endInput.value = this.end === null ? "" : formatTime(this.end, settings.local).slice(0, 19).replace(" ", "T");
  }

  async run() {
    this.expr = this.input.value.trim();
    remember();
    this.turn?.abort();
    if (!this.expr) return;
    const turn = (this.turn = new AbortController());
    this.summary.textContent = "…";
    const started = performance.now();
    try {
      const answer = this.tab === "graph" ? await this.askRange(turn.signal) : await this.askInstant(turn.signal);
      if (turn !== this.turn) return;
      this.showNotes(null, answer);
      const count = Array.isArray(answer.data.result) && answer.data.resultType !== "scalar" && answer.data.resultType !== "string" ? `${answer.data.result.length} series, ` : "";
      this.summary.textContent = `${count}${Math.round(performance.now() - started)} ms${this.tab === "graph" ? `, step ${formatDuration(this.usedStep)}` : ""}`;
      if (this.tab === "graph") this.showGraph(answer.data); else this.showTable(answer.data);
    } catch (error) {
      if (error.name === "AbortError" || turn !== this.turn) return;
      this.summary.textContent = "";
      this.result.replaceChildren();
      this.showNotes(error.message, {});
    }
  }

  askInstant(signal) {
    return ask("query", { query: this.expr, time: this.end ?? Date.now() / 1000 }, signal);
  }

  askRange(signal) {
    const end = this.end ?? Date.now() / 1000;
    this.usedStep = this.step ?? Math.max(Math.round((this.range / 250) * 1000) / 1000, this.range > 500 ? 1 : 0.1);
    if (this.usedStep >= 1 && this.step === null) this.usedStep = Math.round(this.usedStep);
    this.usedEnd = end;
    return ask("query_range", { query: this.expr, start: end - this.range, end, step: this.usedStep }, signal);
  }

  showNotes(error, { warnings = [], infos = [] }) {
    const note = (kind) => (text) => make("div", { className: `note ${kind}`, textContent: text });
    this.notes.replaceChildren(...(error ? [note("error")(error)] : []), ...warnings.map(note("warning")), ...infos.map(note("info")));
  }

  showTable({ resultType, result }) {
    const rows = [];
    const row = (name, value) => rows.push(make("tr", {}, make("td", { textContent: name }), make("td", { className: "value", textContent: value })));
    const shown = 10000;
    if (resultType === "scalar" || resultType === "string") row(resultType, result[1]);
    else if (resultType === "vector") for (const one of result.slice(0, shown)) row(seriesName(one.metric), one.value ? one.value[1] : describeHistogram(one.histogram[1]));
    else for (const one of result.slice(0, shown)) {
      const lines = [...(one.values || []).map(([at, value]) => `${value}  @${at}`), ...(one.histograms || []).map(([at, histogram]) => `${describeHistogram(histogram)}  @${at}`)];
      row(seriesName(one.metric), lines.join("\n"));
    }
    if (!rows.length) rows.push(make("tr", {}, make("td", { className: "quiet", textContent: "Empty result: no series matches at this time." })));
    if (result.length > shown && resultType !== "scalar") rows.push(make("tr", {}, make("td", { className: "quiet", textContent: `${result.length - shown} more series are not shown.` })));
    this.result.replaceChildren(make("div", { className: "scroll" }, make("table", {}, make("tbody", {}, ...rows))));
  }

  showGraph({ result }) {
    const series = result.map((one) => {
      const texts = new Map((one.values || []).map(([at, value]) => [at, value]));
      return {
        name: seriesName(one.metric),
        points: one.values ? one.values.map(([at, value]) => [at, Number(value.replace("Inf", "Infinity"))]) : (one.histograms || []).map(([at, { count }]) => [at, Number(count)]),
        exact: ([at, value]) => texts.get(at) ?? `count ${value}`,
      };
    });
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Graph of ${this.expr}: ${series.length} series`);
    const tip = make("div", { className: "tip", hidden: true });
    const legend = make("ul", { className: "legend" });
    this.result.replaceChildren(make("div", { className: "plot" }, canvas, tip), legend);
    this.graph = new Graph(canvas, tip, (start, end) => { this.range = end - start > 10 ? Math.round(end - start) : Math.max(end - start, 0.1); this.end = end; this.rangeInput.value = formatDuration(this.range); this.writeEnd(); this.run(); });
    this.graph.show(series, this.usedEnd - this.range, this.usedEnd, this.usedStep, settings.local);
    if (!series.length) legend.append(make("li", { className: "quiet", textContent: "Empty result: no series matches in this range." }));
    const most = 500;
    series.slice(0, most).forEach((one, index) => {
      const swatch = make("span", { className: "swatch" });
      const button = make("button", { type: "button", title: "Click: only this series. Ctrl or Shift: hide or show it.", onclick: (event) => this.toggle(index, event.ctrlKey || event.metaKey || event.shiftKey) }, swatch, make("span", { textContent: one.name }));
      legend.append(make("li", {}, button));
    });
    if (series.length > most) legend.append(make("li", { className: "quiet", textContent: `${series.length - most} more series are drawn without a legend.` }));
    this.legend = legend;
    this.paintLegend();
  }

  toggle(index, single) {
    const { hidden, series } = this.graph;
    if (single) hidden.has(index) ? hidden.delete(index) : hidden.add(index);
    else if (hidden.size === series.length - 1 && !hidden.has(index)) hidden.clear();
    else { series.forEach((_, other) => hidden.add(other)); hidden.delete(index); }
    this.paintLegend();
    this.graph.draw();
  }

  paintLegend() {
    if (!this.graph || !this.legend) return;
    const dark = root.dataset.theme === "dark";
    this.legend.querySelectorAll("button").forEach((button, index) => {
      button.setAttribute("aria-pressed", !this.graph.hidden.has(index));
      button.firstChild.style.background = color(index, dark);
    });
  }
}

// ---- the address line holds the panels, with the names that Prometheus gives them

function remember() {
  const parameters = new URLSearchParams();
  panels.forEach((panel, index) => {
    parameters.set(`g${index}.expr`, panel.input.value.trim());
    parameters.set(`g${index}.tab`, panel.tab);
    parameters.set(`g${index}.range_input`, formatDuration(panel.range));
    if (panel.end !== null) parameters.set(`g${index}.end_input`, formatTime(panel.end, false).slice(0, 19));
    if (panel.step !== null) parameters.set(`g${index}.step_input`, formatDuration(panel.step));
  });
  history.replaceState(null, "", `?${parameters}${location.hash}`);
}

function recalled() {
  const parameters = new URLSearchParams(location.search);
  const states = [];
  for (let index = 0; parameters.has(`g${index}.expr`); index++) {
    const get = (name) => parameters.get(`g${index}.${name}`);
    const end = get("end_input") || get("moment_input");
    states.push({
      expr: get("expr"),
      tab: get("tab") === "graph" || get("tab") === "0" ? "graph" : "table",
      range: parseDuration(get("range_input") || "") || 3600,
      end: end ? new Date(`${end.trim().replace(" ", "T")}Z`).getTime() / 1000 || null : null,
      step: parseDuration(get("step_input") || ""),
    });
  }
  return states;
}

// ---- targets

async function showTargets() {
  const section = document.getElementById("targets");
  const open = location.hash === "#targets";
  section.hidden = !open;
  document.getElementById("panels").hidden = document.querySelector("footer").hidden = open;
  if (!open) return;
  try {
    const { data } = await read("targets");
    const pools = Map.groupBy ? Map.groupBy(data.activeTargets, (target) => target.scrapePool) : data.activeTargets.reduce((map, target) => map.set(target.scrapePool, [...(map.get(target.scrapePool) || []), target]), new Map());
    const parts = [];
    for (const [pool, targets] of pools) {
      const up = targets.filter((target) => target.health === "up").length;
      parts.push(make("h2", { textContent: `${pool} (${up} of ${targets.length} up)` }));
      const rows = targets.map((target) => make("tr", {},
        make("td", {}, make("a", { href: target.scrapeUrl, textContent: target.scrapeUrl, style: "color:inherit" })),
        make("td", { className: target.health === "up" ? "up" : target.health === "down" ? "down" : "quiet", textContent: target.health }),
        make("td", { textContent: seriesName(target.labels) }),
        make("td", { textContent: target.lastScrape.startsWith("0001") ? "never" : `${formatTime(Date.parse(target.lastScrape) / 1000, settings.local).slice(0, 19)}, ${(target.lastScrapeDuration * 1000).toFixed(1)} ms` }),
        make("td", { className: "down", textContent: target.lastError })));
      const head = make("tr", {}, ...["Endpoint", "State", "Labels", "Last scrape", "Error"].map((textContent) => make("th", { textContent })));
      parts.push(make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
    }
    section.replaceChildren(...(parts.length ? parts : [make("p", { className: "quiet", textContent: "No targets: the configuration names none." })]));
  } catch (error) {
    section.replaceChildren(make("div", { className: "note error", textContent: error.message }));
  }
}

// ---- start

function theme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  for (const panel of panels) { panel.paintLegend(); panel.graph?.draw(); }
}

const stored = localStorage.getItem("theme");
theme(stored ? stored === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
document.getElementById("theme").onclick = () => {
  const dark = root.dataset.theme !== "dark";
  localStorage.setItem("theme", dark ? "dark" : "light");
  theme(dark);
};
const localTime = document.getElementById("local-time");
localTime.checked = settings.local;
localTime.onchange = () => { settings.local = localTime.checked; for (const panel of panels) { panel.writeEnd(); panel.run(); } };
document.getElementById("add").onclick = () => new Panel().input.focus();
addEventListener("hashchange", showTargets);

const states = recalled();
if (states.length) for (const state of states) new Panel(state).run();
else new Panel().input.focus();
showTargets();
