"use strict";
// The summary, and the switch between devices.
(() => {
  const full = Boolean(DATA.ops);
  function cards(found) {
    const list = [];
    if (full) {
      const t = DATA.totals, least = DATA.complete ? "" : "≥ ";
      list.push(["parameters", count(t.params)], ["MACs", least + count(t.macs)], ["FLOPs", least + count(t.flops)],
        ["bytes moved", least + size(t.bytes_read + t.bytes_written), `read ${size(t.bytes_read)}, written ${size(t.bytes_written)}`],
        ["peak activations", size(t.peak_activation_bytes)]);
      if (t.masked_macs) list.push(["MACs without masked", count(t.macs - t.masked_macs), "what causal masks hide left out"]);
    }
    if (found) {
      const r = found.roofline;
      list.unshift(["latency", seconds(r.latency_s), full ? `${found.coverage} interval ${found.interval}` : `${seconds(r.interval_s[0])} to ${seconds(r.interval_s[1])}`]);
      if (found.energy) list.push(["energy", found.energy]);
    }
    el("cards").replaceChildren(...list.map(([name, value, small]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, ...(small ? [make("small", {}, small)] : [])))));
  }
  function bounds(found) {
    const parts = found && found.bound ? Object.entries(found.bound) : [];
    el("bounds").replaceChildren(...parts.filter(([, share]) => share > 0).map(([name, share]) =>
      make("span", { style: `width:${100 * share}%;background:${DATA.classes.bounds[name]}`, title: `${name} ${percent(share)}` }, share < 0.12 ? "" : `${name} ${percent(share)}`)));
  }
  function show(index) {
    const found = DATA.devices[index];
    cards(found);
    bounds(found);
    el("advice").textContent = ((found ? found.advice : DATA.advice) || "").replaceAll(" %", "\u00a0%");
    const shares = found && found.bound ? Object.entries(found.bound).map(([name, share]) => `${name} ${percent(share)}`) : [];
    const basis = found ? found.basis || found.roofline.validated : "";
    el("basis").textContent = [shares.length ? `bound by ${shares.join(", ")}` : "", basis].filter(Boolean).join("; ");
    Roofline.device(found);
    if (full) Tree.device(found);
    const notes = [...(DATA.notes || []), ...((found && found.notes) || [])];
    el("notes-section").hidden = !notes.length;
    el("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  }
  if (full) {
    el("inputs").textContent = `${DATA.inputs.join(", ")}; ${DATA.mode === "train" ? "training step" : "inference"}`;
    if (!DATA.complete) {
      const names = DATA.unsupported.map((u) => `${u.op} (${u.count} × in ${u.module || "the model itself"})`).join(", ");
      el("warning").textContent = `Incomplete: no cost rule for ${names}. Every count below is a lower bound.`;
      el("warning").hidden = false;
    }
    Tree.start();
    Memory.start();
  } else ["modules-section", "memory-section"].forEach((id) => { el(id).hidden = true; });
  Roofline.start();
  el("device").replaceChildren(...DATA.devices.map((d, i) => make("option", { value: i }, d.title)));
  el("device-label").hidden = !DATA.devices.length;
  el("device").addEventListener("change", (event) => show(Number(event.target.value)));
  show(0);
})();
