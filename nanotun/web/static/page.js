// Keeps nanotun's pages up to date.  Every page works without this file.
//
// Text from outside gets into the page by textContent and attributes, never as markup; what is
// fetched again is a page that the server has made, and the policy of the page's
// Content-Security-Policy lets nothing in it run.
"use strict";

const SECONDS = 120; // of the graph
const REFRESH = 3000; // milliseconds between two looks at what has no events
const RECONNECT = 5000; // milliseconds, where the browser does not do it by itself
const LOG_LINES = 1000; // more would make a browser slow
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NOTHING = "–";

const find = (selector) => document.querySelector(selector);
const main = find("main");

// Numbers, as nanotun/web/text.py says them.

function sizeText(size) {
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(unit === 0 || size >= 100 ? 0 : 1)} ${UNITS[unit]}`;
}

const rateText = (rate) => `${sizeText(rate)}/s`;

function timeText(seconds) {
  const whole = Math.floor(seconds);
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  for (const [size, unit, less, lessUnit] of steps) {
    if (whole >= size) {
      return `${Math.floor(whole / size)} ${unit} ${Math.floor((whole % size) / less)} ${lessUnit}`;
    }
  }
  return `${whole} s`;
}

const countText = (count) => count.toLocaleString("en-US");

// Makes one tree like another one, and keeps the nodes that stay: a button keeps its focus.

function same(old, made) {
  return old.nodeType === made.nodeType && old.nodeName === made.nodeName;
}

const keyOf = (node) => (node.nodeType === 1 ? node.dataset.key : undefined);

function follow(old, made) {
  if (old.isEqualNode(made)) return;
  if (old.nodeType !== 1) {
    old.nodeValue = made.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!made.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of made.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  followChildren(old, [...made.childNodes]);
}

function followChildren(old, made) {
  const byKey = new Map();
  for (const child of old.childNodes) {
    if (keyOf(child) !== undefined) byKey.set(keyOf(child), child);
  }
  let place = old.firstChild;
  for (const wanted of made) {
    const key = keyOf(wanted);
    let child = key === undefined ? place : byKey.get(key);
    if (child && same(child, wanted) && keyOf(child) === key) {
      follow(child, wanted);
      if (child === place) place = place.nextSibling;
      else old.insertBefore(child, place);
    } else {
      old.insertBefore(wanted, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// What has no events: the page is asked for again.

let asking = false;

async function refresh() {
  const live = main.querySelectorAll("[data-live]");
  if (asking || document.hidden || !live.length) return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const made = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of live) {
      const found = made.getElementById(part.id);
      if (found) follow(part, document.importNode(found, true));
    }
    const count = find("#count");
    const counted = made.getElementById("count");
    if (count && counted) count.textContent = counted.textContent;
    filter();
  } catch {
    // The line about the connection says it already.
  } finally {
    asking = false;
  }
}

// The list of flows.

const closing = find("#closing");
const search = find("#search");
const live = closing && !closing.dataset.search; // a search looks at all flows, the events do not

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== "" && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function small(text) {
  return text ? [" ", element("small", {}, String(text))] : [];
}

function processText(process) {
  if (!process) return NOTHING;
  return process.name || (process.pid ? "unknown" : `user ${process.uid}`);
}

function targetText(flow) {
  const at = flow.destination.lastIndexOf(":");
  return `${flow.domain || flow.destination.slice(0, at)}${flow.destination.slice(at)}`;
}

function rateOf(flow) {
  const age = Math.max(flow.age, 1);
  return (flow.rateUp ?? flow.up / age) + (flow.rateDown ?? flow.down / age);
}

const SORTS = {
  program: (flow) => processText(flow.process).toLowerCase(),
  destination: (flow) => targetText(flow).toLowerCase(),
  upstream: (flow) => flow.upstream || "",
  state: (flow) => flow.state,
  age: (flow) => flow.age,
  up: (flow) => -flow.up,
  down: (flow) => -flow.down,
  rate: (flow) => -rateOf(flow),
};

function wordsOf(flow) {
  const process = flow.process || { pid: "", path: "", unit: "" };
  return [
    processText(flow.process), process.pid, process.path, process.unit || "", flow.domain || "",
    flow.destination, flow.source, flow.upstream || "", flow.rule || "", flow.state, flow.protocol,
  ].join(" ").toLowerCase();
}

function whose(process) {
  if (!process) return "";
  const parts = [process.path || process.name, `user ${process.uid}`, process.unit];
  return parts.filter(Boolean).join(", ");
}

function flowRow(flow) {
  const cell = (label, kind, title, ...children) =>
    element("td", { "data-label": label, class: kind, title }, ...children);
  const number = (label, text) => cell(label, "number", "", text);
  const target = targetText(flow);
  const name = processText(flow.process);
  const close = element("button", {
    name: "id", value: flow.id, "aria-label": `Close ${name} to ${target}`,
  }, "Close");
  const row = element(
    "tr", { "data-key": flow.id, "data-words": wordsOf(flow) },
    cell("Program", "", whose(flow.process), name, ...small(flow.process && flow.process.pid)),
    cell("Destination", "wide", `${flow.source} → ${flow.destination}`, target,
      ...small(flow.protocol)),
    cell("Upstream", "", flow.by || "", flow.upstream || flow.verdict || NOTHING,
      ...small(flow.rule)),
    cell("State", "", "", flow.state),
    number("Age", timeText(flow.age)),
    number("Up", sizeText(flow.up)),
    number("Down", sizeText(flow.down)),
    number("Rate", rateText(rateOf(flow))),
    cell("", "action", "", close),
  );
  row.normalize(); // Texts side by side are one, as in what the server makes.
  return row;
}

function showFlows({ flows, total }) {
  const key = SORTS[closing.dataset.sort] || SORTS.rate;
  const keyed = flows.map((flow) => [key(flow), flow]);
  keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  followChildren(find("#flows"), keyed.map(([, flow]) => flowRow(flow)));
  const verb = total === 1 ? "flow is" : "flows are";
  const shown = total > flows.length ? `; the busiest ${flows.length} are shown` : "";
  find("#count").textContent = `${countText(total)} ${verb} open${shown}`;
  filter();
}

function filter() {
  const body = find("#flows");
  if (!body) return;
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const text = row.dataset.words;
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  body.parentNode.hidden = shown === 0;
  const nothing = find("#flows-nothing");
  nothing.hidden = shown > 0;
  if (shown === 0) {
    nothing.textContent =
      body.rows.length || words.length ? `No flow has “${search.value}”.` : "No flow is open.";
  }
}

async function closeFlow(event) {
  const button = event.submitter;
  if (!button || button.name !== "id") return;
  event.preventDefault();
  button.disabled = true;
  try {
    const answer = await fetch("/api/v1/flows/close", {
      method: "POST",
      headers: { "content-type": "application/json", "x-nanotun": "1" },
      body: JSON.stringify({ ids: [Number(button.value)] }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const row = button.closest("tr");
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    const focus = next && next.querySelector("button");
    (focus || main).focus();
    filter();
  } catch (error) {
    button.disabled = false;
    tell(error.message, true);
  }
}

if (closing) {
  closing.addEventListener("submit", closeFlow);
  search.addEventListener("input", filter);
}

// The graph.

const points = [];

function draw({ up, down }) {
  points.push({ up, down });
  if (points.length > SECONDS) points.shift();
  const most = Math.max(1, ...points.map((each) => Math.max(each.up, each.down)));
  const line = (key) =>
    points.map((each, at) => {
      const x = 600 - ((points.length - 1 - at) * 600) / (SECONDS - 1);
      const y = 158 - (150 * each[key]) / most;
      return `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    }).join("");
  const begin = 600 - ((points.length - 1) * 600) / (SECONDS - 1);
  find("#graph .down.line").setAttribute("d", line("down"));
  find("#graph .up.line").setAttribute("d", line("up"));
  find("#graph .area").setAttribute("d", `${line("down")}L600 160L${begin.toFixed(1)} 160Z`);
  find("#rate-down").textContent = rateText(down);
  find("#rate-up").textContent = rateText(up);
  find("#rate-most").textContent = rateText(most);
  find("#traffic").hidden = false;
}

