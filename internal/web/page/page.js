"use strict";

// The page asks /live each second for what changes, and /changes for one page of a list.
// All text comes in as text: a name of a file is never markup.

// --- what changes from second to second -------------------------------------------

let samples = [], next = 0, born = 0, live = null, misses = 0;
const rate = { sent: 0, received: 0 };

async function get(path) {
  const r = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (!r.ok) throw new Error((await r.text()).trim() || r.statusText);
  return r.json();
}

async function look() {
  try {
    take(await get(`live?since=${next}`));
    misses = 0;
  } catch (err) {
    if (++misses < 2) return;
    $("state").className = "state lost";
    $("state").title = String(err);
    say("state", "no answer");
  }
}

// smooth is a rate of the last seconds, in which those just past count most.
const smooth = (old, now) => old === 0 || now === 0 ? now * .5 + old * .5 : old * .6 + now * .4;

function take(a) {
  const s = a.status, q = s.queue;
  if (s.since !== born || a.next < next) { // another daemon
    born = s.since;
    samples = [];
    live = null;
  }
  samples = samples.concat(a.samples).slice(-720);
  next = a.next;
  if (live && a.now > live.now) {
    const dt = (a.now - live.now) / 1000;
    for (const what of ["sent", "received"]) rate[what] = smooth(rate[what], Math.max(0, a[what] - live[what]) / dt);
  }
  live = a;
  say("source", s.source);
  say("where", `on ${s.mountpoint}`);
  document.title = `${q.pending ? `(${q.pending}) ` : ""}${s.source} · ossmount`;
  say("version", `ossmount ${s.version}, up for ${span(a.now / 1000 - s.since)}`);
  state(a);
  cards(a);
  uploads(q.uploading || [], a.now);
  const now = { at: a.now, sent: Math.round(rate.sent), received: Math.round(rate.received), pending: q.pending, pending_bytes: q.pending_bytes };
  plot({ samples: [...samples, now], now: a.now, since: s.since * 1000, sent: rate.sent, pending: q.pending });
  count("tab-carried", q.pending);
  count("tab-stuck", q.parked + q.interrupted);
  count("tab-found", a.found);
  if (list === "found") showFound();
}

function count(tab, n) {
  const b = $(tab).querySelector("b"), text = n ? number.format(n) : "";
  if (b.textContent !== text) b.textContent = text;
}

function state(a) {
  const q = a.status.queue, ago = (ns) => span(a.now / 1000 - ns / 1e9);
  const [cls, text] = a.ending ? ["away", "ending"] : q.damaged ? ["lost", "cache disk failed"] : q.oss_away ? ["away", "OSS cannot be used"] : ["", "serving"];
  $("state").className = `state ${cls}`;
  $("state").title = "";
  say("state", text);
  const notes = [];
  if (q.damaged) notes.push(["bad", `The cache disk has failed, and nothing is opened for writing: ${q.damaged}`]);
  if (q.oss_away) notes.push(["", `OSS cannot be used for ${ago(q.oss_away_since)}: ${q.oss_away}. What is pending is kept, and goes on by itself.`]);
  for (const d of q.denied || []) notes.push(["", `OSS does not permit to ${d.what} beneath “${d.under}”, and ${d.more ? "more than " : ""}${changes(d.rows)} wait for it: ${d.why}`]);
  if (a.status.room.why) notes.push(["bad", `There is no room: ${a.status.room.why}`]);
  if (a.status.internal_errors) notes.push(["bad", `${a.status.internal_errors} internal errors were caught: please report what the log says.`]);
  const all = notes.map((n) => n[1]).join("\n");
  if ($("notes").dataset.all === all) return;
  $("notes").dataset.all = all;
  $("notes").replaceChildren(...notes.map(([cls, text]) => make("p", `note ${cls}`, text)));
}

const some = (...parts) => parts.filter(Boolean).join(", ");

function cards(a) {
  const s = a.status, q = s.queue, r = s.room;
  say("pending", size(q.pending_bytes));
  const oldest = q.oldest_unpublished_close;
  say("pending-more", q.pending === 0 ? "all is on OSS" : some(changes(q.pending), oldest && `oldest ${span(a.now / 1000 - oldest / 1e9)}`));
  say("rate", `${size(rate.sent)}/s`);
  const left = rate.sent > 1024 && q.pending_bytes > 0 && `about ${span(q.pending_bytes / rate.sent)} left`;
  say("rate-more", some(rate.received > 1024 && `receiving ${size(rate.received)}/s`, left) || `${q.requests.in_flight} requests under way`);
  const stuck = q.parked + q.interrupted;
  say("stuck", number.format(stuck + a.found));
  $("stuck-card").classList.toggle("some", stuck > 0);
  say("stuck-more", some(q.parked && `${q.parked} parked`, q.interrupted && `${q.interrupted} interrupted`, a.found && `${a.found} found`) || "nothing waits for you");
  const quota = r.quota || s.cache.total, part = quota ? r.used / quota : 0;
  say("cache", size(r.used));
  say("cache-more", some(`of ${size(quota)}`, `disk has ${size(r.disk)} left`, r.waiting && r.waiting.length > 0 && `${r.waiting.length} writers wait`));
  bar($("cache-bar"), part);
  $("cache-bar").classList.toggle("full", part > .9);
}

