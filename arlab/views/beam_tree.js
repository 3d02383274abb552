// Beam tree: what a search looked at step by step, what it kept and what it cut. The kernel sends the search of every
// beam size once; beams, steps and the length penalty move without it.
const ROW = 38, BOX = 32, PILL = 54; // height of a row and of a node; room behind the last column for scores
const MOST = 500; // height of the drawing at most
const PACE = 900; // milliseconds a step while it plays
const NO_KERNEL = "This is a saved page: everything moves but the prompt; a new one needs the notebook.";

function render({ model, el }) {
  const { h, svg, setText, visible, thousands } = arlab, law = beamSearch;
  const view = arlab.view(model, el, { label: "Beam tree", draw });
  const get = (name) => model.get(name), count = get("steps"), most = get("max_beams"), facts = get("facts");
  const limits = { steps: count, highest: facts.highest };
  let grown = [], strings = {}; // the search of each beam size; the tokens in them

  // ---- where we are: the search shown, after a step ---------------------------------------------------------------
  let now = null;
  const look = (beams, asked = get("step")) => {
    const penalty = get("length_penalty"), tree = grown[beams - 1];
    const last = law.lastStep(tree, beams, penalty, limits), step = Math.min(asked, last), over = step === last;
    const kept = law.kept(tree, step, beams, penalty), live = law.live(tree, step), alive = over ? [] : live;
    const path = get("path"), at = path === null ? (alive[0] ?? kept[0] ?? 0) : law.along(tree, path, step);
    return { tree, beams, penalty, last, step, over, kept, live, alive, at, path };
  };
  const lineOf = (i) => trees.lineage(now.tree.parents, i).slice(1); // without the prompt
  const go = (i) => view.set({ path: lineOf(i).map((n) => now.tree.tokens[n]) });
  const nameOf = (i, tree = now.tree) => (i === 0 ? (get("prompt") ? "prompt" : "start") : visible(strings[tree.tokens[i]]));
  const words = (i) => visible(lineOf(i).map((n) => strings[now.tree.tokens[n]]).join(facts.joiner));
  const isEnd = (i) => i > 0 && facts.ends.includes(now.tree.tokens[i]);

  // ---- numbers: log-probabilities, or probabilities where the scores are the model's own ------------------------------
  const prob = (value) => {
    if (value >= 1e-3 || value === 0) return String(Number(value.toPrecision(value < 0.01 ? 2 : 3))); // fits its box
    const [size, power] = value.toExponential(1).split("e");
    return `${size}e${power.replace("-", "−")}`;
  };
  const log = (value, digits = 2) => (value === 0 ? "0" : heat.number(value, digits));
  const figure = (value) => (facts.exact && get("numbers") === "p" ? prob(Math.exp(value)) : log(value));
  const total = facts.exact ? "log p" : "sum of scores";

  // ---- the drawing -----------------------------------------------------------------------------------------------------
  const field = h("div", { class: "bt-tree", role: "tree", tabindex: 0, "data-lm-suppress-shortcuts": "true",
    "aria-label": "What the search looked at. Right: the best continuation; left: back; up and down: another candidate of this step" });
  const scroller = h("div", { class: "bt-scroll" }, field);
  const measuring = document.createElement("canvas").getContext("2d");
  const unique = `bt-${Math.random().toString(36).slice(2, 8)}`;
  let room = 0;

  // What decides a drawing beside the search itself, and the scenes drawn so: a beam size once seen is there at once.
  let setting = null;
  const settle = () => {
    const ranking = get("arrangement") === "ranking", showCut = get("show_cut"), numbers = get("numbers"), font = `12.5px ${view.theme.mono}`;
    const key = [ranking, showCut, numbers, room, font, get("prompt")].join();
    if (setting?.grown === grown && setting.key === key) return;
    setting = { grown, key, ranking, showCut, font, fits: new Map(), scenes: new Map() };
    const rows = grown.map((tree) => { // in the fullest column, or at the ends of all branches
      const shown = tree.parents.map((_, i) => i).filter((i) => showCut || tree.fates[i] !== law.CUT);
      if (!ranking) return shown.length - new Set(shown.map((i) => tree.parents[i])).size + 1;
      return Math.max(...tree.steps.map((step) => shown.filter((i) => i && tree.steps[i] === step).length));
    });
    setting.tall = Math.max(...rows) * ROW; // of the largest search, so that nothing below moves while the beams do
    // A tree that fits is laid out whole, so that no node moves as it grows; a larger one only as far as it has grown.
    setting.large = !ranking && setting.tall > MOST;
    scroller.style.height = `${Math.min(MOST, setting.tall) + 12}px`;
  };
  const keyOf = ({ beams, step }) => (setting.large ? `${beams} ${step}` : `${beams}`);
  const sceneOf = (state) => {
    const key = keyOf(state);
    if (!setting.scenes.has(key)) setting.scenes.set(key, build(state));
    return setting.scenes.get(key);
  };
  // What the sliders may show next is drawn ahead, one scene at a time, while nobody waits.
  let ahead = 0;
  const prepare = () => {
    clearTimeout(ahead);
    ahead = setTimeout(() => {
      if (!view.root.isConnected) return;
      const { beams, step } = now, next = [...grown.keys()].map((i) => i + 1).sort((a, b) => Math.abs(a - beams) - Math.abs(b - beams)).map((n) => look(n));
      const states = setting.large ? [next[1], next[2], look(beams, step - 1), look(beams, step + 1), ...next.slice(3)] : next;
      const state = states.find((one) => one && one.step >= 0 && !setting.scenes.has(keyOf(one)));
      if (!state) return;
      paint(sceneOf(state), state);
      prepare();
    }, 40);
  };

  const fit = (text, widest, pad) => {
    const key = `${widest} ${text}`;
    if (!setting.fits.has(key)) {
      const fitted = heat.fit(measuring, text, widest);
      setting.fits.set(key, { fitted, wide: Math.max(44, Math.ceil(measuring.measureText(fitted).width) + pad) });
    }
    return setting.fits.get(key);
  };
  // Room for a name, beside it, and between columns: it draws in before it has to be scrolled, and then in comfort.
  const DRAWN_IN = [[110, 14, 58], [84, 14, 52], [62, 12, 46], [46, 7, 38]];
  const arrange = ({ tree, step }) => {
    const inside = Math.max(280, room - 12), { showCut, large, ranking } = setting;
    const shown = (i) => (!large || tree.steps[i] <= step) && (showCut || tree.fates[i] !== law.CUT);
    const textsIn = ([widest, pad]) => tree.parents.map((_, i) => fit(nameOf(i, tree), widest, pad));
    const early = tree.fates.some((fate, i) => fate === law.ENDED && tree.steps[i] < count) ? PILL - 4 : 0; // a score stands between two columns
    const gapIn = (drawnIn) => Math.max(drawnIn[2], early);
    const fitsIn = (drawnIn) => {
      const columns = [];
      textsIn(drawnIn).forEach(({ wide }, i) => { columns[tree.steps[i]] = Math.max(columns[tree.steps[i]] ?? 0, wide); });
      return columns.reduce((a, b) => a + b + gapIn(drawnIn)) + PILL <= inside;
    };
    const drawnIn = DRAWN_IN.find(fitsIn) ?? DRAWN_IN[1], texts = textsIn(drawnIn);
    const place = trees.layout({ parents: tree.parents, shown, wide: texts.map((text) => text.wide), row: ROW, gap: gapIn(drawnIn), most: 140, width: inside - PILL });
    place.width = Math.max(inside, place.width + PILL);
    place.cuts = [];
    if (!ranking) return { place, texts };
    const filled = [];
    tree.parents.forEach((_, i) => {
      if (i === 0 || !shown(i)) return;
      const d = tree.steps[i], row = (filled[d] = (filled[d] ?? 0) + 1);
      place.y[i] = (row - 0.5) * ROW;
      if (tree.fates[i] !== law.CUT) place.cuts[d] = { x: place.x[i], y: row * ROW, step: d };
    });
    place.cuts = place.cuts.filter((cut) => filled[cut.step] * ROW > cut.y);
    place.y[0] = (filled[1] * ROW) / 2;
    place.height = Math.max(...filled.slice(1)) * ROW;
    return { place, texts };
  };

  const build = (state) => {
    measuring.font = setting.font;
    const { tree } = state, { place, texts } = arrange(state);
    const cuts = place.cuts.map(({ x, y, step }) => ({ step, line: svg("line", { class: "bt-cutline", x1: x - 40, x2: x + place.columns[step] + 4, y1: y, y2: y }) }));
    const under = [], over = [], divs = [], nodes = new Map();
    tree.parents.forEach((parent, i) => {
      if (place.y[i] === undefined) return;
      const x = place.x[i], y = place.y[i], { fitted, wide } = texts[i], one = { marks: "" };
      one.box = h("div", { class: `bt-node${i && facts.ends.includes(tree.tokens[i]) ? " bt-end" : ""}${i === 0 ? " bt-root" : ""}`, id: `${unique}-${state.beams}-${i}`,
        role: "treeitem", "aria-level": tree.steps[i] + 1, "aria-label": tellers.label(i, tree), dataset: { node: i },
        style: { transform: `translate(${x}px, ${y - BOX / 2}px)`, width: `${wide}px` } },
        h("span", { class: "al-token" }, fitted), h("small", {}, i === 0 ? "" : figure(tree.totals[i])));
      divs.push(one.box);
      if (i > 0) {
        const x0 = place.x[parent] + texts[parent].wide, end = place.x[parent] + place.columns[tree.steps[parent]];
        const bend = Math.max(0.05, (end + place.space - Math.min(42, place.space - 5) - x0) / (x - x0));
        one.edge = svg("path", { class: "bt-edge", d: trees.curve(x0, place.y[parent], x, y, bend),
          "stroke-width": facts.highest === 0 ? (0.8 + 4 * Math.exp(tree.scores[i])).toFixed(2) : 1.6 });
        one.label = svg("text", { class: "bt-step", x: x - 4, y: y - 5, "text-anchor": "end" }, figure(tree.scores[i]));
        under.push(one.edge);
        over.push(one.label);
      }
      if (law.ended(tree, i)) {
        one.score = h("div", { class: `bt-score${tree.fates[i] === law.LIMIT ? " bt-limit" : ""}`,
          style: { transform: `translate(${x + wide + 3}px, ${y + 1}px)` } });
        divs.push(one.score);
      }
      one.parts = [one.box, one.edge, one.label, one.score].filter(Boolean);
      nodes.set(i, one);
    });
    const edges = svg("svg", { class: "bt-edges", "aria-hidden": "true", width: place.width, height: place.height }, under, cuts.map(({ line }) => line), over);
    return { tree, place, nodes, cuts, edges, boxes: h("div", { role: "none" }, divs) };
  };
  const nodeAt = (event) => {
    const box = event.target.closest?.("[data-node]");
    return box ? Number(box.dataset.node) : null;
  };
  field.addEventListener("click", (event) => { const i = nodeAt(event); if (i !== null) go(i); });
  field.addEventListener("mousemove", (event) => {
    const i = nodeAt(event);
    if (i === null) view.untip();
    else view.tip(event, ...tellers.tip(i));
  });
  field.addEventListener("mouseleave", () => view.untip());
  const visibleNow = (i) => now.tree.steps[i] <= now.step && shown.nodes.has(i);
  const best = (i) => now.tree.parents.findIndex((parent, c) => parent === i && visibleNow(c)); // candidates come best first
  const parents = new Proxy([], { get: (_, i) => now.tree.parents[i] }); // of whichever search is shown
  trees.keys(field, { parents, current: () => now.at, move: go,
    place: () => ({ depth: now.tree.steps, y: Object.fromEntries(Object.entries(shown.place.y).filter(([i]) => visibleNow(Number(i)))) }),
    right: (i) => { const next = best(i); return next < 0 ? undefined : next; } });
  const sizes = new ResizeObserver(() => {
    frame.clientWidth = scroller.clientWidth;
    frame.clientHeight = scroller.clientHeight;
    if (scroller.clientWidth === room) return;
    room = scroller.clientWidth;
    view.redraw();
  });
  sizes.observe(scroller);

  // What trees.reveal reads and writes: kept here, for to ask the page, or to scroll before the frame, has it laid out in between.
  const frame = { scrollTop: 0, scrollLeft: 0, clientWidth: 0, clientHeight: 0 };
  let scrolling = 0;
  const ask = () => { frame.scrollTop = scroller.scrollTop; frame.scrollLeft = scroller.scrollLeft; };
  scroller.addEventListener("scroll", () => { if (!scrolling) ask(); });
  const reveal = (x, y, { width, height }) => {
    if (!frame.clientHeight) [frame.clientWidth, frame.clientHeight] = [scroller.clientWidth, scroller.clientHeight];
    const { scrollTop, scrollLeft } = frame;
    trees.reveal(frame, x, y, 90);
    const most = { scrollTop: height + 8 - frame.clientHeight, scrollLeft: width + 8 - frame.clientWidth };
    for (const way of ["scrollTop", "scrollLeft"]) frame[way] = Math.max(0, Math.min(frame[way], most[way]));
    if (frame.scrollTop === scrollTop && frame.scrollLeft === scrollLeft) return;
    scrolling ||= requestAnimationFrame(() => {
      scrolling = 0;
      scroller.scrollTop = frame.scrollTop;
      scroller.scrollLeft = frame.scrollLeft;
      ask();
    });
  };

  // ---- beside it: sentences, hypotheses, controls (beam_panels.js) ---------------------------------------------------------
  const tellers = beamTellers({ get: () => now, nameOf, words, lineOf, isEnd, prob, log, total, facts, limits });
  const panels = beamPanels(view, { get: () => now, grown: () => grown, tellers, words, prob, log, figure, total, facts, limits, most, go });
  const controls = beamControls(view, { get: () => now, count, most, facts });
  const legend = h("div", { class: "al-legend bt-legend" });
  view.root.append(...[h("h3", {}, "Beam tree"), facts.has_tokenizer && controls.prompt, controls.sliders, controls.buttons, panels.sizes,
    tellers.status, scroller, legend, panels.chosen, panels.listing].filter(Boolean));
  const legends = () => {
    const { beams } = now, asP = facts.exact && get("numbers") === "p", candidates = Math.max(2, 1 + facts.ends.length) * beams;
    const key = (name, text) => h("span", {}, h("i", { class: `bt-key bt-key-${name}` }), text);
    legend.replaceChildren(key("tip", "lives now"), key("strong", "leads to it, or to a hypothesis"), key("ended", "finished, with its score"),
      key("cut", "cut"), key("path", "the path chosen below"),
      h("span", {}, `A step tries all ${thousands(facts.vocab_size)} tokens after every live branch; drawn are the best ${candidates} at most. ` +
        `Beside a line: ${asP ? "p of the token; in a box: the product" : `${facts.exact ? "log p" : "the score"} of the token; in a box: the sum`} so far.`));
  };

  // ---- drawing ------------------------------------------------------------------------------------------------------------
  const paint = ({ nodes, cuts }, { tree, step, penalty, kept, alive, at }) => {
    const on = law.strong(tree, [...kept, ...alive]), line = new Set(trees.lineage(tree.parents, at));
    const marked = (i) => {
      if (tree.steps[i] > step) return "later";
      if (alive.includes(i)) return "tip";
      if (law.ended(tree, i)) return kept.includes(i) ? "ended" : "gone";
      return on.has(i) ? "strong" : tree.fates[i] === law.CUT ? "cut" : "gone";
    };
    for (const [i, one] of nodes) {
      const mark = marked(i), path = i === at ? "here" : line.has(i) ? "1" : "";
      if (one.score) setText(one.score, log(law.score(tree, i, penalty)));
      if (one.marks === mark + path) continue;
      one.marks = mark + path;
      for (const part of one.parts) { part.dataset.mark = mark; part.dataset.path = path; }
      one.box.setAttribute("aria-selected", String(i === at));
    }
    for (const cut of cuts) cut.line.dataset.mark = cut.step <= step ? "" : "later";
  };
  let shown = null, revealed = "";
  function draw() {
    if (!grown.length) load();
    room ||= scroller.clientWidth;
    settle();
    now = look(get("beams"));
    const { beams, step, at } = now, scene = sceneOf(now), { place } = scene;
    paint(scene, now);
    if (scene !== shown) {
      shown = scene;
      field.style.width = `${place.width}px`;
      field.style.height = `${place.height}px`;
      field.replaceChildren(scene.edges, scene.boxes);
      legends();
    }
    field.setAttribute("aria-activedescendant", `${unique}-${beams}-${at}`);
    const seen = `${beams} ${step} ${at} ${setting.key}`;
    tellers.draw();
    panels.draw();
    controls.draw();
    if (seen !== revealed && place.y[at] !== undefined) reveal(place.x[at] + 60, place.y[at], place);
    revealed = seen;
    prepare();
  }
  function load() {
    ({ trees: grown, strings } = get("search"));
  }
  view.watch(["search"], load);
  view.watch(["beams", "step", "length_penalty", "path", "arrangement", "show_cut", "numbers", "prompt"]);
  const close = view.start();
  return () => { clearTimeout(ahead); sizes.disconnect(); controls.stop(); close(); };
}
export default { render };
