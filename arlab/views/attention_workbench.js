// Attention workbench: one query against one key, then its row of scores, its weights, and the mix of values.
function render({ model, el }) {
  const { h, setText, visible } = arlab;
  const { grid, number, signedColour, weightColour } = heat;
  const get = (name) => model.get(name);
  const raw = get("data");
  const data = new Float64Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
  const [time, dk, dv] = get("shape");
  const Q = (i, c) => data[i * dk + c], K = (j, c) => data[(time + j) * dk + c];
  const V = (j, c) => data[2 * time * dk + j * dv + c];
  const tokens = get("tokens").map(visible);
  const SHOWN = 16; // features of a row that are shown one by one
  const range = (n) => Array.from({ length: n }, (_, i) => i);

  // ---- the arithmetic ------------------------------------------------------------------------------------
  const dots = range(time).map((i) => range(time).map((j) => {
    let sum = 0;
    for (let c = 0; c < dk; c++) sum += Q(i, c) * K(j, c);
    return sum;
  }));
  const sees = (i, j) => !get("causal") || j <= i;
  const softmax = (scores) => { // a row may hold -Infinity
    const top = Math.max(...scores);
    const e = scores.map((s) => Math.exp(s - top));
    const total = e.reduce((a, b) => a + b, 0);
    return e.map((x) => x / total);
  };
  const rowAt = (i, stretch, scaled) => softmax(dots[i].map((dot, j) =>
    (sees(i, j) ? (stretch * dot) / (scaled ? Math.sqrt(dk) : 1) : -Infinity)));
  // |d a / d s|: Frobenius norm of diag(a) - a a^T
  const gradient = (a) => {
    let sum = 0;
    for (let i = 0; i < a.length; i++) for (let j = 0; j < a.length; j++) sum += ((i === j ? a[i] : 0) - a[i] * a[j]) ** 2;
    return Math.sqrt(sum);
  };
  const scoreAt = (i, j) => (get("stretch") * dots[i][j]) / (get("scale") ? Math.sqrt(dk) : 1); // before the mask
  let A = []; // the weights, as last drawn
  const short = (v) => (v === -Infinity ? "−∞" : number(v, Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2));
  const tiny = (v) => (v === 0 ? "0" : v < 0.0005 ? v.toExponential(0).replace("e-", "·10^−").replace(/\^−(\d+)/, (_, n) =>
    [..."−" + n].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")) : v.toFixed(3));

  const view = arlab.view(model, el, { label: "Attention workbench", draw });

  // ---- elements ---------------------------------------------------------------------------------------------
  const cellWidth = (n) => (n <= 4 ? 46 : n <= 8 ? 40 : n <= 12 ? 26 : 20);
  const withNumbers = (n) => n <= 8;
  const choose = (i, j) => view.set({ query: i, key: j });
  const matrix = (cols, name, options = {}) => {
    const shown = Math.min(cols, SHOWN);
    const one = grid({ rows: time, cols: shown, cell: `${cellWidth(shown)}px`, rowLabels: tokens, ...options });
    const note = cols > SHOWN ? h("div", { class: "al-note" }, `first ${SHOWN} of ${cols} columns`) : "";
    return { ...one, shown, figure: h("figure", {}, h("figcaption", {}, name), one.box, note) };
  };
  const sub = (letter, index) => [h("var", {}, letter), h("sub", {}, index)];
  const qGrid = matrix(dk, ["Q ", h("span", {}, `${time} × ${dk}`)], { label: "Q", hint: (i, c) => number(get("stretch") * Q(i, c), 4), onpick: (i) => view.set({ query: i }), current: () => [get("query"), 0] });
  const kGrid = matrix(dk, ["K ", h("span", {}, `${time} × ${dk}`)], { label: "K", hint: (j, c) => number(K(j, c), 4), onpick: (j) => view.set({ key: j }), current: () => [get("key"), 0] });
  const square = { colLabels: tokens, onpick: choose, current: () => [get("query"), get("key")] };
  const scoreName = h("span");
  const sGrid = matrix(time, ["Scores ", scoreName], { ...square, hint: (i, j) => (sees(i, j) ? number(scoreAt(i, j), 4) : "−∞"), label: "Scores; arrow keys choose query and key" });
  const aGrid = matrix(time, ["A = softmax of each row"], { ...square, hint: (i, j) => number(A[i][j], 6), label: "Weights A; arrow keys choose query and key" });
  const vGrid = matrix(dv, ["V ", h("span", {}, `${time} × ${dv}`)], { label: "V", hint: (j, c) => number(V(j, c), 4), onpick: (j) => view.set({ key: j }), current: () => [get("key"), 0] });
  const partName = h("span");
  const pGrid = matrix(dv, [partName], { label: "Each value row times its weight",
    hint: (j, c) => number(A[get("query")][j] * V(j, c), 6) });
  const zShown = Math.min(dv, SHOWN);
  const zGrid = grid({ rows: 1, cols: zShown, cell: `${cellWidth(zShown)}px`, label: "z", rowLabels: ["z"] });
  pGrid.figure.append(zGrid.box);
  for (const one of [pGrid, zGrid]) one.box.classList.add("al-sum-grid");

  // A table with a line of numbers a row and a column for each of `heads`.
  const lines = (names, count) => {
    const head = h("tr", {}, h("th"), range(count).map(() => h("th", { class: "al-token" })), h("th"));
    const rows = names.map(() => h("tr", {}, h("th"), range(count).map(() => h("td")), h("td", { class: "al-sum" })));
    return { head, rows, box: h("div", { class: "al-lines" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows))) };
  };
  const termCount = Math.min(dk, SHOWN);
  const terms = lines(["q", "k", "product"], termCount);
  if (termCount > 10) terms.box.classList.add("al-wide");
  const chain = lines(["dot", "scale", "mask", "softmax"], time);
  const pairTitle = h("h4"), rowTitle = h("h4"), mixTitle = h("h4"), verdict = h("p", { "aria-live": "polite" });
  const figure = (name) => { const b = h("b"); return { b, box: h("div", { class: "al-figure" }, b, h("span", {}, name)) }; };
  const largest = figure("largest weight of the row"), entropy = figure("entropy, nats"), slope = figure("gradient norm |∂a / ∂s|");

  const stops = [...new Set([...range(50).map((n) => Number((0.1 * 300 ** (n / 49)).toPrecision(2))), 1])].sort((a, b) => a - b);
  const curve = view.canvas({ height: 168, label: "Gradient norm of the softmax against the stretch of q", draw: drawCurve });

  view.root.append(
    h("h3", {}, "Attention, number by number"),
    h("p", {}, "Choose a query (row) and a key (column) in the scores, with the mouse or the arrow keys."),
    h("div", { class: "al-sliders" },
      view.slider({ trait: "stretch", label: "Stretch q by", stops, reset: 1, format: (v) => `× ${Number(v.toPrecision(3))}`,
        parse: (text) => { const v = Number(text.replace("×", "").trim()); return v >= 0.1 && v <= 30 ? v : undefined; } }),
      h("div", { class: "al-buttons", style: { gap: "18px" } },
        view.checkbox({ trait: "scale", label: `divide by √dₖ = ${number(Math.sqrt(dk))}` }),
        view.checkbox({ trait: "causal", label: "causal mask" }))),
    h("div", { class: "al-panel" }, pairTitle,
      h("div", { class: "al-side" }, qGrid.figure, kGrid.figure, terms.box)),
    h("div", { class: "al-panel" }, rowTitle,
      h("div", { class: "al-side" }, sGrid.figure, aGrid.figure), chain.box),
    h("div", { class: "al-panel" }, mixTitle,
      h("div", { class: "al-side" }, vGrid.figure, pGrid.figure)),
    h("div", { class: "al-panel" }, h("h4", {}, "4 · What long queries do: saturation"),
      h("div", { class: "al-saturation" }, curve.box,
        h("div", {}, h("div", { class: "al-figures" }, largest.box, entropy.box, slope.box), verdict))),
  );
  view.watch(["query", "key", "causal", "scale", "stretch"]);

  // ---- drawing ------------------------------------------------------------------------------------------------
  const fillSigned = (one, rows, value, top) => {
    for (let i = 0; i < rows; i++) for (let c = 0; c < one.shown; c++) {
      const v = value(i, c);
      one.set(i, c, withNumbers(one.shown) ? short(v) : "", signedColour(view.theme, v, top));
    }
  };
  const biggest = (count, value) => {
    let top = 0;
    for (let i = 0; i < time; i++) for (let c = 0; c < count; c++) top = Math.max(top, Math.abs(value(i, c)));
    return top;
  };
  const tops = { q: biggest(dk, Q), k: biggest(dk, K), v: biggest(dv, V) };
  const on = (flag) => (flag ? "al-row-on" : "");
  const label = (one, row, col) => {
    one.labels.rows.forEach((node, n) => node.classList.toggle("al-on", n === row));
    one.labels.cols.forEach((node, n) => node.classList.toggle("al-on", n === col));
  };
  const paintCell = (node, text, colour, exact) => {
    setText(node, text);
    if (node.ground !== colour) {
      node.ground = colour;
      node.style.background = colour ?? "";
      node.style.color = colour ? heat.inkOn(colour) : "";
    }
    if (exact !== undefined) node.title = node.dataset.value = String(exact);
  };

  function draw() {
    const theme = view.theme, i = get("query"), j = get("key"), stretch = get("stretch"), scaled = get("scale");
    const root = scaled ? Math.sqrt(dk) : 1;
    const score = (a, b) => (sees(a, b) ? scoreAt(a, b) : -Infinity);
    A = range(time).map((a) => rowAt(a, stretch, scaled));

    // 1  q . k
    pairTitle.replaceChildren("1 · Compare ", ...sub("q", i), ` “${tokens[i]}” · `, ...sub("k", j), ` “${tokens[j]}”`);
    fillSigned(qGrid, time, (a, c) => stretch * Q(a, c), stretch * tops.q);
    fillSigned(kGrid, time, K, tops.k);
    qGrid.mark((a) => on(a === i));
    kGrid.mark((b) => on(b === j));
    label(qGrid, i);
    label(kGrid, j);
    setText(terms.head.lastChild, "sum");
    const products = range(dk).map((c) => stretch * Q(i, c) * K(j, c));
    const top = Math.max(...products.map(Math.abs));
    terms.rows[0].firstChild.replaceChildren(...sub("q", i));
    terms.rows[1].firstChild.replaceChildren("× ", ...sub("k", j));
    terms.rows[2].firstChild.replaceChildren("=");
    for (let c = 0; c < termCount; c++) {
      paintCell(terms.rows[0].children[c + 1], short(stretch * Q(i, c)), null);
      paintCell(terms.rows[1].children[c + 1], short(K(j, c)), null);
      paintCell(terms.rows[2].children[c + 1], short(products[c]), signedColour(theme, products[c], top));
    }
    const rest = products.slice(SHOWN).reduce((a, b) => a + b, 0);
    const dot = stretch * dots[i][j];
    if (dk > SHOWN) setText(terms.rows[1].lastChild, `${dk - SHOWN} more: ${short(rest)}`);
    paintCell(terms.rows[2].lastChild, short(dot), null, dot);

    // 2  scores and weights
    rowTitle.replaceChildren("2 · Score and normalise: the row of ", h("b", {}, `“${tokens[i]}”`));
    setText(scoreName, `Q Kᵀ${scaled ? " / √dₖ" : ""}${get("causal") ? ", masked" : ""}`);
    let high = 2;
    for (let a = 0; a < time; a++) for (let b = 0; b < time; b++) if (sees(a, b)) high = Math.max(high, Math.abs(score(a, b)));
    for (let a = 0; a < time; a++) for (let b = 0; b < time; b++) {
      const s = score(a, b), w = A[a][b];
      sGrid.set(a, b, withNumbers(time) || s === -Infinity ? short(s) : "", s === -Infinity ? null : signedColour(theme, s, high));
      aGrid.set(a, b, withNumbers(time) ? (w === 0 ? "0" : w.toFixed(2)) : "", w === 0 ? null : weightColour(theme, w));
    }
    for (const one of [sGrid, aGrid]) { one.mark((a, b) => (a === i && b === j ? "al-on" : a === i ? "al-row-on" : "")); label(one, i, j); }
    const names = [[...sub("q", i), " · ", ...sub("k", "j")], [scaled ? `÷ √dₖ = ${number(Math.sqrt(dk))}` : "÷ 1 (no scale)"],
      [get("causal") ? "causal mask" : "no mask"], ["softmax"]];
    chain.rows.forEach((row, n) => row.firstChild.replaceChildren(...names[n]));
    for (let b = 0; b < time; b++) {
      setText(chain.head.children[b + 1], tokens[b]);
      chain.head.children[b + 1].classList.toggle("al-on", b === j);
      paintCell(chain.rows[0].children[b + 1], short(stretch * dots[i][b]), null);
      paintCell(chain.rows[1].children[b + 1], short((stretch * dots[i][b]) / root), null);
      paintCell(chain.rows[2].children[b + 1], short(score(i, b)), null);
      const w = A[i][b];
      paintCell(chain.rows[3].children[b + 1], w === 0 ? "0" : w < 0.0005 ? "<.001" : w.toFixed(3), w === 0 ? null : weightColour(theme, w), w);
    }
    setText(chain.rows[3].lastChild, "Σ = 1");

    // 3  the mix
    mixTitle.replaceChildren("3 · Mix the values: ", ...sub("z", i), " = Σ ", ...sub("A", `${i},j`), " ", ...sub("v", "j"));
    fillSigned(vGrid, time, V, tops.v);
    vGrid.mark((b) => on(b === j));
    label(vGrid, j);
    partName.replaceChildren(...sub("A", `${i},j`), " × ", ...sub("v", "j"), ", and their sum");
    fillSigned(pGrid, time, (b, c) => A[i][b] * V(b, c), tops.v);
    pGrid.labels.rows.forEach((node, b) => setText(node, `${A[i][b].toFixed(2)} ×`));
    pGrid.mark((b) => on(b === j));
    const z = range(dv).map((c) => range(time).reduce((sum, b) => sum + A[i][b] * V(b, c), 0));
    for (let c = 0; c < zShown; c++) {
      zGrid.set(0, c, withNumbers(zShown) ? short(z[c]) : "", signedColour(theme, z[c], tops.v));
      zGrid.cell(0, c).title = zGrid.cell(0, c).dataset.value = String(z[c]);
    }
    zGrid.labels.rows[0].replaceChildren(...sub("z", i), " =");

    // 4  saturation
    const a = A[i], norm = gradient(a);
    setText(largest.b, Math.max(...a).toFixed(3));
    setText(entropy.b, Math.abs(a.reduce((sum, w) => (w > 0 ? sum - w * Math.log(w) : sum), 0)).toFixed(3));
    setText(slope.b, tiny(norm));
    slope.b.dataset.value = String(norm);
    const choices = range(time).filter((b) => sees(i, b)).length;
    setText(verdict, choices === 1 ? "This row sees a single key: its weight is 1 whatever the score, and no gradient can flow."
      : norm < 0.001 ? "Saturated: one key takes everything, and next to nothing flows back to q and k."
        : norm < 0.1 ? "Nearly saturated: a small change of the scores hardly moves the weights."
          : "Alive: a change of the scores moves the weights, so q and k can learn.");
  }

  function drawCurve(ctx, width, height, theme) {
    const i = get("query"), left = 40, right = 12, top = 28, bottom = 34;
    const x = (s) => left + ((width - left - right) * Math.log(s / 0.1)) / Math.log(300);
    const y = (g) => height - bottom - ((height - top - bottom) * g) / 0.5;
    ctx.font = `11px ${theme.font}`;
    ctx.lineWidth = 1;
    for (const g of [0, 0.25, 0.5]) {
      ctx.strokeStyle = theme.line;
      ctx.beginPath(); ctx.moveTo(left, y(g)); ctx.lineTo(width - right, y(g)); ctx.stroke();
      ctx.fillStyle = theme.faint;
      ctx.textAlign = "right"; ctx.textBaseline = "middle";
      ctx.fillText(String(g), left - 6, y(g));
    }
    ctx.textAlign = "center"; ctx.textBaseline = "top";
    for (const s of [0.1, 0.3, 1, 3, 10, 30]) ctx.fillText(`×${s}`, x(s), height - bottom + 4);
    ctx.fillText("stretch of q", (left + width - right) / 2, height - 14);
    const fine = range(121).map((n) => 0.1 * 300 ** (n / 120));
    ctx.textAlign = "left";
    ctx.fillText("gradient norm of row", left, 4);
    for (const scaled of [false, true]) {
      const current = scaled === get("scale");
      ctx.strokeStyle = ctx.fillStyle = scaled ? theme.series1 : theme.series2;
      ctx.lineWidth = current ? 2.5 : 1.5;
      ctx.setLineDash(current ? [] : [5, 4]);
      ctx.beginPath();
      fine.forEach((s, n) => ctx[n ? "lineTo" : "moveTo"](x(s), y(gradient(rowAt(i, s, scaled)))));
      ctx.stroke();
      ctx.setLineDash([]);
      if (current) {
        ctx.beginPath();
        ctx.arc(x(get("stretch")), y(gradient(rowAt(i, get("stretch"), scaled))), 5, 0, 7);
        ctx.fill();
      }
      ctx.textAlign = "left"; ctx.textBaseline = "top";
      ctx.fillText(`${current ? "━" : "╌"} ${scaled ? "with ÷ √dₖ" : "without"}`, left + (scaled ? 150 : 260), 4);
    }
  }
  return view.start();
}
export default { render };
