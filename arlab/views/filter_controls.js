// The four sliders of the explorer and the pipeline, and the words for what they do.
const filterControls = (() => {
  const { steps } = arlab;
  const number = (text) => (text === "" ? NaN : Number(text.replace(",", ".")));
  const stops = {
    temperature: [...steps(0, 2, 0.05), ...steps(2.25, 5, 0.25), ...steps(5.5, 10, 0.5), ...steps(12, 20, 2), ...steps(25, 100, 5)],
    // "off" stands at the right end, where k is the whole vocabulary
    top_k: [...steps(1, 20, 1), 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100, 150, 200, 300, 400, 500, 700, 1000, 2000, 3000, 5000, 10000, 20000, Infinity],
    top_p: [...steps(0.01, 0.99, 0.01), 0.995, 0.999, 1],
    min_p: [0, 0.001, 0.002, 0.003, 0.005, 0.007, ...steps(0.01, 0.2, 0.01), ...steps(0.25, 1, 0.05)],
  };
  const within = (value, good) => (good(value) ? value : undefined);
  const off = (text) => /^(off|∞|)$/i.test(text);
  const sliders = (view, traits = Object.keys(stops)) => [
    view.slider({ trait: "temperature", label: "Temperature", stops: stops.temperature, reset: 1,
      format: (t) => (t === 0 ? "0 argmax" : String(t)), title: "Divides the logits: below 1 sharper, above 1 flatter, 0 the argmax",
      parse: (text) => within(number(text.replace(/\s*argmax/, "")), (t) => t >= 0 && Number.isFinite(t)) }),
    view.slider({ trait: "top_k", label: "Top-k", stops: stops.top_k, reset: 0, stored: (k) => (k === Infinity ? 0 : k),
      placed: (k) => (k === 0 ? Infinity : k), format: (k) => (k === 0 ? "off" : arlab.thousands(k)),
      title: "Keeps the k most probable tokens",
      parse: (text) => (off(text) ? 0 : within(number(text.replace(/,/g, "")), (k) => Number.isInteger(k) && k >= 0)) }),
    view.slider({ trait: "top_p", label: "Top-p", stops: stops.top_p, reset: 1, format: (p) => (p === 1 ? "1 off" : String(p)),
      title: "Keeps the nucleus: the most probable tokens until their mass reaches p",
      parse: (text) => within(number(text.replace(/\s*off/, "") || "1"), (p) => p > 0 && p <= 1) }),
    view.slider({ trait: "min_p", label: "Min-p", stops: stops.min_p, reset: 0, format: (p) => (p === 0 ? "off" : String(p)),
      title: "Keeps the tokens at least p times as probable as the most probable one",
      parse: (text) => (off(text) ? 0 : within(number(text), (p) => p >= 0 && p <= 1)) }),
  ].filter((row) => traits.includes(row.dataset.trait));
  const NAMES = { temperature: "temperature", top_k: "top-k", top_p: "top-p", min_p: "min-p" };
  // Applies one filter of the view to a Distribution.
  const applyTo = (dist, name, value) => {
    if (name === "temperature") return dist.temperature(value);
    if (name === "top_k") return dist.topK(value);
    if (name === "top_p") return dist.topP(value);
    return dist.minP(value);
  };
  return { sliders, applyTo, NAMES };
})();

// Prompt box: Enter or the button asks the kernel. It gives { box, sync }; sync() after a change of busy or prompt.
const OFFLINE = "This is a saved page: the sliders and the draws work, a new prompt and the next token need the notebook.";
const promptBox = (view, { isBusy, work, offline = OFFLINE, rows = 2, title = "Ask the model what comes next" }) => {
  const { h } = arlab, { live } = view;
  const box = h("textarea", { class: "dv-prompt-box", rows, "aria-label": "Prompt", spellcheck: "false", readonly: !live,
    "data-lm-suppress-shortcuts": "true", title: live ? "Enter runs the model, Shift+Enter makes a new line" : offline,
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      run();
    } });
  const run = () => { if (live && !isBusy()) work(() => view.ask("prompt", { text: box.value })); };
  const button = view.button("Run", run, { class: "al-button al-primary dv-run", title: live ? title : offline });
  const sync = () => { button.disabled = !live || isBusy(); };
  const show = () => { if (box.value !== view.get("prompt")) box.value = view.get("prompt"); };
  view.watch(["prompt"], show);
  show();
  sync();
  return { box: h("div", { class: "dv-prompt" }, box, button), sync };
};

// The strings of the first tokens come with the distribution, those of the others with the tokenizer's table.
const tokenTexts = (view) => {
  const head = () => view.get("_head_strings");
  const at = (dist, rank) => {
    const i = dist.order[rank];
    return i < head().length ? arlab.visible(head()[i]) : view.tokenText(dist.ids[i]);
  };
  const of = (dist, id) => {
    const i = dist.ids.subarray(0, head().length).indexOf(id);
    return i >= 0 ? arlab.visible(head()[i]) : view.tokenText(id);
  };
  return { at, of };
};

// The draws shown: the uniform numbers start .. start + count of the view's seed. They stay while a slider moves,
// so that one sees the same draw land elsewhere. marks: how often each rank was hit.
const draws = (view) => {
  const state = { count: 0, uniforms: new Float64Array(100), landed: -1, marks: new Uint16Array(0) };
  const more = (count) => view.set({ _draw_start: view.get("_draw_start") + view.get("_draw_count"), _draw_count: count });
  const update = (dist) => {
    const count = (state.count = view.get("_draw_count")), start = view.get("_draw_start"), seed = view.get("seed");
    if (state.marks.length !== dist.size) state.marks = new Uint16Array(dist.size);
    state.landed = -1;
    for (let i = 0; i < count; i++) state.uniforms[i] = uniform(seed, start + i);
    if (count === 1) state.landed = dist.land(state.uniforms[0]);
    if (count > 1) {
      state.marks.fill(0);
      for (let i = 0; i < count; i++) state.marks[dist.land(state.uniforms[i])]++;
    }
  };
  // What `view.drawn` tells Python.
  const told = (dist) => {
    if (state.count === 0) return {};
    if (state.count === 1) return { count: 1, u: state.uniforms[0], rank: state.landed + 1, id: dist.idAt(state.landed) };
    const counts = {};
    for (let rank = 0; rank < dist.n; rank++) if (state.marks[rank]) counts[dist.idAt(rank)] = state.marks[rank];
    return { count: state.count, counts };
  };
  // A sentence on the draw: an array of strings and elements.
  const sentence = (dist, texts, shown, nothing) => {
    const token = (text) => arlab.h("span", { class: "al-token dv-mark" }, text);
    if (state.count === 0) return [nothing];
    if (state.count === 1) {
      const r = state.landed, from = r ? dist.mass[r - 1] / dist.total : 0, to = dist.mass[r] / dist.total;
      return [`u = ${state.uniforms[0].toFixed(4)} lands on `, token(texts.at(dist, r)),
        `, rank ${arlab.thousands(r + 1)} of ${arlab.thousands(dist.n)}, which fills ${from.toFixed(3)} to ${to.toFixed(3)}.`];
    }
    let kinds = 0, beyond = 0;
    for (let i = 0; i < dist.n; i++) if (state.marks[i]) { kinds++; if (i >= shown) beyond += state.marks[i]; }
    return [`${state.count} draws fell on ${kinds} different token${kinds === 1 ? "" : "s"}`,
      beyond ? `, ${beyond} draws below the list` : "", ". A tick marks how often; the end of the filled bar is what to expect."];
  };
  return { state, more, update, told, sentence };
};
