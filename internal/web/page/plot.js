"use strict";

// What both scripts use, and the plot of the last hour.

const $ = (id) => document.getElementById(id);

const svg = (name, attrs = {}, text) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
};

const make = (name, cls, text) => {
  const e = document.createElement(name);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
};

const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const units = ["B", "KiB", "MiB", "GiB", "TiB"];

function size(n) {
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

function span(s) {
  if (!isFinite(s)) return "";
  s = Math.max(0, Math.round(s));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

const changes = (n) => `${number.format(n)} change${n === 1 ? "" : "s"}`;

const minute = 60e3;

// round is the next number that is easy to read.
function round(n) {
  const step = 1024 ** Math.floor(Math.log(Math.max(n, 1024)) / Math.log(1024));
  for (const m of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024]) if (m * step >= n) return m * step;
  return n;
}

let drawing = null; // what is shown: samples, now, since, sent (per second), pending
let pointed = null; // where in it somebody points, 0 to 1

// plot shows the samples of the last hour, or since the daemon began.
function plot(what) {
  drawing = what || drawing;
  if (!drawing) return;
  const box = $("plot"), w = Math.max(240, box.clientWidth), h = 170, bottom = h - 20, top = 14;
  const { samples, now, since, sent, pending } = drawing;
  const reach = [5, 10, 20, 30, 60].find((m) => now - since <= m * minute || m === 60), begin = now - reach * minute;
  const x = (t) => w * (t - begin) / (now - begin);
  const most = round(Math.max(...samples.map((s) => Math.max(s.sent, s.received)), 1));
  const deep = Math.max(...samples.map((s) => s.pending_bytes), 1);
  const y = (v) => bottom - (bottom - top) * v / most;
  const g = svg("svg", { viewBox: `0 0 ${w} ${h}`, "aria-hidden": "true" });
  for (const part of [0, .5, 1]) g.append(svg("line", { class: "grid", x1: 0, x2: w, y1: y(most * part), y2: y(most * part) }));
  const seen = samples.filter((s) => s.at >= begin);
  if (seen.length) {
    const last = seen[seen.length - 1], first = seen[0];
    const line = (f) => seen.map((s) => `${x(s.at).toFixed(1)},${f(s).toFixed(1)}`).join(" ");
    g.append(svg("polygon", { class: "backlog", points: `${x(first.at)},${bottom} ${line((s) => bottom - (bottom - top) * s.pending_bytes / deep)} ${x(last.at)},${bottom}` }));
    for (const what of ["received", "sent"]) g.append(svg("polyline", { class: what, points: line((s) => y(s[what])) }));
  }
  for (const part of [.5, 1]) g.append(svg("text", { x: 2, y: y(most * part) - 4 }, `${size(most * part)}/s`));
  if (deep > 1) g.append(svg("text", { x: w - 2, y: top - 4, "text-anchor": "end" }, `backlog up to ${size(deep)}`));
  for (let m = reach; m >= 0; m -= reach / 5) {
    g.append(svg("text", { x: x(now - m * minute), y: h - 4, "text-anchor": m === reach ? "start" : m === 0 ? "end" : "middle" }, m ? `−${m} min` : "now"));
  }
  let about = "\u00a0";
  if (pointed !== null && seen.length) {
    const at = begin + (now - begin) * pointed;
    const s = seen.reduce((a, b) => Math.abs(b.at - at) < Math.abs(a.at - at) ? b : a);
    g.append(svg("line", { class: "at", x1: x(s.at), x2: x(s.at), y1: top, y2: bottom }));
    about = `${clock.format(s.at)}: sent ${size(s.sent)}/s, received ${size(s.received)}/s, backlog ${changes(s.pending)}, ${size(s.pending_bytes)}`;
  }
  say("plot-at", about);
  say("hour", reach === 60 ? "The last hour" : `The last ${reach} minutes`);
  box.replaceChildren(g);
  box.setAttribute("aria-label", `Throughput and backlog over the last hour. ${size(sent)} per second are sent now; the backlog is ${changes(pending)}.`);
}

function point(part) {
  pointed = part === null ? null : Math.min(1, Math.max(0, part));
  plot();
}
$("plot").addEventListener("pointermove", (e) => { const r = $("plot").getBoundingClientRect(); point((e.clientX - r.left) / r.width); });
$("plot").addEventListener("pointerleave", () => point(null));
$("plot").addEventListener("blur", () => point(null));
$("plot").addEventListener("keydown", (e) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
  if (!by) return;
  point((pointed === null ? 1 : pointed) + by / 120);
  e.preventDefault();
});
addEventListener("resize", () => plot());
