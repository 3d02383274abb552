// The order view: a sum, one lane a model, and the step that all of them are at. A new sum is the kernel's; the rest is here.
function render({ model, el }) {
  const { h, setText } = arlab;
  const view = arlab.view(model, el, { label: "Generation order", draw });
  const { live } = view;
  const digits = model.get("_digits"), END = digits + 1, lanes = model.get("_lanes");
  const calm = globalThis.matchMedia("(prefers-reduced-motion: reduce)");
  const PACE = 900; // milliseconds a step
  const WHY = "A saved page has no kernel to add other numbers: choose one of the sums below, or open the notebook.";
  const step = () => view.get("step") ?? END;

  // ---- the sum --------------------------------------------------------------------------------------------------------
  const recorded = new Map(model.get("_recorded").map((one) => [`${one.a}+${one.b}`, one]));
  const current = () => {
    const now = view.get("_sum");
    return recorded.get(`${view.get("a")}+${view.get("b")}`) ?? now; // until the kernel has answered: what was there
  };
  const field = (trait, label) => {
    const input = h("input", { type: "text", class: "or-operand-field", inputmode: "numeric", autocomplete: "off", "aria-label": label, disabled: !live,
      title: live ? `A number from 0 to ${10 ** digits - 1}` : WHY, dataset: { trait }, "data-lm-suppress-shortcuts": "true", maxlength: digits, style: { width: `calc(${Math.max(7, digits + 1)}ch + 18px)` },
      onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); event.stopPropagation(); add(); } } });
    input.value = String(view.get(trait));
    view.watch([trait], () => { input.value = String(view.get(trait)); });
    return input;
  };
  const a = field("a", "First number"), b = field("b", "Second number");
  const good = (input) => {
    const fits = /^\d+$/.test(input.value.trim()) && Number(input.value) < 10 ** digits;
    if (fits) input.removeAttribute("aria-invalid");
    else { input.setAttribute("aria-invalid", "true"); view.fail(`“${input.value}” is not a number from 0 to ${10 ** digits - 1}.`); }
    return fits;
  };
  let asked = false;
  const ask = async (one, other) => {
    if (!live || asked) return;
    [a.value, b.value] = [String(one), String(other)];
    asked = true;
    view.redraw();
    await view.ask("add", { a: one, b: other });
    asked = false;
    view.redraw();
  };
  const add = () => { if ([a, b].every(good)) ask(Number(a.value), Number(b.value)); };
  const anyNumber = () => Math.floor(Math.random() * 10 ** digits);
  const addButton = view.button("Add", add, { class: "al-button al-primary" });
  const random = view.button("Random sum", () => ask(anyNumber(), anyNumber()));
  const chain = view.button("Long carry", () => ask(...orderSum.longCarry(digits)), { title: "A sum whose carry starts in the ones and travels through every place" });
  const makers = [addButton, random, chain];
  const why = h("p", { class: "al-note or-why" }, live ? "" : WHY);
  why.hidden = live;

  // ---- recorded sums ----------------------------------------------------------------------------------------------------
  const mark = (lane) => (lane.steps ? (lane.correct ? "✓" : "✗") : "–");
  const chips = [...recorded.values()].map((one) => {
    const marks = one.lanes.map((lane) => h("span", { class: "or-chip-mark", dataset: { correct: String(lane.correct ?? "") } }, mark(lane)));
    const told = one.lanes.map((lane, i) => `${lanes[i].name} ${lane.steps ? (lane.correct ? "right" : "wrong") : "not recorded"}`).join(", ");
    const chip = h("button", { type: "button", class: "or-chip", "data-lm-suppress-shortcuts": "true", title: told, "aria-label": `${one.a} + ${one.b}: ${told}`,
      onclick: () => { view.clear(); view.set({ a: one.a, b: one.b }); } }, h("span", {}, `${one.a} + ${one.b}`), marks);
    return { one, chip };
  });
  const choice = h("div", { class: "or-chips", role: "group", "aria-label": "Recorded sums" }, chips.map(({ chip }) => chip));

  // ---- steps ----------------------------------------------------------------------------------------------------------------
  let timer = 0, sent;
  const playing = () => timer !== 0;
  const place = (to) => { sent = to >= END ? null : Math.max(0, to); view.set({ step: sent }); };
  const pause = () => { clearInterval(timer); timer = 0; };
  const go = (to) => { pause(); place(to); view.redraw(); };
  const look = (at) => view.set({ place: view.get("place") === at ? null : at });
  const tick = () => {
    if (!view.root.isConnected) { pause(); return; }
    if (step() + 1 >= END) pause();
    place(step() + 1);
    view.redraw();
  };
  const play = () => {
    if (playing()) { pause(); view.redraw(); return; }
    if (calm.matches) { place(END); return; } // no motion that nobody steers
    if (step() >= END) place(0);
    timer = setInterval(tick, PACE);
    view.redraw();
  };
  const playButton = view.button("▶ Play", play, { class: "al-button or-play" });
  const back = view.button("‹ Step", () => go(step() - 1), { title: "One pass of each model back" });
  const next = view.button("Step ›", () => go(step() + 1), { title: "One pass of each model on" });
  const slider = view.slider({ trait: "step", label: "Step", stops: arlab.steps(0, END, 1), reset: null, title: "Passes of each model",
    stored: (stop) => (stop >= END ? null : stop), placed: (value) => value ?? END, format: (value) => `${value ?? END} of ${END}`,
    parse: (text) => {
      const found = /^(\d+)(\s*of\s*\d+)?$/.exec(text), to = found ? Number(found[1]) : NaN;
      return to < END ? to : to === END ? null : undefined;
    } });
  view.watch(["step"], () => { if (view.get("step") !== sent) pause(); sent = view.get("step"); });

  // ---- the whole ------------------------------------------------------------------------------------------------------------
  const wide = Math.max(240, 60 + 46 * END); // pixels that a lane needs
  const made = lanes.map((lane) => orderLane.make({ ...lane, digits, look }));
  const key = (kind, what, sample = "") => h("span", {}, h("i", { class: "or-key", dataset: { kind } }, sample), ` ${what}`);
  view.root.append(
    h("h3", {}, "Generation order"),
    h("p", {}, "One sum, written by each model in its own order. Every step is one pass of each model."),
    h("div", { class: "al-buttons or-sum" }, a, h("span", { class: "or-plus" }, "+"), b, addButton, random, chain), why,
    chips.length > 1 ? h("div", { class: "or-recorded" }, h("span", { class: "al-label" }, "Recorded"), choice) : "",
    h("div", { class: "or-steps" }, h("div", { class: "al-buttons" }, playButton, back, next), slider),
    h("div", { class: lanes.some(({ way }) => way === "in parallel") ? "or-lanes or-parallel" : "or-lanes", style: { gridTemplateColumns: `repeat(auto-fit, minmax(min(100%, ${wide}px), 1fr))` } }, made.map(({ box }) => box)),
    h("div", { class: "al-legend or-legend" }, key("known", "carry that a written digit shows", "1"), key("open", "carry that must be foreseen", "1"),
      key("needed", "digits that the framed one depends on", "4"), key("right", "✓ right", "5"), key("wrong", "✗ wrong", "5"),
      h("span", {}, "under each digit: its probability, and the step that wrote it; choose one to see it in every lane")));
  view.watch(["a", "b", "place", "_sum"]);

  function draw() {
    const now = current(), at = step();
    lanes.forEach((_, i) => made[i].show({ a: now.a, b: now.b, lane: now.lanes[i], step: at, focus: view.get("place") ?? null }));
    for (const { one, chip } of chips) chip.setAttribute("aria-pressed", String(one.a === now.a && one.b === now.b));
    setText(playButton, playing() ? "❚❚ Pause" : "▶ Play");
    back.disabled = at <= 0;
    next.disabled = at >= END;
    for (const button of makers) button.disabled = !live || asked;
  }

  const close = view.start();
  return () => { pause(); close(); };
}
export default { render };
