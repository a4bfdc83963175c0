"use strict";
// The roofline of one device: roofs, kernels as points, hover and keys, filters.
const Roofline = (() => {
  const W = 1000, H = 520, BOX = { left: 62, right: 985, top: 14, bottom: 470 };
  const hidden = new Set();
  let panel = null, points = [], at = -1;
  const log = Math.log10;

  function scales() {
    const xs = panel.points.map((p) => p.intensity), ys = panel.points.map((p) => p.flops_per_s);
    const ridges = panel.ridges.filter((r) => r.level === "DRAM").map((r) => r.intensity);
    const tops = panel.roofs.compute.map((r) => r.flops_per_s);
    if (panel.network) ys.push(panel.network.flops_per_s_low, panel.network.flops_per_s_high);
    panel.measured.forEach((run) => ys.push(run.flops_per_s));
    const x0 = log(Math.min(...xs, Math.min(...ridges) / 8) / 1.8), x1 = log(Math.max(...xs, ...ridges) * 8);
    const y0 = log(Math.min(...ys, Math.min(...tops) / 100) / 2.5), y1 = log(Math.max(...ys, ...tops) * 3);
    return {
      x: (v) => BOX.left + ((log(v) - x0) / (x1 - x0)) * (BOX.right - BOX.left),
      y: (v) => BOX.bottom - ((log(v) - y0) / (y1 - y0)) * (BOX.bottom - BOX.top),
      x0, x1, y0, y1,
    };
  }
  function axes(svg, s) {
    for (let e = Math.ceil(s.x0); e <= s.x1; e += 1) {
      const x = s.x(10 ** e);
      svg.append(make("line", { x1: x, x2: x, y1: BOX.top, y2: BOX.bottom, stroke: "var(--line)" }),
        make("text", { x, y: BOX.bottom + 17, "text-anchor": "middle" }, e >= 0 && e < 4 ? String(10 ** e) : e < 0 ? (10 ** e).toFixed(-e) : scaled(10 ** e, "")));
    }
    for (let e = Math.ceil(s.y0); e <= s.y1; e += 1) {
      const y = s.y(10 ** e);
      svg.append(make("line", { x1: BOX.left, x2: BOX.right, y1: y, y2: y, stroke: "var(--line)" }),
        make("text", { x: BOX.left - 6, y: y + 4, "text-anchor": "end" }, short(10 ** e)));
    }
    svg.append(make("text", { x: (BOX.left + BOX.right) / 2, y: H - 8, "text-anchor": "middle" }, "FLOPs per byte moved"),
      make("text", { x: 12, y: (BOX.top + BOX.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(BOX.top + BOX.bottom) / 2})` }, "FLOP/s"));
  }
  const short = (value) => { const text = scaled(value, ""); const [number, prefix = ""] = text.split(" "); return `${Number(Number(number).toPrecision(3))} ${prefix}`.trim(); };

  function roofs(svg, s) {
    const fastest = Math.max(...panel.roofs.memory.map((m) => m.bytes_per_s));
    const highest = Math.max(...panel.roofs.compute.map((c) => c.flops_per_s));
    const left = 10 ** s.x0, right = 10 ** s.x1, bottom = 10 ** s.y0;
    for (const roof of panel.roofs.memory) {
      const speed = roof.bytes_per_s, start = Math.max(left, bottom / speed), far = roof.level === "DRAM";
      const [xa, ya, xb, yb] = [s.x(start), s.y(start * speed), s.x(highest / speed), s.y(highest)];
      if (xb <= xa) continue;
      svg.append(make("line", { x1: xa, y1: ya, x2: xb, y2: yb, stroke: far ? "var(--ink)" : "var(--faint)", "stroke-width": far ? 2 : 1, "stroke-dasharray": far ? undefined : "2 3" }));
      const angle = (Math.atan2(yb - ya, xb - xa) * 180) / Math.PI;
      svg.append(make("text", { x: xa + 26, y: ya - 6 + (26 * (yb - ya)) / (xb - xa), transform: `rotate(${angle} ${xa + 26} ${ya + (26 * (yb - ya)) / (xb - xa)})`, class: far ? "" : "faint" }, `${roof.level} ${short(roof.bytes_per_s)}B/s`));
    }
    let lastY = Infinity, side = 0;
    for (const roof of panel.roofs.compute) {
      const y = s.y(roof.flops_per_s), x = Math.max(BOX.left, s.x(roof.flops_per_s / fastest));
      svg.append(make("line", { x1: x, x2: BOX.right, y1: y, y2: y, stroke: roof.active ? "var(--ink)" : "var(--faint)", "stroke-width": roof.active ? 2 : 1, "stroke-dasharray": roof.active ? undefined : "6 3" }));
      side = lastY - y < 15 ? side + 1 : 0;  // roofs too close for two lines of text
      svg.append(make("text", { x: BOX.right - 4 - 190 * side, y: y - 4, "text-anchor": "end", class: roof.active ? "" : "faint" }, `${roof.dtypes.join(", ")} ${short(roof.flops_per_s)}FLOP/s`));
      lastY = y;
    }
    const own = panel.roofs.compute.filter((r) => r.active).map((r) => r.dtypes.join());
    for (const ridge of panel.ridges) {
      const mine = own.includes(ridge.dtypes.join());
      if (!mine && ridge.level !== "DRAM") continue;
      const x = s.x(ridge.intensity), y = s.y(ridge.flops_per_s);
      svg.append(make("circle", { cx: x, cy: y, r: 3, fill: mine ? "var(--ink)" : "var(--faint)" }),
        make("text", { x: x - 5, y: y - 6, "text-anchor": "end", class: "faint" }, String(Number(ridge.intensity.toPrecision(3)))));
    }
  }

  function words(point) {
    const many = point.count > 1 ? ` ×${point.count}` : "";
    return `${point.name}${many}\n${point.family}, ${point.bound}-bound (${point.level})\n${seconds(point.latency_s)}, ${percent(point.share)} of the time\n` +
      `${scaled(point.flops_per_s, "FLOP/s")} at ${point.intensity.toPrecision(3)} FLOPs per byte\n${count(point.flops)} FLOPs, ${size(point.bytes)}`;
  }
  function inModule(point, module) {
    return !module || point.modules.some((path) => `${path}.`.startsWith(`${module}.`) || path.includes(module));
  }
  function draw() {
    const box = el("roofline");
    box.replaceChildren();
    if (!panel) return;
    const s = scales(), module = el("roof-module").value.trim();
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, tabindex: "0", role: "img", "aria-label": "Roofline; arrow keys walk the kernels, most time first" });
    axes(svg, s);
    roofs(svg, s);
    points = panel.points.filter((p) => !hidden.has(p.class) && inModule(p, module));
    const layer = make("g");
    points.map((point, index) => [point, index]).reverse().forEach(([point, index]) => {
      const [colour, kind] = DATA.classes.looks[point.class];
      const r = Math.max(3, 34 * Math.sqrt(point.share));
      const mark = make("path", { d: marker(kind, s.x(point.intensity), s.y(point.flops_per_s), r), fill: colour, "fill-opacity": 0.85, stroke: "var(--ink)", "stroke-width": 0.6, "data-index": index, class: "point" });
      layer.append(mark);
    });
    svg.append(layer, ...svg.querySelectorAll("text"));  // words stay readable over points
    whole(svg, s);
    svg.addEventListener("pointermove", (event) => {
      const index = event.target.dataset ? event.target.dataset.index : undefined;
      tip(index === undefined ? "" : words(points[Number(index)]), event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", () => tip(""));
    svg.addEventListener("blur", () => { at = -1; tip(""); mark(); });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !points.length) return;
      event.preventDefault();
      at = (at + step + points.length) % points.length;
      const shape = mark().getBoundingClientRect();
      tip(words(points[at]), shape.right, shape.bottom);
    });
    box.append(svg);
    const shown = points.reduce((total, point) => total + point.share, 0);
    const left = panel.not_drawn.share >= 0.005 ? ` ${percent(panel.not_drawn.share)} is spent without FLOPs (copies) and has no place here.` : "";
    el("roof-note").textContent = `${points.length} points, ${percent(shown)} of the time. Area: share of the time. Star: the whole network with its interval${panel.measured.length ? "; filled star: measured" : ""}. Number at a ridge: FLOPs per byte.${left}`;
  }
  function whole(svg, s) {
    if (!panel.network) return;
    const x = s.x(panel.network.intensity), star = (y, fill) => {
      const parts = Array.from({ length: 10 }, (_, i) => { const r = i % 2 ? 4 : 9.5, t = (Math.PI * i) / 5; return `${x + r * Math.sin(t)} ${y - r * Math.cos(t)}`; });
      return make("path", { d: `M${parts.join("L")}z`, fill, stroke: "var(--ink)" });
    };
    svg.append(make("line", { x1: x, x2: x, y1: s.y(panel.network.flops_per_s_low), y2: s.y(panel.network.flops_per_s_high), stroke: "var(--ink)", "stroke-width": 1.4 }),
      star(s.y(panel.network.flops_per_s), "var(--back)"));
    panel.measured.forEach((run) => svg.append(star(s.y(run.flops_per_s), "var(--ink)")));
  }
  function mark() {
    document.querySelectorAll("#roofline .point").forEach((node) => node.setAttribute("stroke-width", Number(node.dataset.index) === at ? 3 : 0.6));
    return document.querySelector(`#roofline .point[data-index="${at}"]`);
  }
  function families() {
    const there = new Set(panel.points.map((p) => p.class));
    const boxes = Object.keys(DATA.classes.looks).filter((name) => there.has(name)).map((name) => {
      const [colour, kind] = DATA.classes.looks[name];
      const input = make("input", { type: "checkbox", "data-family": name });
      input.checked = !hidden.has(name);
      input.addEventListener("change", () => { input.checked ? hidden.delete(name) : hidden.add(name); draw(); });
      return make("label", {}, input, " ", make("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, make("path", { d: marker(kind, 7, 7, 5), fill: colour, stroke: "var(--ink)", "stroke-width": 0.6 })), ` ${name}`);
    });
    el("roof-families").replaceChildren(make("legend", {}, "Families"), ...boxes);
  }
  function device(found) {
    panel = found ? found.roofline : null;
    el("roofline-section").hidden = !panel;
    if (!panel) return;
    families();
    const names = new Set();
    for (const point of panel.points) for (const path of point.modules) path.split(".").forEach((_, i, parts) => names.add(parts.slice(0, i + 1).join(".")));
    el("module-names").replaceChildren(...[...names].slice(0, 400).map((name) => make("option", { value: name })));
    draw();
  }
  function start() { el("roof-module").addEventListener("input", draw); }
  return { start, device };
})();
