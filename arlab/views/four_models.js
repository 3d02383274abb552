// Models side by side on one source. The kernel runs all of them once for a source; steps are moved here.
function render({ model, el }) {
  const { h, setText, visible } = arlab;
  const view = arlab.view(model, el, { label: "Models side by side", draw });
  const get = view.get;

  // ---- the step: a slider whose end moves with the longest target ---------------------------------------------------
  const steps = () => Math.max(get("answer_tokens").length, ...get("lanes").map((lane) => lane.tokens.length));
  const pick = (step) => { if (step !== get("step") && step >= 0 && step < steps()) view.set({ step }); };
  const range = h("input", { type: "range", min: 0, step: 1, "aria-label": "Step", dataset: { trait: "step" }, "data-lm-suppress-shortcuts": "true",
    oninput: () => pick(Number(range.value)) });
  const back = view.button("◀", () => pick(get("step") - 1), { "aria-label": "Step back" });
  const on = view.button("▶", () => pick(get("step") + 1), { "aria-label": "Step on" });
  const where = h("span", { class: "al-label fm-where" });
  const said = h("div", { class: "fm-said", role: "status" }); // for who listens: what is to be seen in the lanes

  // ---- answer and lanes -----------------------------------------------------------------------------------------------
  const answer = h("section", { class: "fm-lane fm-answer", "aria-label": "Right answer" });
  const place = h("div", {});
  let lanes = [], answers = [], stale = true;
  function load() {
    stale = false;
    const sources = get("source_tokens").map(visible), tokens = get("answer_tokens").map(visible);
    const narrow = (texts) => texts.every((text) => [...text].length <= 2);
    place.classList.toggle("fm-chars", narrow(sources));
    answers = tokens.map((token) => h("span", { class: "fm-chip" }, h("span", { class: "al-token" }, token)));
    answer.replaceChildren(h("div", { class: "fm-head" }, h("h4", {}, "Right answer")), h("div", { class: "fm-body" }, h("div", { class: "fm-tokens" }, answers)));
    answer.hidden = tokens.length === 0;
    lanes = get("lanes").map((lane) => modelLane(view, lane, sources, { pick }));
    place.replaceChildren(...lanes.map(({ box }) => box));
    range.max = steps() - 1;
    setText(strips, captions());
  }
  // What each strip is the mean of.
  function captions() {
    const seen = get("lanes").filter((lane) => lane.strip);
    const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
    const of = ({ name, heads: [layers, heads] }) => `${name}: ${layers * heads === 1 ? "one head" : `mean of ${many(layers, "layer")} × ${many(heads, "head")}`}`;
    return seen.length ? `Bars: cross-attention at the step (${seen.map(of).join("; ")}).` : "";
  }

  const strips = h("span"), scale = h("span", { class: "fm-scale" });
  const marked = h("span", {}, h("i", { class: "fm-key" }), "differs from the answer at this place");
  view.root.append(...[
    h("h3", {}, "Models side by side"),
    h("p", {}, "Each model reads the source and writes greedily, token by token. Move the step: which model looks where?"),
    sourceBox(view, { button: "Run", title: "Let all models read this source" }),
    h("div", { class: "fm-step" }, h("span", { class: "fm-name" }, "Step"), range, back, on, where), said,
    answer, place,
    h("div", { class: "al-legend fm-legend" }, scale, marked, strips),
  ].filter(Boolean));

  // ---- drawing --------------------------------------------------------------------------------------------------------
  view.watch(["lanes", "source_tokens", "answer_tokens"], () => { stale = true; });
  view.watch(["step"]);
  let legendTheme = null;
  function draw() {
    if (stale) load();
    const step = get("step");
    range.value = step;
    range.setAttribute("aria-valuetext", `${step} of ${steps() - 1}`);
    back.disabled = step === 0;
    on.disabled = step === steps() - 1;
    setText(where, `${step} of ${steps() - 1}`);
    for (const lane of lanes) lane.show(step);
    setText(said, `Step ${step}. ${lanes.map((lane) => lane.told(step)).join(". ")}.`);
    answers.forEach((chip, i) => chip.classList.toggle("fm-now", i === step));
    marked.hidden = answer.hidden;
    if (legendTheme === view.theme) return;
    legendTheme = view.theme;
    scale.replaceChildren("probability ", heat.legend([0, 0.25, 0.5, 0.75, 1].map((p) => ({
      colour: view.theme.sequential[Math.round(255 * (0.06 + 0.62 * p))], text: p === 0 || p === 1 ? String(p) : p.toFixed(2).replace(/^0/, "") }))));
  }
  return view.start();
}
export default { render };
