// Reads /metrics and /steps once a second, /v1/utilization now and then, and draws them. Everything comes from this server.
"use strict";

const kHistory = 120;  // seconds shown
const kLatencyWindow = 60;
const kWaterfallPeriod = 3;
const kPhases = ["prefill", "decode"];
const byId = (id) => document.getElementById(id);

// ---- Reading --------------------------------------------------------------------------------------------------

let key = sessionStorage.getItem("key") ?? "";
let history = [];  // a reading a second: {time_s, samples: name -> [{labels, value}]}
let steps = [];    // the last ones, as /steps gives them
let explained = {time_s: -Infinity, waterfall: null, why: []};  // of the last minute, as /v1/utilization gives it

function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    if (!samples.has(match[1])) samples.set(match[1], []);
    samples.get(match[1]).push({labels, value: match[3] === "+Inf" ? Infinity : Number(match[3])});
  }
  return samples;
}

/// The value of `name` whose labels have those given; NaN where there is none.
function valueOf(reading, name, labels = {}) {
  const found = reading.samples.get(name)?.find((sample) => Object.entries(labels).every(([k, v]) => sample.labels[k] === v));
  return found ? found.value : NaN;
}

/// How much it grew a second, between one reading and the next.
function rateOf(index, name, labels) {
  if (index === 0) return NaN;
  const [before, now] = [history[index - 1], history[index]];
  return (valueOf(now, name, labels) - valueOf(before, name, labels)) / (now.time_s - before.time_s);
}

async function ask(path) {
  const response = await fetch(path, {headers: key ? {Authorization: `Bearer ${key}`} : {}, cache: "no-store"});
  if (response.status === 401) {
    key = "";
    sessionStorage.removeItem("key");
    askForKey(true);
  }
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return response;
}

function askForKey(refused) {
  byId("key-form").hidden = false;
  document.querySelector("main").hidden = true;
  setStatus(refused ? "that key is not known" : "a key is needed", refused);
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value;
  byId("key").value = "";
  sessionStorage.setItem("key", key);
  byId("key-form").hidden = true;
});

function setStatus(text, trouble) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
  byId("status").classList.toggle("trouble", trouble);
}

async function read() {
  const reading = {time_s: performance.now() / 1000, samples: parse(await (await ask("metrics")).text())};
  if (!reading.samples.has("redline_steps_total")) {
    history = steps = [];
    byId("model").textContent = reading.samples.get("redline_info")?.[0]?.labels.model ?? "";
    document.querySelector("main").hidden = true;
    setStatus(`loading: ${percent(valueOf(reading, "redline_load_progress_ratio"))}`, false);
    return;
  }
  const last = history.at(-1);
  if (last && valueOf(reading, "redline_steps_total") < valueOf(last, "redline_steps_total")) history = steps = [];  // a new server
  history = [...history, reading].slice(-kHistory);
  const since = steps.at(-1)?.serial ?? 0;
  const kept = steps.map((step) => ({...step, age_s: step.age_s + (last ? reading.time_s - last.time_s : 0)}));
  steps = [...kept, ...(await (await ask(`steps?since=${since}`)).json()).steps].slice(-128);
  if (reading.time_s - explained.time_s >= kWaterfallPeriod)
    explained = {time_s: reading.time_s, ...(await (await ask("v1/utilization")).json()).explanation};
  document.querySelector("main").hidden = false;
  draw();
}

async function readOn() {
  if (!document.hidden && byId("key-form").hidden) {
    try {
      await read();
    } catch (error) {
      if (byId("key-form").hidden) setStatus(`no answer: ${error.message}`, true);
    }
  }
  setTimeout(readOn, 1000);
}

// ---- Numbers --------------------------------------------------------------------------------------------------

const kUnknown = "–";
const percent = (ratio) => (Number.isFinite(ratio) ? `${Number((100 * ratio).toPrecision(3))} %` : kUnknown);

