// Sequence tree: a world drawn whole, the chain rule as a table that grows with the path, and all sequences in order.
function render({ model, el }) {
  const { h, svg, setText, visible, thousands } = arlab;
  const view = arlab.view(model, el, { label: "Sequence tree", draw });
  const get = (name) => model.get(name);

  // ---- the world: it never changes -------------------------------------------------------------------------------
  const { parents, tokens, p, mass } = get("nodes");
  const names = get("names").map(visible), eos = get("eos_id"), ranking = get("ranking");
  const children = trees.childrenOf(parents), depth = trees.depthsOf(parents);
  const longest = Math.max(...depth);
  const rank = new Map(ranking.map((i, place) => [i, place + 1]));
  const count = parents.map((_, i) => (children[i].length ? 0 : 1)); // complete sequences that begin so
  for (let i = parents.length - 1; i > 0; i--) count[parents[i]] += count[i];
  const likeliest = (i) => children[i].reduce((best, c) => (best === undefined || p[c] > p[best] ? c : best), undefined);
  const nameOf = (i) => (i === 0 ? "start" : names[tokens[i]]);
  const isEnd = (i) => i > 0 && tokens[i] === eos;
  const lineOf = (i) => trees.lineage(parents, i).slice(1); // without the root
  const words = (i) => lineOf(i).map(nameOf).join(" ");
  const here = () => get("path").reduce((i, token) => children[i].find((c) => tokens[c] === token), 0);
  const go = (i) => view.set({ path: lineOf(i).map((n) => tokens[n]) });

  // ---- numbers ---------------------------------------------------------------------------------------------------
  const prob = (value, digits = 4) => {
    if (value >= 1e-4 || value === 0) return String(Number(value.toPrecision(digits)));
    const [size, power] = value.toExponential(digits - 2).split("e");
    return `${Number(size)}e${power.replace("-", "−")}`;
  };
  const log = (value) => (value < 0 ? heat.number(value, 4) : "0");
  const logs = (i) => lineOf(i).reduce((sum, n) => sum + Math.log(p[n]), 0);
  const given = (i, what) => `p(${what}${parents[i] > 0 ? ` | ${words(parents[i])}` : ""})`;
  const many = (n) => (n === 1 ? "1 sequence" : `${thousands(n)} sequences`);

  // ---- the tree ----------------------------------------------------------------------------------------------------
  const BOX = 20, MOST = 470; // height of a node, height of the whole at most
  // Room for the bars, and the least room between columns: a deep tree draws in both before it has to be scrolled.
  const WIDE = { bars: 120, gap: 54 }, TIGHT = { bars: 92, gap: 46 };
  const rowFor = (ends) => (ends <= 12 ? 30 : ends <= 24 ? 26 : 22);
  // The height that a folded tree can come to, so that a walk does not push down what stands below it.
  const open = [];
  parents.forEach((parent, i) => { open[i] = (i ? open[parent] : 1) + Math.max(0, children[i].length - 1); });
  const tallest = Math.min(MOST, Math.max(...open.map((ends) => ends * rowFor(ends))));
  const edges = svg("svg", { class: "st-edges", "aria-hidden": "true" });
  const boxes = h("div", { class: "st-boxes" });
  const field = h("div", { class: "st-tree", role: "tree", tabindex: 0, "data-lm-suppress-shortcuts": "true",
    "aria-label": "The tree of all sequences. Right: the most probable next token; left: back; up and down: another branch" },
    edges, boxes);
  const scroller = h("div", { class: "st-scroll" }, field);
  const measuring = document.createElement("canvas").getContext("2d");
  const unique = `st-${Math.random().toString(36).slice(2, 8)}`;
  let drawn = null, place = null; // elements and layout of what is drawn

  const build = (at) => {
    const theme = view.theme, folded = get("fold"), line = new Set(trees.lineage(parents, at));
    const shown = (i) => i === 0 || !folded || line.has(parents[i]);
    measuring.font = `12.5px ${theme.mono}`;
    const narrow = room < 560;
    const fitted = parents.map((_, i) => heat.fit(measuring, nameOf(i), narrow ? 76 : 110));
    const wide = fitted.map((text) => Math.max(30, Math.ceil(measuring.measureText(text).width) + 14));
    const terminals = parents.filter((_, i) => shown(i) && !children[i].some(shown)).length;
    const inside = Math.max(280, room - 12);
    const layout = ({ bars, gap }) => trees.layout({ parents, shown, wide, row: rowFor(terminals), gap, width: inside - bars - 16 });
    let { bars } = WIDE;
    place = layout(WIDE);
    if (place.width + bars + 16 > inside) { place = layout(TIGHT); bars = TIGHT.bars; }
    const width = Math.max(inside, place.width + bars + 16), level = Math.min(42, place.space - 12);
    const tops = Math.max(...place.ends.map((i) => mass[i]));
    field.style.width = edges.style.width = `${width}px`;
    edges.style.height = `${place.height}px`;
    field.style.height = `${Math.max(place.height, folded ? tallest : 0)}px`;
    const column = place.width + 14; // where the bars begin
    const bar = width - column - 62;
    drawn = { folded, line: folded ? at : -1, theme, room, nodes: new Map() };
    const under = [], over = [];
    boxes.replaceChildren();
    parents.forEach((parent, i) => {
      if (!shown(i)) return;
      const x = place.x[i], y = place.y[i], end = place.ends.includes(i), more = end && children[i].length > 0;
      const box = h("div", { class: `st-node al-token${isEnd(i) ? " st-end" : ""}${i === 0 ? " st-root" : ""}`, id: `${unique}-${i}`,
        role: "treeitem", "aria-level": depth[i] + 1, "aria-expanded": children[i].length ? String(!more) : undefined,
        "aria-label": i === 0 ? "start" : `${nameOf(i)}, probability ${prob(p[i])}, product ${prob(mass[i])}`, dataset: { node: i },
        style: { transform: `translate(${x}px, ${y - BOX / 2}px)`, width: `${wide[i]}px` } }, fitted[i]);
      boxes.append(box);
      const one = { box };
      drawn.nodes.set(i, one);
      if (i > 0) {
        const x0 = place.x[parent] + wide[parent], gapless = place.x[parent] + place.columns[depth[parent]];
        const d = trees.curve(x0, place.y[parent], x, y, Math.max(0.05, (gapless + place.space - level - x0) / (x - x0)));
        one.edge = svg("path", { d, class: "st-edge", "stroke-width": (0.8 + 5 * p[i]).toFixed(2) });
        one.label = svg("text", { class: "st-p", x: x - 5, y: y - 2.5 - 2.5 * p[i], "text-anchor": "end" }, prob(p[i], 3));
        under.push(one.edge);
        over.push(one.label);
      }
      if (!end) return;
      const length = Math.max(1, (bar * mass[i]) / tops);
      under.push(svg("line", { class: "st-leader", x1: x + wide[i] + 3, x2: column - 3, y1: y, y2: y }));
      one.bar = svg("rect", { class: more ? "st-bar st-more" : "st-bar", x: column, y: y - 5, width: length, height: 10, rx: 2 });
      one.mass = svg("text", { class: "st-mass", x: column + length + 5, y: y + 4 }, prob(mass[i], 3));
      under.push(one.bar);
      over.push(one.mass);
    });
    edges.replaceChildren(...under, ...over);
  };
  const nodeAt = (event) => {
    const box = event.target.closest?.("[data-node]");
    return box ? Number(box.dataset.node) : null;
  };
  boxes.addEventListener("click", (event) => { const i = nodeAt(event); if (i !== null) go(i); });
  boxes.addEventListener("mousemove", (event) => {
    const i = nodeAt(event);
    if (i === null) { view.untip(); return; }
    view.tip(event, ...(i === 0 ? ["the empty sequence"] : [h("span", { class: "al-token" }, given(i, nameOf(i))), ` = ${prob(p[i])}`,
      h("br"), `product so far ${prob(mass[i])}`]), h("br"), children[i].length ? `${many(count[i])} begin so` : `complete: number ${rank.get(i)} of ${rank.size}`);
  });
  boxes.addEventListener("mouseleave", () => view.untip());
  trees.keys(field, { parents, place: () => place, current: here, move: go, right: likeliest });
  // The width as the observer tells it: read while a theme is being exchanged it may be one that lasts no frame.
  let room = 0;
  const sizes = new ResizeObserver(() => {
    if (scroller.clientWidth === room) return;
    room = scroller.clientWidth;
    view.redraw();
  });
  sizes.observe(scroller);

  const back = view.button("← Back", () => go(parents[here()]), { title: "Take back the last token (left arrow)" });
  const next = view.button("Most probable next →", () => go(likeliest(here())), { title: "The right arrow in the tree" });
  const start = view.button("Start", () => go(0), { title: "The empty sequence (Home)" });
  const legend = h("div", { class: "al-legend st-legend" });

  // ---- the chain rule, one row a token ---------------------------------------------------------------------------------
  const HEAD = ["t", "token", "p(token | before)", "product so far", "log p", "sum so far"];
  const rows = Array.from({ length: longest }, () => {
    const cells = HEAD.map((_, c) => h("td", { class: c === 1 ? "al-token" : "" }));
    return { row: h("tr", {}, cells), cells };
  });
  const table = h("table", { class: "st-chain", "aria-label": "The chain rule along the path" },
    h("thead", {}, h("tr", {}, HEAD.map((text) => h("th", {}, text)))), h("tbody", {}, rows.map(({ row }) => row)));
  const product = h("div", { class: "st-line al-token" }), sum = h("div", { class: "st-line al-token" });
  const story = h("p", { class: "st-story", "aria-live": "polite" });

  // ---- all sequences ------------------------------------------------------------------------------------------------------
  const total = ranking.reduce((a, i) => a + mass[i], 0);
  const lines = new Map(ranking.map((i, place) => [i, h("tr", { dataset: { sequence: i }, onclick: () => go(i) },
    h("td", {}, String(place + 1)), h("td", { class: "al-token" }, words(i)), h("td", {}, String(depth[i])),
    h("td", { dataset: { value: mass[i] } }, prob(mass[i])), h("td", {}, log(logs(i))))]));
  const totals = h("div", { class: "st-total", dataset: { value: total } },
    `All ${rank.size === 1 ? "1 probability" : `${rank.size} probabilities`} add up to ${total.toFixed(10)}.`);
  const those = h("div", { class: "st-total" });
  const list = h("div", { class: "st-list", role: "region", tabindex: 0, "data-lm-suppress-shortcuts": "true",
    "aria-label": "All sequences, most probable first; arrow up and down choose one",
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      go(ranking[Math.max(0, Math.min(rank.size - 1, (rank.get(here()) ?? 0) - 1 + step))]);
    } },
    h("table", {}, h("thead", {}, h("tr", {}, ["", "sequence", "tokens", "p", "log p"].map((text) => h("th", {}, text)))),
      h("tbody", {}, [...lines.values()])));
  const listing = h("div", { class: "al-panel" }, h("h4", {}, "All sequences, most probable first"), list, totals, those);

  view.root.append(
    h("h3", {}, "Sequence tree"),
    h("p", {}, "From left to right, one token at a time. Click a node, or walk with the arrow keys; a line is as thick as its probability."),
    h("div", { class: "al-buttons st-controls" }, start, back, next,
      view.checkbox({ trait: "fold", label: "fold other branches", title: "Draw only the branches along the path" }),
      view.checkbox({ trait: "show_list", label: "list all sequences" })),
    scroller, legend,
    h("div", { class: "al-panel" }, h("div", { class: "st-wide" }, table), product, sum, story), listing);
  view.watch(["path", "fold", "show_list"]);

  // ---- drawing ---------------------------------------------------------------------------------------------------------------
  let last = -1;
  function draw() {
    room ||= scroller.clientWidth;
    const at = here(), line = trees.lineage(parents, at), on = new Set(line);
    const folded = get("fold");
    if (!drawn || drawn.folded !== folded || (folded && drawn.line !== at) || drawn.theme !== view.theme || drawn.room !== room) {
      const focused = document.activeElement === field;
      build(at);
      if (focused) field.focus({ preventScroll: true });
      last = -1;
    }
    for (const [i, one] of drawn.nodes) {
      const mark = i === at ? "here" : on.has(i) ? "path" : parents[i] === at ? "next" : "";
      if (one.mark === mark) continue;
      one.mark = mark;
      for (const part of [one.box, one.edge, one.label, one.bar, one.mass]) if (part) part.dataset.mark = mark;
      one.box.setAttribute("aria-selected", String(i === at));
    }
    field.setAttribute("aria-activedescendant", `${unique}-${at}`);
    if (at !== last) trees.reveal(scroller, place.x[at] + 60, place.y[at], 90);
    last = at;
    back.disabled = start.disabled = at === 0;
    next.disabled = !children[at].length;
    drawLegend(folded);
    drawChain(at, line.slice(1));
    drawList(at);
  }

  function drawLegend(folded) {
    const texts = ["Bars: the probability of a complete sequence"];
    if (folded) texts.push("dashed: of all sequences behind a folded branch, together");
    if (eos >= 0) texts.push(`${names[eos]} ends a sequence`);
    if (ranking.some((i) => !isEnd(i)) && eos >= 0) texts.push(`without it, a sequence is cut after ${longest} tokens`);
    setText(legend, `${texts.join("; ")}.`);
  }

  function drawChain(at, line) {
    let sofar = 0;
    rows.forEach(({ row, cells }, t) => {
      const i = line[t];
      row.classList.toggle("st-empty", i === undefined);
      if (i !== undefined) sofar += Math.log(p[i]);
      const texts = i === undefined ? [String(t + 1), "·", "", "", "", ""]
        : [String(t + 1), nameOf(i), `${given(i, nameOf(i))} = ${prob(p[i])}`, prob(mass[i]), log(Math.log(p[i])), log(sofar)];
      texts.forEach((text, c) => setText(cells[c], text));
      cells[2].title = texts[2];
      cells[3].dataset.value = i === undefined ? "" : String(mass[i]);
      cells[5].dataset.value = i === undefined ? "" : String(sofar);
    });
    const name = words(at);
    setText(product, at === 0 ? "p(nothing yet) = 1" : `p(${name}) = ${line.map((i) => prob(p[i])).join(" · ")}${line.length > 1 ? ` = ${prob(mass[at])}` : ""}`);
    setText(sum, at === 0 ? "log p(nothing yet) = 0"
      : `log p(${name}) = ${line.map((i, t) => (t ? log(Math.log(p[i])).replace("−", "− ").replace(/^0/, "+ 0") : log(Math.log(p[i])))).join(" ")}${line.length > 1 ? ` = ${log(sofar)}` : ""}`);
    setText(story, tell(at, name));
  }

  function tell(at, name) {
    if (at === 0) return `All of the ${rank.size} sequences begin here: together they have probability 1.`;
    if (!children[at].length) {
      const why = isEnd(at) ? " It ended by itself, with the end symbol." : eos >= 0 ? ` It was cut after ${depth[at]} tokens, without an end symbol.` : "";
      return `Complete: number ${rank.get(at)} of ${rank.size} by probability.${why}`;
    }
    const behind = count[at] === 1 ? `One sequence begins with “${name}”: the product is already its probability.`
      : `${many(count[at])} begin with “${name}”: the product is their probability together.`;
    if (eos < 0) return behind;
    const end = children[at].find(isEnd);
    return `${behind} The text “${name}” and nothing more has ${end === undefined ? "probability 0: it cannot end here."
      : `${prob(mass[at])} · ${prob(p[end])} = ${prob(mass[end])}: it must also end here.`}`;
  }

  let listed = -1;
  function drawList(at) {
    listing.hidden = !get("show_list");
    if (listing.hidden || listed === at) return;
    listed = at;
    let share = 0;
    for (const [i, row] of lines) {
      const begins = at > 0 && trees.lineage(parents, i).includes(at);
      if (begins) share += mass[i];
      row.classList.toggle("st-begins", begins);
      row.setAttribute("aria-current", String(i === at));
    }
    setText(those, at === 0 ? "Choose a path to mark those that begin with it."
      : `The marked ${count[at] === 1 ? "one" : count[at]}: ${prob(share)}, the product of the path.`);
    const row = lines.get(at);
    if (row) trees.reveal(list, 0, row.offsetTop, 40);
  }

  const close = view.start();
  return () => { sizes.disconnect(); close(); };
}
export default { render };
