"use strict";
// Shows one page at a time, opens the runs of a cell, and lists all runs. Without it all pages stand below each other.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // text is text: no name of a model or a file becomes markup
  return made;
};
const holder = document.getElementById("data");
const data = holder ? JSON.parse(holder.textContent) : null;
const column = data ? Object.fromEntries(data.columns.map((one, i) => [one.name, i])) : {};
const written = (value, isPercent) =>
  value === null || value === undefined ? "–"
    : typeof value === "number" ? (isPercent ? value.toFixed(1) : String(value)).replace("-", "−")
    : Array.isArray(value) ? value.map((one) => written(one)).join(", ") : String(value);

// ---- pages
const pages = [...document.querySelectorAll("section.page")];
function show() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = document.getElementById(id);
  const page = target?.closest("section.page") ?? pages[0];
  for (const one of pages) one.hidden = one !== page;
  for (const link of document.querySelectorAll(".top nav a")) {
    const isHere = link.hash === `#${page.id}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    if (isHere) link.closest("nav").scrollLeft = link.offsetLeft - link.closest("nav").offsetLeft - 24;
  }
  if (target && target !== page) {
    target.closest("details")?.setAttribute("open", "");
    target.scrollIntoView();
  } else {
    scrollTo(0, 0);
  }
}
if (pages.length) {
  addEventListener("hashchange", show);
  show();
}

// ---- one run
for (const command of document.querySelectorAll("[data-copy]")) command.after(copied(command.textContent));
function list(content, isWide) {
  const rows = Object.entries(content).filter(([, value]) => typeof value !== "object" || Array.isArray(value));
  return element("dl", isWide ? { class: "wide" } : {}, ...rows.map(([name, value]) => {
    const text = written(value);
    return element("div", text.length > 20 ? { class: "long" } : {}, element("dt", {}, name), element("dd", {}, text));
  }));
}
function table(headings, rows, label) {
  const head = element("tr", {}, ...headings.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, i) =>
    element(i ? "td" : "th", i ? {} : { scope: "row" }, cell instanceof Node ? cell : written(cell)))));
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label },
    element("table", { class: "list" }, element("thead", {}, head), element("tbody", {}, ...body)));
}
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#b5589a", "#c98500", "#3f9fd8", "currentColor", "#808000"];
const DASHES = ["", "5 3", "1.5 2.5"];
function drawn(panel) {
  const [width, height, left, bottom, top] = [320, 190, 38, 32, 8];
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const add = (tag, attributes, text) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
  };
  const values = Object.values(panel.lines).flat().filter((y) => y !== null);
  let [low, high] = panel.percent ? [0, 100] : [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 1, high + 1];
  const [first, last] = [Math.min(...panel.xs), Math.max(...panel.xs)];
  const x = (at) => left + (width - left - 6) * (last > first ? (at - first) / (last - first) : 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  const faint = { stroke: "currentColor", "stroke-width": 1 };
  for (const value of panel.percent ? [0, 50, 100] : [low, high]) {
    add("line", { ...faint, x1: left, x2: width - 6, y1: y(value), y2: y(value), opacity: 0.18 });
    add("text", { x: left - 5, y: y(value) + 3.5, "text-anchor": "end", "font-size": 10 }, String(+value.toPrecision(3)));
  }
  for (const at of [first, last]) add("text", { x: x(at), y: height - bottom + 14, "text-anchor": at === last && last > first ? "end" : "start", "font-size": 10 }, String(+at.toPrecision(4)));
  add("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle", "font-size": 10 }, panel.x);
  const names = element("span", {});
  Object.entries(panel.lines).forEach(([name, ys], i) => {
    const [color, dash] = [COLORS[i % COLORS.length], DASHES[Math.floor(i / COLORS.length) % 3]];
    const points = ys.map((value, j) => (value === null ? null : `${x(panel.xs[j]).toFixed(1)},${y(value).toFixed(1)}`));
    add("polyline", { points: points.filter(Boolean).join(" "), fill: "none", stroke: color, "stroke-width": 1.6, "stroke-dasharray": dash });
    if (points.length <= 12) for (const point of points.filter(Boolean)) add("circle", { cx: point.split(",")[0], cy: point.split(",")[1], r: 2.2, fill: color });
    const mark = element("i", {});
    mark.style.color = color;
    const end = [...ys].reverse().find((value) => value !== null);
    names.append(element("span", {}, mark, `${name} ${written(end === undefined ? null : +end.toPrecision(3))}`), " ");
  });
  return element("figure", {}, svg, element("figcaption", {}, element("b", {}, panel.title), "; at the end: ", names));
}
function copied(text) {
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected: copy it with the keyboard";
    }
  });
  return button;
}
function told(row, one) {
  const parts = [];
  const add = (title, ...nodes) => parts.push(element("h3", {}, title), ...nodes);
  const flags = row[column.flags] ? row[column.flags].split(", ") : [];
  add("Flags", flags.length ? element("ul", {}, ...flags.map((flag) => element("li", {}, data.flags[flag] ? `${flag}: ${data.flags[flag]}` : flag)))
    : element("p", {}, "none"));
  if (!one) {
    parts.push(element("p", { class: "warning" }, "Its details are not in this file, which would be too large: ", element("code", {}, `rc runs show ${row[column.key]}`)));
    return parts;
  }
  if (one.command) add("The command that makes it", element("code", { class: "command" }, one.command), copied(one.command));
  if (one.own) parts.push(element("p", {}, `With files of one's own: ${one.own.join(", ")}`));
  add("Settings unlike its profile's", one.settings ? table(["setting", "stage", "value", `profile ${row[column.profile]}`],
    one.settings.map(([stage, path, value, usual]) => [path, stage, value, usual]), "Settings unlike its profile's") : element("p", {}, "none"));
  if (one.curves) add("Curves", element("div", { class: "panels" }, ...one.curves.map(drawn)));
  if (one.metrics) add("Numbers", list(one.metrics));
  if (one.audit) {
    const rows = one.audit.flatMap(([ids, status, value, threshold, note]) => ids.map((id) => [id, status, value, threshold, note]));
    rows.sort((a, b) => a[0] - b[0]);
    const ran = rows.filter((finding) => finding[1] !== "not run");
    const rest = rows.filter((finding) => finding[1] === "not run");
    const line = ([id, status, value, threshold, note]) => [`${id} ${data.checks[id]}`, element("span", { class: "status", "data-status": status }, status), value, threshold, note];
    add("Audit", ran.length ? table(["check", "says", "value", "threshold", "note"], ran.map(line), "Audit") : "");
    if (rest.length) parts.push(element("p", { class: "key" }, `Not run: ${rest.map(([id, , , , note]) => `${data.checks[id]}${note && note !== "rc audit runs it" ? ` (${note})` : ""}`).join(", ")}.`));
  }
  if (one.threat) add("Threat model", list(one.threat));
  if (one.health) add("Health, without labels", list(one.health));
  if (one.training) add("Training", list({ ...one.training, ...Object.fromEntries(Object.entries(one.training.losses ?? {}).map(([name, value]) => [`loss: ${name}`, value])) }));
  if (one.data) add("Data", list({ ...one.data, shapes: JSON.stringify(one.data.shapes) }));
  if (one.lineage) add("Starts from", element("p", {}, ...one.lineage.flatMap(([stage, model, key], i) => [i ? " → " : "", `${stage} ${model} `, element("code", {}, key)])));
  if (one.environment !== undefined) add("Where it was made", list(data.environments[one.environment], true));
  return parts;
}
function heading(row) {
  const shown = [`${row[column.stage]} ${row[column.model]}`, row[column.data], `d ${row[column.d]}`, `seed ${row[column.seed]}`];
  if (row[column.attack]) shown.push(row[column.attack], `attacker ${row[column.attacker]}`);
  for (const name of ["ACC", "ACC*", "flip"]) if (row[column[name]] !== null) shown.push(`${name} ${written(row[column[name]], true)}`);
  return [shown.join(" · "), " ", element("code", {}, row[column.key]), " ", element("small", {}, row[column.flags])];
}
const dialog = document.getElementById("opened");
function opened(title, indices) {
  const heads = element("h2", { id: "opened-title", tabindex: "-1" }, title);
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const runs = indices.map((i) => {
    const row = data.rows[i];
    const run = element("details", { class: "run" }, element("summary", {}, ...heading(row)));
    const fill = () => { if (run.open && run.children.length < 2) run.append(element("div", {}, ...told(row, data.details[i]))); };
    run.addEventListener("toggle", fill);
    if (indices.length === 1) {
      run.open = true;
      fill(); // "toggle" comes a moment later: nobody sees it empty
    }
    return run;
  });
  dialog.replaceChildren(element("header", {}, heads, close),
    element("div", { class: "inside" }, element("p", {}, `${indices.length} run${indices.length === 1 ? "" : "s"}`), ...runs));
  dialog.showModal();
  heads.focus();
}
if (dialog) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-place], [data-search]");
    if (link?.dataset.place) {
      event.preventDefault();
      opened(...data.places[link.dataset.place]);
    } else if (link) {
      search(link.dataset.search);
    } else if (event.target === dialog) {
      dialog.close();
    }
  });
}