function si(value) {
  if (!Number.isFinite(value)) return kUnknown;
  const prefixes = ["", " k", " M", " G", " T", " P"];
  let i = 0;
  for (; Math.abs(value) >= 999.5 && i + 1 < prefixes.length; ++i) value /= 1000;
  return (i === 0 && Number.isInteger(value) ? value : value === 0 ? 0 : Number(value.toPrecision(3))) + prefixes[i];
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return kUnknown;
  return seconds < 1 ? `${(1000 * seconds).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

/// The ranges' ends and how many values each got since `before`.
function histogram(now, before, name) {
  const earlier = before.samples.get(`${name}_bucket`) ?? [];
  return (now.samples.get(`${name}_bucket`) ?? []).map(({labels, value}, i) => (
      {bound: labels.le === "+Inf" ? Infinity : Number(labels.le), below: value - (earlier[i]?.value ?? 0)}));
}

/// As Prometheus' histogram_quantile: evenly spread within a range.
function quantile(buckets, q) {
  const total = buckets.at(-1)?.below ?? 0;
  if (total === 0) return NaN;
  const i = buckets.findIndex((bucket) => bucket.below >= q * total);
  if (buckets[i].bound === Infinity) return buckets[i - 1].bound;
  const low = i > 0 ? buckets[i - 1] : {bound: 0, below: 0};
  return low.bound + ((buckets[i].bound - low.bound) * (q * total - low.below)) / (buckets[i].below - low.below);
}

// ---- Drawing --------------------------------------------------------------------------------------------------

function element(namespace, tag, attributes = {}, ...children) {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
const html = (tag, attributes, ...children) => element("http://www.w3.org/1999/xhtml", tag, attributes, ...children);
const svg = (tag, attributes, ...children) => element("http://www.w3.org/2000/svg", tag, attributes, ...children);

/// Each series' mark, name and last value.
function legend(series, format, mark = (i) => svg("path", {class: `series s${i}`, d: "M0 5h24"})) {
  const swatch = (i) => svg("svg", {viewBox: "0 0 24 10", "aria-hidden": "true"}, mark(i));
  return html("ul", {class: "legend"}, ...series.map(({name, values}, i) => html("li", {}, swatch(i), `${name} ${format(values.at(-1) ?? NaN)}`)));
}

function frame(box, height, label) {
  const width = Math.max(200, box.clientWidth);
  return {width, height, left: 46, right: width - 8, top: 8, bottom: height - 18,
          image: svg("svg", {viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label})};
}

function niceCeiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * unit >= value) * unit;
}

/// Lines over time on an axis that ends at `least` or, where a value is higher, above it. What is not a number
/// breaks a line.
function lines(id, series, format, least = 1) {
  const box = byId(id);
  const summary = series.map(({name, values}) => `${name} ${format(values.at(-1) ?? NaN)}`).join(", ");
  const f = frame(box, 150, `The last two minutes; now: ${summary}`);
  const values = series.flatMap((each) => each.values).filter(Number.isFinite);
  const top = niceCeiling(Math.max(least, ...values));
  const x = (i) => f.right - ((f.right - f.left) * (history.length - 1 - i)) / (kHistory - 1);
  const y = (value) => f.bottom - ((f.bottom - f.top) * value) / top;
  for (const share of [0, 0.5, 1])
    f.image.append(svg("path", {class: "grid", d: `M${f.left} ${y(share * top)}H${f.right}`}),
                   svg("text", {x: f.left - 5, y: y(share * top) + 4, "text-anchor": "end"}, format(share * top)));
  f.image.append(svg("text", {x: f.left, y: f.height - 3}, "2 min ago"), svg("text", {x: f.right, y: f.height - 3, "text-anchor": "end"}, "now"));
  series.forEach((each, s) => {
    let path = "", pen = "M";
    each.values.forEach((value, i) => {
      if (Number.isFinite(value)) path += `${pen}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = Number.isFinite(value) ? "L" : "M";
    });
    f.image.append(svg("path", {class: `series s${s}`, d: path}));
  });
  box.replaceChildren(legend(series, format), f.image);
}