function bar(e, part) {
  const percent = Math.round(1000 * Math.min(1, Math.max(0, part))) / 10;
  e.firstElementChild.style.width = `${percent}%`;
  e.setAttribute("aria-valuenow", percent);
}

const rel = (key) => live && key.startsWith(live.prefix) && key !== live.prefix ? key.slice(live.prefix.length) : key;

const sending = new Map(); // rows of uploads, and how fast each is, by key

function uploads(all, now) {
  const keys = new Set(all.map((u) => u.key));
  for (const [key, row] of sending) {
    if (keys.has(key)) continue;
    row.li.remove();
    sending.delete(key);
  }
  for (const u of all) {
    u.sent = Math.min(u.sent + u.under_way, u.size);
    let row = sending.get(u.key);
    if (!row) {
      row = newUpload(u, now);
      sending.set(u.key, row);
      $("uploads").append(row.li);
    }
    if (u.sent !== row.sent) {
      row.rate = smooth(row.rate, (u.sent - row.sent) / Math.max(.5, (now - row.at) / 1000));
      row.sent = u.sent;
      row.at = now;
    }
    bar(row.bar, u.size ? u.sent / u.size : 0);
    const text = progress(u, row.rate);
    if (row.more.textContent !== text) row.more.textContent = text;
  }
  $("uploads-none").hidden = all.length > 0;
  say("sending-more", all.length ? `${all.length} at once` : "");
}

function newUpload(u, now) {
  const row = { li: make("li"), path: make("span", "path", rel(u.key)), more: make("span", "small"), bar: make("div", "bar"), sent: u.sent, at: now, rate: 0 };
  row.bar.append(make("span"));
  for (const [k, v] of Object.entries({ role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${rel(u.key)}` })) row.bar.setAttribute(k, v);
  const line = make("div", "line");
  line.append(row.path, row.more);
  row.li.append(line, row.bar);
  row.li.dataset.path = rel(u.key);
  return row;
}

function progress(u, rate) {
  if (u.kind === "delete") return "delete";
  return some(`${size(u.sent)} of ${size(u.size)}${u.open ? " so far" : ""}`, u.parts && `part ${u.parts_done || 0}/${u.parts}`,
    rate > 0 && `${size(rate)}/s`, rate > 0 && !u.open && `${span((u.size - u.sent) / rate)} left`);
}

// --- the lists --------------------------------------------------------------------

const onPage = 100;
let list = "carried", after = [""], nextAfter = "", asked = 0;

async function showList() {
  if (list === "found") return showFound();
  const mine = ++asked, filter = $("filter").value.trim();
  let rows = [], at = after[after.length - 1];
  try {
    for (let tries = 0; tries < 50; tries++) { // with a filter a page may be short
      const a = await get(`changes?${new URLSearchParams({ list, contains: filter, after: at, max: onPage - rows.length })}`);
      if (mine !== asked) return; // somebody has asked for something else meanwhile
      rows = rows.concat(a.rows);
      at = a.next || "";
      if (!at || rows.length >= onPage) break;
    }
  } catch (err) {
    if (mine === asked) tell(String(err.message || err), true);
    return;
  }
  nextAfter = at;
  fill(rows.map((r) => ({ id: r.path || r.key, path: r.path || "(the mount itself)", state: r.state, size: r.size, kind: r.kind,
    why: [r.reason, r.tries && `tried ${r.tries} times`, r.remedy].filter(Boolean).join(" · "),
    act: r.state === "parked" || r.state === "interrupted" ? { path: r.path } : null, retry: r.state === "parked" })));
  pages(rows.length, filter);
}

function showFound() {
  if (!live) return;
  asked++;
  const filter = $("filter").value.trim().toLowerCase();
  const all = live.status.lost_and_found.map((f) => {
    const key = (f.witness && f.witness.k) || "", n = f.number.toString(16);
    return { id: n, path: key ? rel(key) : `found:${n}`, state: "found", size: f.size, kind: "put", act: { found: n },
      why: `found:${n} · its bytes are in ${f.path} · publish or export it with \`ossmount recover\`` };
  }).filter((r) => r.path.toLowerCase().includes(filter) || r.id.includes(filter));
  nextAfter = "";
  fill(all);
  say("page-at", all.length < live.found && !filter ? `the first ${all.length} of ${number.format(live.found)}` : "");
  $("back").disabled = $("next").disabled = true;
  $("pages").hidden = all.length === live.found;
}

const drawn = new Map(); // rows of the list

