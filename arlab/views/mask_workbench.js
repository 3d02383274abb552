// Mask workbench: an editable mask with its scores, masked scores and softmax, remarks in words; and the leak detector.
const maskWords = (() => {
  // Positions as words: "position 5", "positions 1 and 4", "positions 2–5".
  const listed = (places) => {
    if (places.length === 1) return `position ${places[0]}`;
    const runs = [];
    for (const s of places) {
      const last = runs.at(-1);
      if (last && s === last[1] + 1) last[1] = s; else runs.push([s, s]);
    }
    const text = runs.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a}–${b}`));
    return `positions ${text.join(", ")}`;
  };
  // What is wrong with each row, against a decoder's rule: the past, itself, no padding, not the future.
  const remarks = (cells, preset, sizes) => {
    const queries = cells.length, keys = cells[0].length, first = keys - queries;
    const pads = preset === "padding" ? sizes.pad_left : 0, prefix = preset === "prefix" ? sizes.prefix : 0;
    const out = [], selfless = [];
    const say = (kind, rows, text) => out.push({ kind, rows: [rows].flat(), text });
    cells.forEach((line, i) => {
      const t = first + i, name = first ? `query ${i} (position ${t})` : `row ${i}`;
      const seen = [...line.keys()].filter((s) => line[s]);
      const future = seen.filter((s) => s > t), inPrefix = t < prefix && future.every((s) => s < prefix);
      const padded = seen.filter((s) => s < pads);
      const missed = [...Array(t).keys()].filter((s) => s >= pads && !line[s]);
      if (!seen.length) {
        if (t < pads) say("note", i, `${name} is padding and sees nothing: zeros, not NaN, and nobody reads them`);
        else say("bad", i, `${name} sees nothing: zeros, not NaN (a plain softmax would divide 0 by 0)`);
        return;
      }
      if (future.length && !inPrefix) say("bad", i, `${name} sees ${listed(future)}: the future`);
      if (future.length && inPrefix) say("note", i, `${name} sees ${listed(future)}: later, but inside the prefix, which is given and not predicted`);
      if (padded.length) say("bad", i, `${name} sees ${listed(padded)}: padding`);
      if (!line[t] && missed.length && preset === "cache-top-left") {
        say("bad", i, `${name} does not see ${listed([...missed, t])}: its own past and itself`);
        return;
      }
      if (!line[t]) selfless.push(i);
      if (missed.length && preset === "window") say("note", i, `${name} has lost ${listed(missed)}: out of the window`);
      else if (missed.length) say("note", i, `${name} does not see ${listed(missed)}, its own past`);
    });
    if (selfless.length === 1) say("bad", selfless, `row ${selfless[0]} does not see itself, the token it should continue`);
    else if (selfless.length) say("bad", selfless, `${listed(selfless).replace("positions", "rows")} do not see themselves, the tokens they should continue`);
    return out;
  };
  const verdicts = {
    causal: "Causal: each row sees the past and itself.",
    none: "No mask: fine for an encoder. A model that is trained to predict the next token would only copy it.",
    window: "Sliding window: causal, with a memory of fixed length. Layers on top of each other reach further back.",
    prefix: "Prefix LM: the prompt is read in both directions, the rest is generated.",
    padding: "Left padding: rows of a batch end together, so the last column is the newest token of each.",
    strict: "One diagonal too many: the first row is empty, and every row forgets the token it should continue.",
    cache: "With a cache, aligned at the bottom right: the three newest queries see everything up to themselves.",
    "cache-top-left": "Aligned at the top left, the new queries are treated as the first tokens: is_causal=True does this.",
    custom: "Your own mask.",
  };
  return { remarks, verdicts };
})();

function render({ model, el }) {
  const { h, setText, visible } = arlab;
  const { grid, number, signedColour, weightColour } = heat;
  const get = (name) => model.get(name);
  const sizes = get("sizes"), time = sizes.time;
  const view = arlab.view(model, el, { label: "Mask workbench", draw });
  const NAMES = { causal: "causal", none: "no mask", window: `window ${sizes.window}`, prefix: `prefix ${sizes.prefix}`,
    padding: `left padding ${sizes.pad_left}`, strict: "no diagonal", cache: "cache", "cache-top-left": "cache, top left" };

  // ---- the editor ---------------------------------------------------------------------------------------------
  const presets = Object.entries(NAMES).map(([name, text]) => view.button(text,
    () => view.set({ preset: name, cells: get("presets")[name], query: 0, key: 0 }), { dataset: { preset: name } }));
  const toggle = (i, j) => {
    const cells = get("cells").map((row, a) => row.map((value, b) => (a === i && b === j ? 1 - value : value)));
    view.set({ cells, preset: "custom", query: i, key: j });
  };
  const lead = h("p", { style: { minHeight: "20px" } });
  const side = h("div", { class: "al-side al-three" });
  const readout = h("p", { "aria-live": "polite", style: { minHeight: "22px", margin: "10px 0 0" } });
  const verdict = h("h4", { style: { minHeight: "20px" } });
  const list = h("ul", { class: "al-remarks" });
  const editor = h("div", {}, h("div", { class: "al-buttons al-presets" }, presets), side, readout,
    h("div", { class: "al-panel" }, verdict, list));
  let grids = null;
  const build = () => {
    const queries = get("cells").length, width = time <= 8 ? 28 : time <= 12 ? 19 : 14;
    const tokens = get("tokens").map(visible);
    const common = { rows: queries, cell: `${width}px`, colLabels: tokens };
    const current = () => [get("query"), get("key")];
    const figure = (name, one) => h("figure", { style: { minHeight: `${time * 25 + 42}px` } }, h("figcaption", {}, name), one.box);
    const edit = grid({ ...common, cols: time, rowLabels: tokens.slice(-queries), current,
      label: "Scores and mask: arrow keys move, Space masks or unmasks",
      onpick: (i, j, event) => (event ? toggle(i, j) : view.set({ query: i, key: j })), onenter: toggle });
    const masked = grid({ ...common, cols: time, label: "Masked scores" });
    const weights = grid({ ...common, cols: time + 1, colLabels: [...tokens, "Σ"], label: "Softmax of each row",
      hint: (i, j) => grids.weights.cell(i, j).dataset.value ?? "the sum of the row" });
    side.replaceChildren(figure("Scores: click to mask", edit), figure("Masked scores", masked), figure("Softmax of each row", weights));
    grids = { queries, edit, masked, weights };
  };

  // ---- the leak detector -----------------------------------------------------------------------------------------
  const leak = get("leak"), T = leak.length;
  const leakTokens = get("leak_tokens").map(visible);
  const sized = leak.flat().filter((v) => v > 0);
  const low = Math.floor(Math.log10(Math.min(...sized)) - 1e-9), high = Math.ceil(Math.log10(Math.max(...sized)) + 1e-9);
  const leakColour = (theme, v) => theme.sequential[Math.round(40 + (215 * (Math.log10(v) - low)) / Math.max(1, high - low))];
  const leaks = [];
  for (let t = 0; t < T; t++) for (let s = t + 1; s < T; s++) if (leak[t][s] > 0) leaks.push([t, s, leak[t][s]]);
  leaks.sort((a, b) => b[2] - a[2]);
  let cursor = leaks.length ? leaks[0].slice(0, 2) : [T - 1, 0];
  const size = (v) => (v === 0 ? "exactly 0" : v >= 0.001 && v < 1000 ? v.toPrecision(3) : v.toExponential(2));
  const says = (t, s) => `d logits[${t}] / d embedding[${s}]: ${size(leak[t][s])}`;
  const LEFT = 84, TOP = 70;
  const cellOf = (width) => Math.min(44, (width - LEFT - 40) / T, 430 / T);
  const map = T && view.canvas({ label: "Measured dependence of each output (row) on each input (column); arrow keys move",
    height: (width) => Math.ceil(TOP + 4 + T * cellOf(width)),
    draw(ctx, width, height, theme) {
      const cell = cellOf(width), gap = cell >= 8 ? 1 : 0, every = Math.ceil(12 / cell);
      const hatched = arlab.hatch(ctx, theme.line, 6);
      for (let t = 0; t < T; t++) for (let s = 0; s < T; s++) {
        const v = leak[t][s];
        ctx.fillStyle = v > 0 ? leakColour(theme, v) : hatched;
        ctx.fillRect(LEFT + s * cell, TOP + t * cell, cell - gap, cell - gap);
        if (v > 0 && s > t && cell >= 5) {
          ctx.strokeStyle = theme.accent;
          ctx.lineWidth = cell >= 14 ? 2 : 1;
          ctx.strokeRect(LEFT + s * cell + 1, TOP + t * cell + 1, cell - gap - 2, cell - gap - 2);
        }
      }
      ctx.strokeStyle = theme.line;
      ctx.lineWidth = 1;
      ctx.strokeRect(LEFT - 0.5, TOP - 0.5, T * cell + 1, T * cell + 1);
      // The diagonal as a staircase: what lies to its right is the future.
      ctx.strokeStyle = theme.ink;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.moveTo(LEFT + cell, TOP);
      for (let t = 0; t < T; t++) { ctx.lineTo(LEFT + (t + 1) * cell - gap / 2, TOP + (t + 1) * cell - gap / 2); if (t < T - 1) ctx.lineTo(LEFT + (t + 2) * cell - gap / 2, TOP + (t + 1) * cell - gap / 2); }
      ctx.stroke();
      ctx.strokeStyle = theme.accent;
      ctx.lineWidth = 3;
      ctx.strokeRect(LEFT + cursor[1] * cell - 1, TOP + cursor[0] * cell - 1, cell + 1, cell + 1);
      ctx.font = `${Math.max(10.5, Math.min(12.5, cell - 1))}px ${theme.mono}`;
      ctx.textBaseline = "middle";
      for (let t = 0; t < T; t += every) {
        ctx.fillStyle = t === cursor[0] ? theme.accent : theme.soft;
        ctx.textAlign = "right";
        ctx.fillText(heat.fit(ctx, leakTokens[t], LEFT - 8), LEFT - 6, TOP + (t + 0.5) * cell);
        ctx.fillStyle = t === cursor[1] ? theme.accent : theme.soft;
        ctx.textAlign = "left";
        ctx.save();
        ctx.translate(LEFT + (t + 0.5) * cell, TOP - 5);
        ctx.rotate(-Math.PI / 3);
        ctx.fillText(heat.fit(ctx, leakTokens[t], 70), 0, 0);
        ctx.restore();
      }
    } });
  const leakRead = h("p", { "aria-live": "polite", style: { minHeight: "42px" } });
  const leakScale = h("div", { class: "al-legend", style: { lineHeight: "2" } });
  const detector = T ? h("div", { class: "al-detector" }, map.box, h("div", {}, leakWords(), leakRead, leakScale,
    h("p", { class: "al-note", style: { marginTop: "8px" } },
      "Row t: how much the logits at t change when the embedding at s changes (norm of the derivative). Right of the staircase is the future.")))
    : h("div");
  function leakWords() {
    const pairs = (T * (T - 1)) / 2;
    if (!leaks.length) return h("div", { class: "al-verdict", dataset: { verdict: "clean" } }, h("b", {}, "✓ No leak."),
      ` All ${pairs} derivatives into the future are exactly 0.`);
    const names = leaks.slice(0, 5).map(([t, s, v]) => h("li", {}, `logits[${t}] sees position ${s}: ${size(v)}`));
    return h("div", { class: "al-verdict al-wrong", dataset: { verdict: "leak" } }, h("b", {}, "✕ It leaks."),
      ` ${leaks.length} of ${pairs} pairs with s > t are not 0. The strongest:`, h("ul", {}, names));
  }
  if (T) {
    const at = (event) => {
      const box = map.canvas.getBoundingClientRect(), cell = cellOf(map.width);
      const s = Math.floor((event.clientX - box.left - LEFT) / cell), t = Math.floor((event.clientY - box.top - TOP) / cell);
      return s >= 0 && t >= 0 && s < T && t < T ? [t, s] : null;
    };
    map.canvas.tabIndex = 0;
    map.canvas.setAttribute("data-lm-suppress-shortcuts", "true");
    map.canvas.addEventListener("mousemove", (event) => {
      const place = at(event);
      if (place) view.tip(event, says(...place), place[1] > place[0] ? " (the future)" : ""); else view.untip();
    });
    map.canvas.addEventListener("mouseleave", () => view.untip());
    map.canvas.addEventListener("click", (event) => { cursor = at(event) ?? cursor; view.redraw(); });
    heat.arrows(map.canvas, { rows: T, cols: T, current: () => cursor, move: (t, s) => { cursor = [t, s]; view.redraw(); } });
  }

  view.root.append(
    h("h3", {}, "Who may look at whom"),
    lead,
    T ? h("div", { style: { marginBottom: "12px" } }, view.segmented({ trait: "tab", label: "", options: [
      { value: "mask", label: "Edit the mask" }, { value: "leaks", label: "Leak detector" }] })) : "",
    h("div", { class: "al-tabs" }, editor, detector)); // in one place, so that a change of tab moves nothing
  view.watch(["cells", "preset", "query", "key", "tab"]);

  // ---- drawing ---------------------------------------------------------------------------------------------------
  let said = "";
  function draw() {
    const leaking = T && get("tab") === "leaks";
    editor.style.visibility = leaking ? "hidden" : "";
    detector.style.visibility = leaking ? "" : "hidden";
    setText(lead, leaking ? "Measured, not believed: how much does each prediction change when the embedding of an input changes?"
      : "Rows are queries, columns are keys. A masked score becomes −∞, and softmax turns it into a weight of exactly 0.");
    if (leaking) drawLeaks(); else drawEditor();
  }

  let scaleTheme = null;
  function drawLeaks() {
    const [t, s] = cursor, theme = view.theme;
    setText(leakRead, `${says(t, s)}${s > t ? leak[t][s] > 0 ? ": the future leaks in" : ": the future, unseen" : ""}`);
    if (scaleTheme === theme) return;
    scaleTheme = theme;
    const marks = [];
    for (let e = low; e <= high; e += Math.max(1, Math.ceil((high - low) / 5))) marks.push(e);
    leakScale.replaceChildren(heat.legend([{ className: "al-hatched", text: "exactly 0" },
      ...(sized.length ? marks.map((e) => ({ colour: leakColour(theme, 10 ** e), text: e >= -2 && e <= 3 ? String(10 ** e) : `1e${e}` })) : [])]));
  }

  function drawEditor() {
    const cells = get("cells"), preset = get("preset"), theme = view.theme;
    if (!grids || grids.queries !== cells.length) build();
    const queries = cells.length, scores = get("scores").slice(-queries), numbers = time <= 8;
    const i = Math.min(get("query"), queries - 1), j = get("key");
    const remarks = maskWords.remarks(cells, preset, sizes);
    const bad = new Set(remarks.filter((r) => r.kind === "bad").flatMap((r) => r.rows));
    const top = Math.max(1, ...scores.flat().map(Math.abs));
    let row;
    for (let a = 0; a < queries; a++) {
      const masked = scores[a].map((s, b) => (cells[a][b] ? s : -Infinity));
      const peak = Math.max(...masked), e = masked.map((s) => (s === -Infinity ? 0 : Math.exp(s - peak)));
      const total = e.reduce((x, y) => x + y, 0), weights = e.map((x) => (total ? x / total : 0));
      if (a === i) row = weights;
      for (let b = 0; b < time; b++) {
        const s = scores[a][b], w = weights[b], open = cells[a][b];
        grids.edit.set(a, b, numbers ? number(s, 1) : "", open ? signedColour(theme, s, top) : null);
        grids.edit.cell(a, b).setAttribute("aria-label", `query ${a}, key ${b}: score ${s}, ${open ? "may attend" : "masked"}`);
        grids.masked.set(a, b, numbers ? (open ? number(s, 1) : "−∞") : "", open ? signedColour(theme, s, top) : null);
        grids.weights.set(a, b, numbers ? (w === 0 ? "0" : w.toFixed(2).replace(/^0/, "")) : "", w === 0 ? null : weightColour(theme, w));
        grids.weights.cell(a, b).dataset.value = String(w);
      }
      grids.weights.set(a, time, total ? "1" : "0", null);
    }
    const first = time - queries;
    grids.edit.mark((a, b) => `${cells[a][b] ? "" : "al-masked"} ${a === i && b === j ? "al-on" : cells[a][b] && b > first + a && bad.has(a) ? "al-bad" : ""}`);
    const shut = numbers ? "al-shut" : "al-masked";
    grids.masked.mark((a, b) => (cells[a][b] ? "" : shut));
    grids.weights.mark((a, b) => (b === time ? "al-total" : cells[a][b] ? "" : shut));
    grids.edit.labels.rows.forEach((node, a) => node.classList.toggle("al-wrong-row", bad.has(a)));
    for (const button of presets) button.setAttribute("aria-pressed", String(button.dataset.preset === preset));
    const seen = cells[i].reduce((x, y) => x + y, 0);
    setText(readout, `Query “${visible(get("tokens")[first + i])}” sees ${seen} of ${time} positions. Key “${visible(get("tokens")[j])}”: `
      + (cells[i][j] ? `score ${number(scores[i][j], 1)}, weight ${row[j].toFixed(3)}.` : "masked, weight exactly 0."));
    setText(verdict, maskWords.verdicts[preset]);
    const shown = remarks.length ? remarks : [{ kind: "good", text: "nothing wrong: no future, no padding, no empty row" }];
    const words = shown.map((r) => `${r.kind} ${r.text}`).join("\n");
    if (words === said) return;
    said = words;
    const signs = { bad: "✕", note: "·", good: "✓" };
    list.replaceChildren(...shown.map((r) => h("li", { class: `al-${r.kind}-remark` }, h("b", {}, signs[r.kind]), ` ${r.text}`)));
    view.report({ problems: remarks.filter((r) => r.kind === "bad").map((r) => r.text) });
  }
  return view.start();
}
export default { render };