/// Steps under the roofs that their device has: bandwidth, then the peak of each arithmetic.
function roofline(reading, source) {
  const box = byId("roofline");
  const bandwidth = valueOf(reading, "redline_peak_bytes_per_second", {source});
  const roofs = (reading.samples.get("redline_peak_flops_per_second") ?? []).filter((sample) => sample.labels.source === source);
  const kinds = ["prefill", "decode", "both"];
  const points = steps.filter((step) => step.flops > 0 && step.bytes > 0 && step.busy_s > 0).map((step) => ({
    x: step.flops / step.bytes, y: step.flops / step.busy_s, age_s: step.age_s,
    kind: step.prefill_tokens === 0 ? 1 : step.decode_tokens === 0 ? 0 : 2,
  }));
  const counts = kinds.map((name, i) => ({name, values: [points.filter((point) => point.kind === i).length]}));
  const f = frame(box, 280, `Roofline with the last steps: ${counts.map(({name, values}) => `${values[0]} of ${name}`).join(", ")}`);
  const highest = Math.max(1, ...roofs.map((roof) => roof.value), ...points.map((point) => point.y));
  const span = (values) => [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
  const [x0, x1] = span([1, 1000, ...points.map((point) => point.x)]);
  const [y0, y1] = span([highest / 100, highest, ...points.map((point) => point.y)]);
  const x = (value) => f.left + ((f.right - f.left) * (Math.log10(value) - x0)) / (x1 - x0);
  const y = (value) => f.bottom - ((f.bottom - f.top) * (Math.log10(value) - y0)) / (y1 - y0);
  for (let i = x0; i <= x1; ++i)
    f.image.append(svg("path", {class: "grid", d: `M${x(10 ** i)} ${f.top}V${f.bottom}`}),
                   svg("text", {x: x(10 ** i), y: f.height - 3, "text-anchor": i === x1 ? "end" : "middle"}, si(10 ** i)));
  for (let i = y0; i <= y1; ++i)
    f.image.append(svg("path", {class: "grid", d: `M${f.left} ${y(10 ** i)}H${f.right}`}),
                   svg("text", {x: f.left - 5, y: y(10 ** i) + 4, "text-anchor": "end"}, si(10 ** i)));
  roofs.forEach((roof, i) => {
    if (!(bandwidth > 0)) return;
    const ridge = roof.value / bandwidth, start = Math.max(10 ** x0, 10 ** y0 / bandwidth);
    f.image.append(svg("path", {class: "roof", d: `M${x(start)} ${y(start * bandwidth)}L${x(ridge)} ${y(roof.value)}H${f.right}`}),
                   svg("text", {x: f.right - 38 * i, y: y(roof.value) - 3, "text-anchor": "end"}, roof.labels.dtype));
  });
  for (const point of points)
    f.image.append(svg("circle", {class: `point s${point.kind}`, cx: x(point.x), cy: y(point.y), r: 4, opacity: Math.max(0.15, 1 - point.age_s / 30)}));
  const dot = (i) => svg("circle", {class: `point s${i}`, cx: 12, cy: 5, r: 4});
  box.replaceChildren(legend(counts, (count) => (count === 1 ? "1 step" : `${count} steps`), dot), f.image);
}

function latencies(now) {
  const before = history.find((reading) => now.time_s - reading.time_s <= kLatencyWindow);
  const rows = {
    "call – first token": "redline_time_to_first_token_seconds",
    "token – next token": "redline_inter_token_latency_seconds",
    "call – answer's end": "redline_e2e_request_latency_seconds",
    "queue – first step": "redline_request_queue_time_seconds",
  };
  byId("latency").replaceChildren(...Object.entries(rows).map(([title, name]) => {
    const buckets = histogram(now, before, name);
    const cells = [si(buckets.at(-1)?.below ?? 0), ...[0.5, 0.9, 0.99].map((q) => duration(quantile(buckets, q)))];
    return html("tr", {}, html("th", {scope: "row"}, title), ...cells.map((cell) => html("td", {}, cell)));
  }));
}

const kTerms = {
  ideal_compute: "ideal compute", kernel_inefficiency: "kernels", memory_bound_penalty: "memory-bound", clock_loss: "clocks", waste: "waste",
  exposed_communication: "communication", gap: "gap", idle: "idle",
};
const openPhases = new Set();

/// A bar of the terms of `part`, seconds that sum to its wall_s. Kernels may take less than none (weights in a cache are
/// read faster than memory): the others then share the bar.
function stackedBar(part, name) {
  const image = svg("svg", {viewBox: "0 0 100 6", height: 18, preserveAspectRatio: "none", role: "img"});
  const told = [];
  const width = (term) => Math.max(part.terms_s[term] ?? 0, 0);
  const total = Object.keys(kTerms).reduce((sum, term) => sum + width(term), 0);
  let x = 0;
  for (const [term, title] of Object.entries(kTerms)) {
    const time_s = part.terms_s[term] ?? 0;
    if (time_s === 0) continue;
    told.push(`${title} ${percent(time_s / part.wall_s)}`);
    if (time_s < 0) continue;
    image.append(svg("rect", {class: `term ${term}`, x: 100 * x, y: 0, width: 100 * time_s / total, height: 6, "vector-effect": "non-scaling-stroke"},
                     svg("title", {}, `${title}: ${duration(time_s)}, ${percent(time_s / part.wall_s)}`)));
    x += time_s / total;
  }
  image.setAttribute("aria-label", `${name}: ${told.join(", ")}`);
  return image;
}

/// Where the wall time went: in all, by phase, and by kind of operation in the phases that are open.
function waterfall() {
  const all = explained.waterfall;
  const rows = [];
  const add = (title, part, name, attributes = {}) => part.wall_s > 0 && rows.push(
      html("tr", attributes, html("th", {scope: "row"}, title), html("td", {}, duration(part.wall_s)), html("td", {}, stackedBar(part, name)), html("td", {}, percent(part.mfu))));
  if (all) add("all", all, "all");
  for (const [phase, part] of Object.entries(all?.phases ?? {})) {
    const button = html("button", {type: "button", id: `open-${phase}`, "aria-expanded": openPhases.has(phase)}, phase);
    button.addEventListener("click", () => {
      openPhases.has(phase) ? openPhases.delete(phase) : openPhases.add(phase);
      waterfall();
    });
    add(button, part, phase);
    if (openPhases.has(phase))
      for (const kind of part.kinds) add(kind.kind, kind, `${phase}, ${kind.kind}`, {class: "kind"});
  }
  const focused = document.activeElement?.id;
  byId("waterfall").replaceChildren(...rows);
  if (focused?.startsWith("open-")) byId(focused)?.focus();
  const seen = Object.entries(kTerms).filter(([term]) => all?.terms_s[term]);
  const swatch = (term) => svg("svg", {viewBox: "0 0 24 10", "aria-hidden": "true"}, svg("rect", {class: `term ${term}`, width: 24, height: 10}));
  byId("terms").replaceChildren(...seen.map(([term, title]) => html("li", {}, swatch(term), `${title} ${percent(all.terms_s[term] / all.wall_s)}`)));
  const sentences = all ? explained.why.map((each) => each.sentence) : ["no peaks of this device are known, so there is no waterfall"];
  byId("why").replaceChildren(...sentences.map((sentence) => html("li", {}, sentence)));
}

function draw() {
  const now = history.at(-1), last = history.length - 1;
  const info = now.samples.get("redline_info")?.[0]?.labels ?? {};
  byId("model").textContent = info.model ?? "";
  byId("device").textContent = info.device ?? "";
  const vendor = Number.isFinite(valueOf(now, "redline_peak_bytes_per_second", {source: "vendor"}));
  byId("peak").querySelector('[value="vendor"]').disabled = !vendor;

  const basis = byId("basis").value, peak = byId("peak").value;
  const series = (name, value) => ({name, values: history.map(value)});
  const byPhase = (name) => kPhases.map((phase) => series(phase, (reading) => valueOf(reading, name, {phase, basis, peak})));
  const gauge = (title, name) => series(title, (reading) => valueOf(reading, name));
  const rate = (title, name, labels) => series(title, (_, i) => rateOf(i, name, labels));
  const generated = rate("generated", "redline_generated_tokens_total"), prompt = rate("prompt", "redline_prompt_tokens_total");
  const running = gauge("running", "redline_requests_running"), waiting = gauge("waiting", "redline_requests_waiting");
  const atMostAll = ({name, values}) => ({name, values: values.map((value) => Math.min(1, value))});  // a step counts when it ends
  const kv = gauge("in use", "redline_kv_usage_ratio");

  byId("generated").textContent = si(generated.values[last]);
  byId("prompt").textContent = si(prompt.values[last]);
  byId("running").textContent = si(running.values[last]);
  byId("waiting").textContent = si(waiting.values[last]);
  byId("kv").textContent = percent(kv.values[last]);
  byId("hits").textContent = percent(valueOf(now, "redline_prefix_cache_hits_total") / valueOf(now, "redline_prefix_cache_queries_total"));
  setStatus(running.values[last] + waiting.values[last] > 0 ? "working" : "idle", false);

  lines("mfu", byPhase("redline_mfu"), percent, 0.01);
  lines("mbu", byPhase("redline_mbu"), percent);
  roofline(now, peak);
  waterfall();
  lines("tokens", [generated, prompt], si);
  lines("queue", [running, waiting], si);
  lines("blocks", [kv, gauge("without a token", "redline_kv_fragmentation_ratio")], percent);
  lines("time", ["busy", "gap", "idle"].map((state) => rate(state, "redline_time_seconds_total", {state})).map(atMostAll), percent);
  latencies(now);
}

for (const id of ["basis", "peak"]) byId(id).addEventListener("change", draw);
addEventListener("resize", () => history.length && draw());
if (document.body.dataset.needsKey === "true" && !key) askForKey(false);
readOn();
