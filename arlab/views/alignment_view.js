// Alignment view: one map of a layer and a head, and the weights of the chosen target token along the source itself.
function render({ model, el }) {
  const { h, setText, visible } = arlab;
  const view = arlab.view(model, el, { label: "Alignment", draw });
  const get = view.get;

  // ---- data ---------------------------------------------------------------------------------------------------
  let alignment, best, sources, targets, map, shownMap = "", version = 0, stale = true;
  let hover = null; // a target token that the mouse points at, before it is chosen
  const row = () => (hover !== null && hover < alignment.targets ? hover : get("target"));
  function load() {
    stale = false;
    hover = null;
    version++;
    alignment = new Alignment(arlab.floats(get("_weights")), get("shape"), get("gold"));
    best = alignment.best();
    sources = get("source_tokens").map(visible);
    targets = get("target_tokens").map(visible);
  }
  const choose = () => {
    const key = [version, get("layer"), get("head")].join();
    if (key !== shownMap) { map = alignment.map(get("layer"), get("head")); shownMap = key; }
  };
  load();
  choose();
  const point = (i) => { if (hover !== i) { hover = i; view.redraw(); } };
  const pick = (target, source) => {
    hover = null;
    view.set({ target, ...(source === null ? {} : { source }) });
  };

  // ---- controls -------------------------------------------------------------------------------------------------
  const [layers, heads] = get("shape"); // those of one model: they stay
  const below = (count) => (text) => (/^\d+$/.test(text) && Number(text) < count ? Number(text) : undefined);
  const controls = h("div", { class: "al-sliders av-controls" },
    layers > 1 ? view.slider({ trait: "layer", label: "Layer", reset: 0, stops: arlab.steps(0, layers - 1, 1), parse: below(layers) }) : "",
    heads > 1 ? view.slider({ trait: "head", label: "Head", reset: "mean", stops: ["mean", ...arlab.steps(0, heads - 1, 1)],
      parse: (text) => (text === "mean" ? "mean" : below(heads)(text)), title: "The mean over the heads of the layer, or one head" }) : "");

  const figure = (name) => {
    const value = h("b", { dataset: { figure: name } }), what = h("span", {});
    return { value, what, box: h("div", { class: "al-figure" }, value, what) };
  };
  const here = figure("inside"), mass = figure("mass"), top = figure("best");
  const goThere = view.button("Show that head", () => view.set({ layer: best.layer, head: best.head }));
  const figures = h("div", { class: "av-figures" }, here.box, mass.box, top.box, goThere);

  // ---- the map, and the two texts ----------------------------------------------------------------------------------
  const picture = alignmentMap(view, { pick, point,
    state: () => ({ alignment, map, sources, targets, target: row(), source: get("source") }) });
  const readout = h("div", { class: "al-label av-readout", "aria-live": "polite" });
  const targetStrip = h("div", { class: "al-strip al-plain av-target", role: "group", "aria-label": "Target tokens" });
  const sourceStrip = h("div", { class: "al-strip av-source", role: "group", "aria-label": "Source tokens" });
  const stripTitle = h("h4", { class: "av-line" });
  let askers = [], bars = [];
  const key = (props, ...inside) => h("button", { type: "button", tabindex: -1, "data-lm-suppress-shortcuts": "true", ...props }, ...inside);
  function fillStrips() {
    const short = (texts) => texts.every((text) => [...text].length <= 2);
    targetStrip.classList.toggle("av-chars", short(targets));
    sourceStrip.classList.toggle("av-chars", short(sources));
    sourceStrip.classList.toggle("av-long", sources.length > 26 && !short(sources));
    askers = targets.map((text, i) => key({ dataset: { i }, onmouseenter: () => point(i), onmouseleave: () => point(null), onclick: () => pick(i, null) },
      h("span", { class: "al-token" }, text)));
    bars = sources.map((text, j) => {
      const share = h("small"), bar = h("i");
      const button = key({ dataset: { j }, onclick: () => view.set({ source: j }) },
        h("span", { class: "al-bar" }, share, bar), h("span", { class: "al-token" }, text));
      return { button, share, bar };
    });
    targetStrip.replaceChildren(...askers);
    sourceStrip.replaceChildren(...bars.map(({ button }) => button));
  }
  fillStrips();

  const quoted = (text) => h("bdi", {}, `“${text}”`); // apart: letters from right to left would turn the numbers after them around
  const note = h("p", { class: "al-note" });
  const ramp = h("span", { class: "av-ramp" }), goldKey = h("span", {}, h("i", { class: "av-key" }), "gold span; ✓ the heaviest position lies inside it, ✗ outside");
  view.root.append(...[
    h("h3", {}, "Alignment"),
    h("p", {}, "Which source tokens does each target token take its values from? Point at a row; click or arrow keys keep it."),
    sourceBox(view), note, layers * heads > 1 && controls, figures, picture.box, readout,
    h("div", { class: "al-panel av-panel" }, h("div", { class: "al-label" }, "Target"), targetStrip, stripTitle, sourceStrip),
    h("div", { class: "al-legend av-legend" }, ramp, goldKey,
      h("span", {}, "A map is a measurement, not an explanation.")),
  ].filter(Boolean));

  // ---- drawing ------------------------------------------------------------------------------------------------------
  view.watch(["_weights", "source_tokens", "target_tokens", "gold"], () => { stale = true; });
  view.watch(["layer", "head", "target", "source", "note"]);
  let legendTheme = null;
  function draw() {
    if (stale) { load(); fillStrips(); choose(); picture.resize(); }
    choose();
    const i = row(), j = get("source"), columns = alignment.sources, gold = alignment.gold.some(Boolean);
    const weights = map.subarray(i * columns, (i + 1) * columns), span = alignment.gold[i];
    setText(note, get("note"));
    note.hidden = !get("note");
    showFigures(gold);
    bars.forEach(({ button, share, bar }, n) => {
      const w = weights[n];
      setText(share, w < 0.095 ? "" : w.toFixed(2).replace(/^0/, ""));
      bar.style.height = `${(sourceStrip.classList.contains("av-long") ? 18 : 30) * w}px`;
      button.classList.toggle("al-unseen", w === 0);
      button.classList.toggle("av-gold", Boolean(span) && span[0] <= n && n < span[1]);
      button.setAttribute("aria-pressed", String(n === j));
      button.setAttribute("aria-label", `${sources[n]}: weight ${picture.three(w)}`);
    });
    askers.forEach((button, n) => button.setAttribute("aria-pressed", String(n === i)));
    stripTitle.replaceChildren("Source, as ", quoted(targets[i]), ` (target ${i}) weighs it`);
    const at = alignment.heaviest(map, i);
    readout.replaceChildren(quoted(targets[i]), " ← ", quoted(sources[j]), `: ${picture.three(weights[j])}`,
      ...(at < 0 ? ["; no weight at all in this row"] : at === j ? [", the heaviest"]
        : ["; heaviest: ", quoted(sources[at]), ` (source ${at}) ${picture.three(weights[at])}`]));
    readout.dataset.weight = String(weights[j]);
    readout.dataset.heaviest = String(at);
    if (legendTheme !== view.theme) {
      legendTheme = view.theme;
      ramp.replaceChildren("weight ", heat.legend([{ colour: view.theme.raised, text: "0" },
        ...[0.01, 0.1, 0.3, 0.6, 1].map((v) => ({ colour: heat.weightColour(view.theme, v), text: String(v) }))]));
    }
  }

  function showFigures(gold) {
    figures.hidden = goldKey.hidden = !gold;
    if (!gold) return;
    const score = alignment.score(map), many = layers * heads > 1;
    const name = (layer, head) => [layers > 1 && `layer ${layer}`, heads > 1 && (head === "mean" ? "mean of the heads" : `head ${head}`)].filter(Boolean).join(", ");
    setText(here.value, `${score.inside} of ${score.counted}`);
    here.value.dataset.value = String(score.inside);
    setText(here.what, `heaviest source position inside the gold span${many ? `:\n${name(get("layer"), get("head"))}` : ""}`);
    setText(mass.value, score.mass.toFixed(2));
    mass.value.dataset.value = String(score.mass);
    setText(mass.what, "of the weight inside it, on average");
    top.box.hidden = goThere.hidden = !many;
    setText(top.value, `${best.inside} of ${best.counted}`);
    top.value.dataset.value = String(best.inside);
    setText(top.what, `best single head: ${name(best.layer, best.head)}`);
    goThere.disabled = get("layer") === best.layer && get("head") === best.head;
  }
  return view.start();
}
export default { render };