// The log.

// The time of day where the daemon runs, as the lines that are there already have it.
function clockText(seconds, offset) {
  return new Date((seconds + offset) * 1000).toISOString().slice(11, 19);
}

function addLine(line) {
  const list = find("#lines");
  const last = list.lastElementChild;
  if (last && Number(last.dataset.number) >= line.number) return;
  const below = innerHeight + scrollY >= document.body.scrollHeight - 40;
  list.append(element(
    "li", { class: line.level, "data-number": line.number, title: line.namespace },
    element("time", {}, clockText(line.time, Number(list.dataset.offset))), " ", element("b", {}, line.level), ` ${line.text}`,
  ));
  while (list.children.length > LOG_LINES) list.firstElementChild.remove();
  if (below) scrollTo(0, document.body.scrollHeight);
}

// What happens, as the server tells it.

const state = find("#link");

function tell(text, wrong) {
  state.textContent = text;
  state.classList.toggle("lost", wrong);
}

const TOPICS = { traffic: draw, flows: showFlows, log: addLine };
const topic = find("#graph") ? "traffic" : live ? "flows" : find("#lines") ? "log" : "";

let lost = false; // the events, as when too many pages are open

function listen() {
  const events = new EventSource(`/api/v1/events?topics=${topic}`);
  events.addEventListener("open", () => {
    // Lines have come meanwhile, or the daemon is another one, which counts them anew.
    if (lost && topic === "log") location.reload();
    lost = false;
    tell("live", false);
  });
  events.addEventListener("error", () => {
    lost = true;
    tell("not connected", true);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RECONNECT);
  });
  addEventListener("pagehide", () => events.close(), { once: true });
  events.addEventListener(topic, (event) => TOPICS[topic](JSON.parse(event.data)));
}

if (find("#lines")) scrollTo(0, document.body.scrollHeight);
if (topic) listen();
// Back from another page, as it was left.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
setInterval(() => { if (!live || lost) refresh(); }, REFRESH);

// Keys: / for the search, and g with a letter for a page.

let going = 0;

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName);
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  if (event.key === "/" && !going) {
    event.preventDefault();
    if (search) search.focus();
    else location.href = "/flows#search";
    return;
  }
  if (going) {
    const link = find(`nav a[data-key="${CSS.escape(event.key)}"]`);
    clearTimeout(going);
    going = 0;
    if (link) link.click();
  } else if (event.key === "g") {
    going = setTimeout(() => { going = 0; }, 1500);
  }
});

if (search && location.hash === "#search") search.focus();
