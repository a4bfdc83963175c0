"use strict";
// Live activations along the schedule; hover or arrow keys read a value.
const Memory = (() => {
  const W = 1000, H = 250, BOX = { left: 70, right: 990, top: 26, bottom: 205 };
  function start() {
    const levels = DATA.memory;
    if (!levels || !levels.length) { el("memory-section").hidden = true; return; }
    const most = Math.max(...levels, 1), peak = levels.indexOf(Math.max(...levels));
    const x = (i) => BOX.left + (i / levels.length) * (BOX.right - BOX.left);
    const y = (v) => BOX.bottom - (v / most) * (BOX.bottom - BOX.top);
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, tabindex: "0", role: "img", "aria-label": "Live activations; arrow keys walk the ops" });
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(make("line", { x1: BOX.left, x2: BOX.right, y1: y(part * most), y2: y(part * most), stroke: "var(--line)" }),
        make("text", { x: BOX.left - 6, y: y(part * most) + 4, "text-anchor": "end" }, size(Math.round(part * most))));
    }
    const step = levels.map((v, i) => `${i ? "V" : "M" + x(0) + " "}${y(v)}H${x(i + 1)}`).join("");
    svg.append(make("path", { d: `${step}V${BOX.bottom}H${BOX.left}z`, fill: "#56b4e9", "fill-opacity": 0.5 }),
      make("path", { d: step, fill: "none", stroke: "#0072b2", "stroke-width": 1.3 }));
    const right = peak > levels.length / 2;
    svg.append(make("path", { d: marker("v", x(peak + 0.5), y(most) - 7, 5), fill: "var(--ink)" }),
      make("text", { x: x(peak + 0.5) + (right ? -10 : 10), y: y(most) - 7, "text-anchor": right ? "end" : "start" }, `peak ${size(most)} in ${name(peak)}`),
      make("text", { x: (BOX.left + BOX.right) / 2, y: H - 14, "text-anchor": "middle" }, "ops in the order in which they run"));
    const line = make("line", { y1: BOX.top, y2: BOX.bottom, stroke: "var(--ink)", visibility: "hidden" });
    svg.append(line);
    let at = -1;
    const read = (index, clientX, clientY) => {
      at = index;
      line.setAttribute("x1", x(index + 0.5)); line.setAttribute("x2", x(index + 0.5)); line.setAttribute("visibility", "visible");
      tip(`${name(index)}\n${size(levels[index])} live (op ${index + 1} of ${levels.length})`, clientX, clientY);
    };
    const off = () => { line.setAttribute("visibility", "hidden"); tip(""); };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), u = ((event.clientX - box.left) / box.width) * W;
      const index = Math.floor(((u - BOX.left) / (BOX.right - BOX.left)) * levels.length);
      if (index >= 0 && index < levels.length) read(index, event.clientX, event.clientY); else off();
    });
    svg.addEventListener("pointerleave", off);
    svg.addEventListener("blur", off);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const box = svg.getBoundingClientRect(), index = Math.max(0, Math.min(levels.length - 1, at + step));
      read(index, box.left + (x(index) / W) * box.width, box.top + box.height / 2);
    });
    el("memory").append(svg);
  }
  const name = (index) => DATA.ops[index].name;
  return { start };
})();
