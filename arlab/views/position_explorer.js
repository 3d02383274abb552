// Position explorer: the lanes of positions, and beneath them the dot product of one position with every other.
function render({ model, el }) {
  const { h, setText } = arlab;
  const { number } = heat;
  const [length, d, rows] = model.get("shape");
  const sent = Float64Array.from(arlab.floats(model.get("vectors")));
  const q = sent.subarray(0, d), k = sent.subarray(d, 2 * d), learned = sent.subarray(2 * d);
  const view = arlab.view(model, el, { label: "Position explorer", draw });
  const { get } = view;

  // ---- the vectors of the scheme shown ---------------------------------------------------------------------------
  const state = { length, d, count: positions.digits(length), scheme: "", known: length, table: null, keys: null, top: 1, oldTable: true,
    features: (i) => (state.scheme === "rotary" ? [i, i + d / 2] : [2 * i, 2 * i + 1]),
    wavelength: (i) => 2 * Math.PI * get("base") ** ((2 * i) / d),
    pairTop: (i) => (state.scheme === "rotary" ? Math.hypot(q[i], q[i + d / 2]) : 1) };
  const SIDE = Math.min(length, 128); // rows and columns of the matrix that are computed; a longer one is sampled
  const sample = Array.from({ length: SIDE }, (_, n) => Math.floor((n * length) / SIDE));
  let stale = true, matrix = null, low = 0, high = 1, oldMatrix = true;
  function load() {
    const scheme = state.scheme = get("scheme"), base = get("base");
    state.known = scheme === "learned" ? rows : length;
    if (scheme === "learned") state.table = state.keys = learned;
    else if (scheme === "rotary") [state.table, state.keys] = [positions.turned(q, length, base), positions.turned(k, length, base)];
    else state.table = state.keys = positions.sinusoidal(length, d, base);
    state.top = scheme === "sinusoidal" ? 1 : state.table.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    matrix = new Float64Array(SIDE * SIDE).fill(NaN);
    [low, high] = [0, 0];
    sample.forEach((m, a) => sample.forEach((n, b) => {
      if (m >= state.known || n >= state.known) return;
      const v = matrix[a * SIDE + b] = positions.dot(state.table, m, state.keys, n, d);
      [low, high] = [Math.min(low, v), Math.max(high, v)];
    }));
    [stale, state.oldTable, oldMatrix] = [false, true, true];
  }
  const productsOf = (m) => Float64Array.from({ length }, (_, n) =>
    (m < state.known && n < state.known ? positions.dot(state.table, m, state.keys, n, d) : NaN));
  let products = [], others = [];

  // ---- elements --------------------------------------------------------------------------------------------------
  const count = Array.from({ length }, (_, m) => m);
  const whole = (most) => (text) => { const v = Number(text); return Number.isInteger(v) && v >= 0 && v < most ? v : undefined; };
  const bases = [2, 3, 5, 7, ...[10, 100, 1000, 1e4, 1e5].flatMap((ten) => [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => n * ten)), 1e6];
  const wide = (v) => (v >= 1e7 ? v.toExponential(2).replace("e+", "e") : v >= 1000 ? arlab.thousands(Math.round(v)) : String(Number(v.toPrecision(4))));
  const start = Object.fromEntries(["position", "other", "pair"].map((name) => [name, get(name)]));
  const lanes = positionLanes(view, state);
  const schemes = view.segmented({ trait: "scheme", label: "Vectors", options: [
    { value: "sinusoidal", label: "sinusoidal", title: "Added to the token's embedding (Vaswani et al., 2017)" },
    ...(rows ? [{ value: "learned", label: "learned", title: "A table, trained with the rest" }] : []),
    { value: "rotary", label: "rotary", title: "Queries and keys are turned (Su et al., 2021)" }] });
  const doubling = 2 ** (d / 2);
  const half = doubling <= 1e12 && view.button("Halve the speed from pair to pair", () => view.set({ base: doubling }),
    { title: `Base 2^(d/2) = ${wide(doubling)}: rates 1, 1/2, 1/4, … as in the counter`, class: "al-button pe-half" });
  const axis = view.segmented({ trait: "axis", label: "Across", options: [
    { value: "distance", label: "distance n − m" }, { value: "position", label: "position n" }] });
  const figure = (name, text) => { const b = h("b", { dataset: { figure: name } }), what = h("span", {}, text); return { b, what, box: h("div", { class: "al-figure" }, b, what) }; };
  const product = figure("product"), self = figure("self", "product at distance 0"), spread = figure("spread", "largest difference at equal distances");
  const verdict = h("p", { class: "pe-verdict", "aria-live": "polite" });
  const title = h("h4"), matrixNote = h("div", { class: "al-note" });
  const grid = view.canvas({ height: (width) => Math.min(width, 250), draw: drawMatrix,
    label: "Dot products, position m down and n across; up and down choose m, left and right m′" });
  const curve = view.canvas({ height: 214, draw: drawCurve, label: "Dot product of both positions with every position" });
  const legend = h("div", { class: "al-legend pe-key" });

  view.root.append(
    h("h3", {}, "Where a token stands"),
    h("p", {}, "Drag over the drawings, or use the arrow keys in them: left and right choose the position m, up and down the pair of features."),
    h("div", { class: "al-sliders" },
      view.slider({ trait: "position", label: "Position m", stops: count, reset: start.position, parse: whole(length) }),
      view.slider({ trait: "other", label: "Position m′", stops: count, reset: start.other, parse: whole(length) }),
      view.slider({ trait: "pair", label: "Pair i", stops: Array.from({ length: d / 2 }, (_, i) => i), reset: start.pair, parse: whole(d / 2) }),
      view.slider({ trait: "base", label: "Base", stops: bases, reset: 10_000, format: wide,
        parse: (text) => { const v = Number(text.replaceAll(",", "")); return v > 1 && v <= 1e12 ? v : undefined; } })),
    h("div", { class: "al-buttons pe-choice" }, schemes, half),
    lanes.box,
    h("div", { class: "al-panel" }, title,
      h("div", { class: "pe-products" },
        h("div", {}, grid.box, matrixNote),
        h("div", {}, h("div", { class: "pe-axis" }, axis, legend), curve.box)),
      h("div", { class: "al-figures pe-figures" }, product.box, self.box, spread.box), verdict));
  view.watch(["base", "scheme"], () => { stale = true; });
  view.watch(["position", "other", "pair", "axis"]);

  // ---- drawing ----------------------------------------------------------------------------------------------------
  const WORDS = {
    sinusoidal: "The two rows are one curve, moved along: the product depends on the distance n − m alone. It is the same to both sides, "
      + "so a product of two bare sinusoids cannot tell before from after.",
    rotary: "The two rows are one curve, moved along: turning q by m and k by n leaves a turn by n − m in their product, "
      + "whatever q and k are. The two sides may differ, so before and after can be told apart.",
    learned: "Two rows, two curves: what a table knows of distance, training has to write into it row by row.",
  };
  function draw() {
    if (stale) load();
    const m = get("position"), n = get("other"), scheme = state.scheme, far = n - m;
    [products, others] = [productsOf(m), productsOf(n)];
    lanes.show();
    if (half) half.disabled = scheme === "learned";
    const say = (node, value, text) => { setText(node, text); node.dataset.value = String(value); };
    setText(title, scheme === "rotary" ? "The product of a query at m with a key at n: q turned by m · k turned by n"
      : "The dot product of two positions: p(m) · p(n)");
    const value = products[n], none = Number.isNaN(value);
    say(product.b, value, none ? "none" : number(value, 3));
    setText(product.what, `product of m and n = m′, ${Math.abs(far)} ${far < 0 ? "before" : "ahead"}`);
    say(self.b, products[m], m < state.known ? number(products[m], 3) : "none");
    const gap = none ? NaN : positions.spread(products, m, others, n, state.known);
    say(spread.b, gap, none ? "none" : gap.toFixed(3));
    const end = scheme === "learned" && rows < length ? ` Beyond position ${rows - 1} there is no row, and nothing to look up.` : "";
    setText(verdict, none ? `The table ends at position ${rows - 1}: for ${m >= rows ? `m = ${m}` : `m′ = ${n}`} there is no vector at all.`
      : m === n ? "Choose two different positions to compare their rows." : WORDS[scheme] + end);
    const theme = view.theme;
    legend.replaceChildren(...[["m", m, theme.ink, "pe-line"], ["m′", n, theme.series3, "pe-dashed"]].map(([name, at, colour, kind]) =>
      h("span", {}, h("i", { class: kind, style: { borderTopColor: colour } }), `row of ${name} = ${at}`)));
    setText(matrixNote, `m down, n across${SIDE < length ? `, every ${Number((length / SIDE).toFixed(1))}th` : ""}; along a diagonal the distance stays the same`);
  }

  let image = null, painted = "";
  const hatching = arlab.hatching();
  function drawMatrix(ctx, width, height, theme) {
    const key = `${theme.dark}${theme.surface}`, top = Math.max(-low, high);
    if (oldMatrix || key !== painted) {
      image = lanes.picture(theme, SIDE, SIDE, top, (a, b) => matrix[a * SIDE + b], image);
      [oldMatrix, painted] = [false, key];
    }
    const size = height - 2, to = (m) => 1 + ((m + 0.5) * size) / length;
    ctx.fillStyle = hatching(ctx, theme.cut);
    ctx.fillRect(1, 1, size, size);
    ctx.imageSmoothingEnabled = false;
    const seen = 1 + (Math.min(state.known, length) * size) / length;
    ctx.clearRect(1, 1, seen - 1, seen - 1);
    ctx.drawImage(image, 1, 1, size, size);
    ctx.strokeStyle = theme.line;
    ctx.strokeRect(0.5, 0.5, size + 1, size + 1);
    for (const [trait, colour, dash] of [["other", theme.series3, [4, 3]], ["position", theme.ink, []]]) {
      const y = to(get(trait));
      lanes.outline(ctx, theme, colour, dash, () => { ctx.moveTo(1, y); ctx.lineTo(1 + size, y); });
    }
    const dot = () => ctx.arc(to(get("other")), to(get("position")), 4, 0, 7);
    lanes.outline(ctx, theme, theme.ink, [], dot);
    ctx.fillStyle = theme.ink;
    ctx.fill();
  }

  const LEFT = 46, RIGHT = 8, TOP = 8, FOOT = 22;
  const span = () => (get("axis") === "distance" ? [-Math.max(get("position"), get("other")), length - 1 - Math.min(get("position"), get("other"))] : [0, length - 1]);
  const toX = (width, v) => { const [a, b] = span(); return LEFT + ((v - a) / (b - a || 1)) * (width - LEFT - RIGHT); };
  function drawCurve(ctx, width, height, theme) {
    const room = (high - low) * 0.06 || 1, y = (v) => TOP + ((high + room - v) / (high - low + 2 * room)) * (height - TOP - FOOT);
    const [first, last] = span(), byDistance = get("axis") === "distance";
    ctx.font = `11px ${theme.font}`;
    ctx.lineWidth = 1;
    const unit = 10 ** Math.floor(Math.log10(high - low || 1)), by = unit * [0.1, 0.2, 0.5, 1, 2, 5].find((part) => (high - low || 1) / (unit * part) <= 5);
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    for (let n = Math.ceil(low / by); n * by <= high; n++) {
      ctx.strokeStyle = theme.line;
      ctx.beginPath(); ctx.moveTo(LEFT, y(n * by)); ctx.lineTo(width - RIGHT, y(n * by)); ctx.stroke();
      ctx.fillStyle = theme.soft;
      ctx.fillText(number(n * by, by >= 1 ? 0 : Math.ceil(-Math.log10(by))), LEFT - 6, y(n * by));
    }
    const step = [1, 2, 5, 10, 20, 25, 50, 100, 200].find((n) => (n / (last - first || 1)) * (width - LEFT) > 44) ?? 200;
    ctx.textAlign = "center";
    ctx.fillStyle = theme.soft;
    for (let v = Math.ceil(first / step) * step; v <= last; v += step) {
      if (toX(width, v) < LEFT - 1 || toX(width, v) > width - 14) continue;
      ctx.fillText(byDistance && v > 0 ? `+${v}` : number(v, 0), toX(width, v), height - 9);
    }
    if (byDistance) { ctx.strokeStyle = theme.soft; ctx.beginPath(); ctx.moveTo(toX(width, 0), TOP); ctx.lineTo(toX(width, 0), height - FOOT); ctx.stroke(); }
    for (const [trait, row, colour, dash] of [["position", products, theme.ink, []], ["other", others, theme.series3, [7, 5]]]) {
      const shift = byDistance ? get(trait) : 0;
      ctx.strokeStyle = colour;
      ctx.lineWidth = dash.length ? 2 : 2.5;
      ctx.setLineDash(dash);
      ctx.beginPath();
      row.forEach((v, n) => { if (!Number.isNaN(v)) ctx.lineTo(toX(width, n - shift), y(v)); });
      ctx.stroke();
      ctx.setLineDash([]);
    }
  }

  // ---- pointing -----------------------------------------------------------------------------------------------------
  const { canvas } = grid;
  canvas.tabIndex = 0;
  canvas.setAttribute("data-lm-suppress-shortcuts", "true");
  canvas.classList.add("pe-live", "pe-matrix");
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect(), size = grid.height - 2;
    const place = (v) => Math.max(0, Math.min(length - 1, Math.floor(((v - 1) / size) * length)));
    return [place(event.clientY - box.top), place(event.clientX - box.left)];
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); const [m, n] = cellAt(event); view.set({ position: m, other: n }); });
  canvas.addEventListener("pointermove", (event) => {
    const [m, n] = cellAt(event);
    if (event.buttons & 1) view.set({ position: m, other: n });
    const known = m < state.known && n < state.known;
    view.tip(event, `m = ${m}, n = ${n}, distance ${number(n - m, 0)}: ${known ? number(positions.dot(state.table, m, state.keys, n, d), 3) : "no vector"}`);
  });
  canvas.addEventListener("pointerleave", () => view.untip());
  heat.arrows(canvas, { rows: length, cols: length, current: () => [get("position"), get("other")], move: (m, n) => view.set({ position: m, other: n }) });
  curve.canvas.addEventListener("pointermove", (event) => {
    const [first, last] = span(), box = curve.canvas.getBoundingClientRect();
    const v = Math.round(first + ((event.clientX - box.left - LEFT) / (curve.width - LEFT - RIGHT)) * (last - first));
    if (v < first || v > last) { view.untip(); return; }
    const byDistance = get("axis") === "distance";
    const read = (row, shift) => { const one = row[v + (byDistance ? shift : 0)]; return one === undefined || Number.isNaN(one) ? "–" : number(one, 3); };
    view.tip(event, `${byDistance ? "distance" : "position"} ${number(v, 0)}`, h("br"), `row of m: ${read(products, get("position"))}`, h("br"), `row of m′: ${read(others, get("other"))}`);
  });
  curve.canvas.addEventListener("pointerleave", () => view.untip());
  return view.start();
}
export default { render };
