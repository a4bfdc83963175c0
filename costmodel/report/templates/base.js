"use strict";
// What all parts of the page share: the data, elements, numbers for people, the tip.
const DATA = JSON.parse(document.getElementById("data").textContent);
const el = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const svg = make.svg.has(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
make.svg = new Set(["svg", "g", "path", "line", "text", "rect", "circle"]);

const LARGE = ["", "k", "M", "G", "T", "P", "E"], SMALL = ["", "m", "µ", "n", "p"];
function digits(value) { return value < 10 ? value.toFixed(3) : value < 100 ? value.toFixed(2) : value.toFixed(1); }
function scaled(value, unit) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return `0 ${unit}`.trim();
  let step = 0;
  if (value < 0.99995) { while (value < 0.99995 && step < SMALL.length - 1) { value *= 1000; step += 1; } return `${digits(value)} ${SMALL[step]}${unit}`.trim(); }
  while (value >= 999.95 && step < LARGE.length - 1) { value /= 1000; step += 1; }
  return `${digits(value)} ${LARGE[step]}${unit}`.trim();
}
function count(value) { return value === null ? "unknown" : value < 10000 ? String(value) : scaled(value, ""); }
function size(value) { return value === null ? "unknown" : value < 1000 ? `${value} B` : scaled(value, "B"); }
function seconds(value) { return scaled(value, "s"); }
function percent(share) { return share > 0 && share < 0.005 ? "<1 %" : `${(100 * share).toFixed(0)} %`; }

function classOf(family) {
  const name = DATA.classes.members[family] || family;
  return DATA.classes.looks[name] ? name : "other";
}

// A marker as a path of about the area of a circle with radius r.
function marker(kind, x, y, r) {
  const s = r * 0.886, d = r * 1.2, t = r * 1.3, a = r * 0.42;
  switch (kind) {
    case "s": return `M${x - s} ${y - s}h${2 * s}v${2 * s}h${-2 * s}z`;
    case "D": return `M${x} ${y - d}L${x + d} ${y}L${x} ${y + d}L${x - d} ${y}z`;
    case "^": return `M${x} ${y - t}L${x + t} ${y + t * 0.75}H${x - t}z`;
    case "v": return `M${x} ${y + t}L${x + t} ${y - t * 0.75}H${x - t}z`;
    case "P": return `M${x - a} ${y - r}h${2 * a}v${r - a}h${r - a}v${2 * a}h${a - r}v${r - a}h${-2 * a}v${a - r}h${a - r}v${-2 * a}h${r - a}z`;
    case "X": { const q = r * 0.5; return `M${x - q} ${y - r}L${x} ${y - q}L${x + q} ${y - r}L${x + r} ${y - q}L${x + q} ${y}L${x + r} ${y + q}L${x + q} ${y + r}L${x} ${y + q}L${x - q} ${y + r}L${x - r} ${y + q}L${x - q} ${y}L${x - r} ${y - q}z`; }
    case "h": { const h = r * 0.87; return `M${x} ${y - r}L${x + h} ${y - r / 2}V${y + r / 2}L${x} ${y + r}L${x - h} ${y + r / 2}V${y - r / 2}z`; }
    default: return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
  }
}

function tip(text, x, y) {
  const box = el("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const wide = box.offsetWidth, tall = box.offsetHeight;
  box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - wide - 8))}px`;
  box.style.top = `${y + 18 + tall > innerHeight ? Math.max(4, y - tall - 10) : y + 18}px`;
}
