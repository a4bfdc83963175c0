"use strict";
// The module tree: modules and, below them, their ops; every column sorts siblings.
const Tree = (() => {
  const COLUMNS = [
    ["name", "module, op"], ["params", "params", count], ["macs", "MACs", count], ["flops", "FLOPs", count],
    ["bytes", "bytes", size], ["time", "time", seconds], ["share", "share"], ["bound", "bound"], ["formula", "MACs and ops of an op"],
  ];
  const root = { path: "", name: "", children: [], open: true, level: 0 };
  const state = { key: "order", down: false, find: "" };
  let timed = false;

  function build() {
    const nodes = new Map([["", root]]);
    let order = 0;
    const types = new Map(DATA.modules);
    function module(path) {
      if (nodes.has(path)) return nodes.get(path);
      const cut = path.lastIndexOf(".");
      const parent = module(cut < 0 ? "" : path.slice(0, cut));
      const node = { path, name: path.slice(cut + 1), type: types.get(path) || "", children: [], open: false, level: parent.level + 1, parent, order: order++, own: DATA.params[path] || 0 };
      parent.children.push(node);
      nodes.set(path, node);
      return node;
    }
    for (const path of Object.keys(DATA.params)) if (!DATA.modules.some(([name]) => name === path)) module(path);
    DATA.ops.forEach((op, index) => {
      const parent = module(DATA.modules[op.module][0]);
      parent.children.push({ path: op.name, name: op.op.replace("aten.", ""), op, index, children: [], level: parent.level + 1, parent, order: order++ });
    });
    root.own = DATA.params[""] || 0;
    sum(root);
    let node = root;  // open what a reader would open anyway
    while (node.children.length === 1 && node.children[0].children.length) { node = node.children[0]; node.open = true; }
  }
  function sum(node) {
    if (node.op) {
      const [params, macs, ops, read, written] = node.op.counts;
      Object.assign(node, { params, macs, flops: macs === null ? null : 2 * macs + ops, bytes: macs === null ? null : read + written, complete: macs !== null });
      return;
    }
    Object.assign(node, { params: node.own, macs: 0, flops: 0, bytes: 0, complete: true });
    for (const child of node.children) {
      sum(child);
      if (!child.op) node.params += child.params;
      for (const key of ["macs", "flops", "bytes"]) node[key] += child[key] || 0;
      node.complete = node.complete && child.complete;
    }
  }

  function device(found) {
    timed = Boolean(found);
    const visit = (node) => { node.time = timed ? 0 : null; node.bounds = {}; node.fused = ""; node.children.forEach(visit); };
    visit(root);
    if (!timed) return show();
    const byPath = new Map(), byOp = new Map();
    const index = (node) => { if (node.op) byOp.set(node.index, node); else byPath.set(node.path, node); node.children.forEach(index); };
    index(root);
    let whole = 0;
    for (const [module, op, family, latency, bound, ops] of found.kernels) {
      whole += latency;
      const add = (node) => { node.time += latency; node.bounds[bound] = (node.bounds[bound] || 0) + latency; };
      let node = byOp.get(op) || byPath.get(module < 0 ? "" : DATA.modules[module][0]) || root;
      for (; node; node = node.parent) add(node);
      for (const other of ops) if (other !== op && byOp.get(other)) byOp.get(other).fused = op >= 0 ? DATA.ops[op].name : family;
    }
    const finish = (node) => {
      node.share = whole ? node.time / whole : 0;
      node.bound = Object.entries(node.bounds).sort((a, b) => b[1] - a[1]).map(([name]) => name)[0] || "";
      node.children.forEach(finish);
    };
    finish(root);
    show();
  }

  function sorted(children) {
    const { key, down } = state, sign = down ? -1 : 1;
    const value = (node) => (key === "bound" ? node.bound || "" : key === "name" ? node.name : node[key] ?? -1);
    return [...children].sort((a, b) => {
      const x = value(a), y = value(b);
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return sign * order || a.order - b.order;
    });
  }
  const wanted = (node) => !state.find || `${node.path} ${node.op ? node.op.op : node.type}`.toLowerCase().includes(state.find);
  function visible() {
    const rows = [];
    const any = (node) => wanted(node) || node.children.some(any);
    const visit = (node, inside) => {
      for (const child of sorted(node.children)) {
        const hit = inside || wanted(child);
        if (!hit && !any(child)) continue;
        rows.push(child);
        if (child.open || (state.find && !hit)) visit(child, hit);
      }
    };
    visit(root, false);
    return rows;
  }

  function math(node) {
    const NS = "http://www.w3.org/1998/Math/MathML";
    const m = (name, ...children) => { const made = document.createElementNS(NS, name); made.append(...children); return made; };
    const one = (symbol) => {
      const [stem, low] = symbol.split("_");
      return low ? m("msub", m("mi", stem), m("mi", low)) : m("mi", stem);
    };
    const letter = (symbol) => {
      const [top, bottom] = symbol.split("/");
      return bottom ? m("mfrac", one(top), one(bottom)) : one(top);
    };
    const between = (items) => items.flatMap((item, i) => (i ? [m("mo", "·"), item] : [item]));
    const number = (value) => m("mn", value.toLocaleString("en"));
    const cell = make("span");
    const [macs, ops] = node.op.formula;
    [[macs, node.macs, "MACs"], [ops, node.op.counts[2], "ops"]].forEach(([factors, total, unit]) => {
      if (!total) return;
      if (cell.childNodes.length) cell.append(make("br"));
      // Two formulas, between which a line may break.
      const numbers = m("mrow");
      if (factors.length) {
        cell.append(m("math", m("mrow", ...between(factors.map(([symbol, value]) => (symbol ? letter(symbol) : number(value)))))), " ");
        if (factors.length > 1) numbers.append(m("mo", "="), ...between(factors.map(([, value]) => number(value))));
        numbers.append(m("mo", "="));
      }
      numbers.append(number(total), m("mtext", `\u00a0${unit}`));
      cell.append(m("math", numbers));
    });
    return cell;
  }

  function line(node) {
    const row = make("tr", { "data-path": node.path, "data-level": node.level, class: node.op ? "op" : "module", "aria-level": node.level });
    const indent = `padding-left:${0.55 + 1.1 * (node.level - 1)}rem`;
    const least = node.complete ? "" : "≥ ";
    const name = make("td", { style: indent });
    if (node.op) {
      const shape = node.op.shape.length ? ` → ${node.op.shape.join("×")}` : "";
      name.append(`${node.name}${shape}`);
    } else {
      const button = make("button", { type: "button", "aria-expanded": String(node.open) }, `${node.open ? "▾" : "▸"} ${node.name} `, make("span", { class: "type" }, node.type));
      button.addEventListener("click", () => { node.open = !node.open; show(node.path); });
      name.append(button);
    }
    row.append(name);
    for (const [key, , text] of columns().slice(1)) {
      const cell = make("td", key === "bound" ? { class: "bound", title: node.fused } : {});
      if (key === "formula") { if (node.op) cell.append(math(node)); }
      else if (key === "share") cell.append(node.fused && !node.time ? "" : percent(node.share), bar(node));
      else if (key === "bound") cell.append(node.fused && !node.time ? `fused into ${node.fused}` : node.bound);
      else if (node[key] === null) cell.append("unknown");
      else if (key === "time") cell.append(node.time ? text(node.time) : "");
      else cell.append((["macs", "flops", "bytes"].includes(key) ? least : "") + text(node[key]));
      row.append(cell);
    }
    return row;
  }
  function bar(node) {
    const colour = DATA.classes.bounds[node.bound] || "transparent";
    return make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "bar", style: `width:${3 * node.share}rem;background:${colour}` }));
  }
  const columns = () => COLUMNS.filter(([key]) => timed || !["time", "share", "bound"].includes(key));

  function head() {
    const row = make("tr");
    for (const [key, title] of columns()) {
      const active = state.key === key;
      const cell = make("th", { scope: "col", "data-key": key, "aria-sort": active ? (state.down ? "descending" : "ascending") : "none" });
      if (key === "formula") cell.append(title);
      else {
        const button = make("button", { type: "button" }, `${title}${active ? (state.down ? " ↓" : " ↑") : ""}`);
        button.addEventListener("click", () => {
          if (state.key === key && state.down === (key === "name" || key === "bound")) { state.key = "order"; state.down = false; }
          else if (state.key === key) state.down = !state.down;
          else { state.key = key; state.down = !(key === "name" || key === "bound"); }
          show();
          document.querySelector(`th[data-key=${key}] button`).focus();
        });
        cell.append(button);
      }
      row.append(cell);
    }
    el("tree").tHead.replaceChildren(row);
  }
  function show(focus) {
    head();
    el("tree").tBodies[0].replaceChildren(...visible().map(line));
    if (focus !== undefined) document.querySelector(`tr.module[data-path="${CSS.escape(focus)}"] button`)?.focus();
  }
  function openAll(open) {
    const visit = (node) => { if (!node.op) node.open = open; node.children.forEach(visit); };
    root.children.forEach(visit);
    show();
  }
  function keys(event) {
    const button = event.target.closest("td button");
    if (!button) return;
    const all = [...document.querySelectorAll("#tree td button")], at = all.indexOf(button);
    const open = button.getAttribute("aria-expanded") === "true";
    const level = Number(button.closest("tr").dataset.level);
    let next = null;
    if (event.key === "ArrowDown") next = all[at + 1];
    else if (event.key === "ArrowUp") next = all[at - 1];
    else if (event.key === "ArrowRight" && !open) button.click();
    else if (event.key === "ArrowLeft" && open) button.click();
    else if (event.key === "ArrowLeft") next = all.slice(0, at).reverse().find((b) => Number(b.closest("tr").dataset.level) < level);
    else return;
    event.preventDefault();
    next?.focus();
  }
  function start() {
    build();
    el("tree").addEventListener("keydown", keys);
    el("open-all").addEventListener("click", () => openAll(true));
    el("close-all").addEventListener("click", () => openAll(false));
    el("find").addEventListener("input", (event) => { state.find = event.target.value.trim().toLowerCase(); show(); });
  }
  return { start, device };
})();