// fill shows rows, and leaves alone what has not changed: a button that somebody is
// about to press stays where it is.
function fill(rows) {
  const keep = new Set(), ul = $("rows");
  for (const r of rows) keep.add(`${list} ${r.id}`);
  for (const [id, row] of drawn) {
    if (keep.has(id)) continue;
    row.li.remove();
    drawn.delete(id);
  }
  let at = ul.firstChild;
  for (const r of rows) {
    const id = `${list} ${r.id}`, is = JSON.stringify(r);
    let row = drawn.get(id);
    if (!row || row.is !== is) {
      const li = draw(r);
      if (row && at === row.li) at = li;
      if (row) row.li.replaceWith(li);
      drawn.set(id, row = { li, is });
    }
    if (row.li === at) at = at.nextSibling;
    else ul.insertBefore(row.li, at);
  }
  $("rows-none").hidden = rows.length > 0;
  say("rows-none", $("filter").value.trim() ? "Nothing has such a name." : { carried: "All is on OSS.", stuck: "Nothing waits for you.", found: "Nothing was found." }[list]);
}

function draw(r) {
  const li = make("li"), path = make("span", "path");
  li.dataset.path = r.path;
  path.append(make("span", `tag ${r.state}`, r.kind === "delete" ? `${r.state} delete` : r.state), r.path);
  li.append(path);
  const bytes = r.kind === "delete" ? "" : size(r.size);
  if (bytes && !r.act) li.append(make("span", "size", bytes));
  const text = [r.act && bytes, r.why].filter(Boolean).join(" · ");
  if (text) {
    const why = make("span", "why");
    text.split("`").forEach((part, i) => why.append(i % 2 ? make("code", "", part) : part));
    li.append(why);
  }
  if (r.act) {
    const acts = make("span", "acts");
    if (r.retry) acts.append(button("Retry", "main", r, () => act("retry", r)));
    acts.append(button("Discard", "danger", r, () => ask(r)));
    li.append(acts);
  }
  return li;
}

function button(text, cls, r, does) {
  const b = make("button", cls, text);
  b.type = "button";
  b.setAttribute("aria-label", `${text} ${r.path}`);
  b.addEventListener("click", does);
  return b;
}

function pages(n, filter) {
  const q = live && live.status.queue, all = !q ? 0 : list === "stuck" ? q.parked + q.interrupted : q.pending;
  const before = (after.length - 1) * onPage;
  $("pages").hidden = after.length === 1 && !nextAfter && all <= onPage;
  $("back").disabled = after.length === 1;
  $("next").disabled = !nextAfter;
  say("page-at", n === 0 ? "" : `${number.format(before + 1)} to ${number.format(before + n)}${filter ? "" : ` of ${number.format(Math.max(all, before + n))}`}`);
}

const order = ["carried", "stuck", "found"];

function choose(which, focus) {
  list = which;
  after = [""];
  for (const t of order) {
    const on = t === which, tab = $(`tab-${t}`);
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    if (on && focus) tab.focus();
  }
  $("list").setAttribute("aria-labelledby", `tab-${which}`);
  showList();
}

for (const t of order) {
  $(`tab-${t}`).addEventListener("click", () => choose(t));
  $(`tab-${t}`).addEventListener("keydown", (e) => {
    const by = { ArrowLeft: 2, ArrowRight: 1 }[e.key];
    if (by) choose(order[(order.indexOf(list) + by) % 3], true);
  });
}
$("next").addEventListener("click", () => { if (nextAfter) { after.push(nextAfter); showList(); } });
$("back").addEventListener("click", () => { if (after.length > 1) { after.pop(); showList(); } });
let typing = 0;
$("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { after = [""]; showList(); }, 150); });

// --- acting -----------------------------------------------------------------------

function tell(text, bad) {
  $("said").className = bad ? "said bad" : "said";
  say("said", text);
}

async function act(what, r) {
  const token = $("token").value.trim();
  if (!token) {
    tell("A token is needed for that: `ossmount status --json MOUNTPOINT` has it, in http.token.", true);
    $("token").focus();
    return;
  }
  try {
    const a = await fetch("recover", { method: "POST", signal: AbortSignal.timeout(30000),
      headers: { "Content-Type": "application/json", "X-Ossmount-Token": token }, body: JSON.stringify({ do: what, ...r.act }) });
    if (!a.ok) return tell((await a.text()).trim(), true);
    tell(what === "retry" ? `${r.path} is tried again.` : `${r.path} was discarded.`);
  } catch (err) {
    return tell(String(err.message || err), true);
  }
  await look();
  showList();
}

let about = null;

function ask(r) {
  about = r;
  say("ask-text", `The bytes of ${r.path} that are here are given up for good. What OSS holds of it stays as it is.`);
  $("ask").showModal();
}

$("ask-no").addEventListener("click", () => $("ask").close());
$("ask-yes").addEventListener("click", () => { $("ask").close(); act("discard", about); });

// --- begin ------------------------------------------------------------------------

// A token in the address, behind #, is never sent; it is taken from there.
if (location.hash.startsWith("#token=")) {
  $("token").value = decodeURIComponent(location.hash.slice(7));
  history.replaceState(null, "", location.pathname);
}

async function turn(n) {
  if (!document.hidden) {
    await look();
    if (live && n % 2 === 0 && list !== "found") await showList();
  }
  setTimeout(turn, 1000, n + 1);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
turn(0);