// ---- all runs
const MORE = 100;
let search = () => {};
const place = document.getElementById("run-list");
if (place) {
  const texts = data.rows.map((row) => row.map((value) => written(value)).join(" ").toLowerCase());
  let [sorted, direction, limit] = [0, 0, MORE];
  const input = element("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false" });
  const status = element("p", { class: "key", role: "status" });
  const heads = data.columns.map((one, i) => {
    const button = element("button", { type: "button" }, one.name);
    button.addEventListener("click", () => {
      [sorted, direction] = sorted === i && direction === 1 ? [i, -1] : [i, 1];
      fill();
    });
    return element("th", { scope: "col", ...(one.percent ? { class: "n" } : {}) }, button);
  });
  const body = element("tbody", {});
  const more = element("button", { type: "button" });
  more.addEventListener("click", () => { limit += MORE; fill(); });
  const compared = (a, b) => {
    const [one, other] = [data.rows[a][sorted], data.rows[b][sorted]];
    if (one === other) return a - b;
    if (one === null || one === "") return 1; // what has none comes last in both directions
    if (other === null || other === "") return -1;
    return direction * (typeof one === "number" && typeof other === "number" ? one - other : String(one) < String(other) ? -1 : 1);
  };
  function fill() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.rows.map((_, i) => i).filter((i) => words.every((word) => texts[i].includes(word)));
    if (direction) found.sort(compared);
    heads.forEach((head, i) => {
      if (direction && i === sorted) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...found.slice(0, limit).map((i) => element("tr", {}, ...data.rows[i].map((value, j) => {
      const text = data.columns[j].percent ? written(value, true) : written(value);
      if (j) return element("td", data.columns[j].percent ? { class: "n" } : {}, text);
      const button = element("a", { href: "#runs" }, element("code", {}, text));
      button.addEventListener("click", (event) => { event.preventDefault(); opened(`${data.rows[i][column.stage]} ${data.rows[i][column.model]} on ${data.rows[i][column.data]}`, [i]); });
      return element("th", { scope: "row" }, button);
    }))));
    status.textContent = `${found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} runs; ACC, flips and noise in percent`;
    more.hidden = found.length <= limit;
    more.textContent = `Show ${Math.min(MORE, found.length - limit)} more`;
  }
  input.addEventListener("input", () => { limit = MORE; fill(); });
  search = (text) => { input.value = text; limit = MORE; fill(); };
  place.append(
    element("div", { class: "tools" }, element("label", {}, "Search: words that a run has, e.g. attack graph digits", input)), status,
    element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "All runs" },
      element("table", { class: "list" }, element("thead", {}, element("tr", {}, ...heads)), body)), more);
  fill();
}
