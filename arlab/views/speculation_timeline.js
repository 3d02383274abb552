// Speculation timeline: the two lanes, what moves them, and what they add up to. No question goes to the kernel.
function render({ model, el }) {
  const { h, setText, thousands } = arlab;
  const { clock, share, times, many } = speculation;
  const name = model.get("_name");
  const view = arlab.view(model, el, { label: name ? `Speculation timeline: ${name}` : "Speculation timeline", draw });
  const runs = new Map(model.get("_runs").map((run) => [run.gamma, { ...run, lane: speculation.speculativeLane(run) }]));
  const plain = speculation.plainLane(model.get("_plain"));
  const calm = globalThis.matchMedia("(prefers-reduced-motion: reduce)");
  const state = { plain, lane: null, gamma: 0, end: 1, t: Infinity };
  const run = () => runs.get(view.get("gamma")) ?? runs.values().next().value;
  const endOf = (one) => Math.max(plain.end, one.lane.end);

  // ---- the playhead -----------------------------------------------------------------------------------------------
  // The trait `position` holds seconds, or null for the end, whatever the gamma. While it plays, `playhead` leads and
  // the trait rests: the kernel is not told of every frame, and its echoes cannot pull the playhead back.
  let playing = false, playhead = 0, sent = null, frame = 0, before = 0;
  const now = () => {
    const at = playing ? playhead : view.get("position");
    return at === null || at === undefined || at >= endOf(run()) ? Infinity : at;
  };
  const place = (t) => {
    sent = t >= endOf(run()) ? null : Math.max(0, t);
    model.set("position", sent);
    view.report(() => ({ position: view.get("position") }));
    view.redraw();
  };
  const tick = (time) => {
    if (!playing) return;
    const gone = time - before; // long gaps: the page was out of sight, and waited
    before = time;
    if (gone > 0 && gone < 1000) playhead += (gone / 1000) * view.get("speed");
    if (playhead >= state.end || !view.root.isConnected) { pause(); return; }
    view.redraw();
    frame = requestAnimationFrame(tick);
  };
  const pause = () => {
    cancelAnimationFrame(frame);
    if (!playing) return;
    playing = false;
    place(playhead);
  };
  const play = () => {
    if (playing) { pause(); return; }
    if (calm.matches) { // no motion that nobody steers: straight to the end
      still.hidden = false;
      place(Infinity);
      return;
    }
    playhead = now() === Infinity ? 0 : now();
    sent = view.get("position");
    playing = true;
    before = performance.now();
    frame = requestAnimationFrame(tick);
    view.redraw();
  };
  const move = (t) => { pause(); place(t); };
  const restart = () => { move(0); if (!calm.matches) play(); };
  const hop = (way) => { // to where a call of the speculative run ended
    const ends = state.lane.calls.map((call) => call.end), t = now() === Infinity ? state.end : now();
    const to = way > 0 ? ends.find((end) => end > t + 1e-12) : ends.findLast((end) => end < t - 1e-12);
    move(to ?? (way > 0 ? Infinity : 0));
  };

  // ---- controls -----------------------------------------------------------------------------------------------------
  const playButton = view.button("▶ Play", play, { class: "al-button al-primary sp-play" });
  const back = view.button("‹ Call", () => hop(-1), { title: "Back to the end of the call before" });
  const next = view.button("Call ›", () => hop(1), { title: "On to the end of the next call of the target" });
  const buttons = h("div", { class: "al-buttons" }, playButton,
    view.button("↺ Restart", restart, { title: "Play both runs from the start" }), back, next,
    view.button("Show all", () => move(Infinity), { title: "The end: everything can be seen" }));
  const SPEEDS = arlab.steps(-10, 6, 1).map((power) => 2 ** power);
  const speed = view.slider({ trait: "speed", label: "Speed", stops: SPEEDS, reset: 1, format: speculation.pace, parse: speculation.readPace,
    title: "Real time is as fast as it went when the runs were made" });
  const gammas = [...runs.keys()];
  const gamma = view.slider({ trait: "gamma", label: "Gamma", stops: gammas, reset: model.get("gamma"),
    title: "How many tokens are drafted for each call of the target: chooses among the recorded runs",
    parse: (text) => (gammas.includes(Number(text)) ? Number(text) : undefined) });
  gamma.hidden = gammas.length < 2;
  const TICKS = 1000;
  const scrub = h("input", { type: "range", class: "sp-scrub", min: 0, max: TICKS, step: 1, "aria-label": "Time in both runs",
    "data-lm-suppress-shortcuts": "true", title: "Drag, or use the arrow keys; space plays and pauses",
    oninput: () => { const at = Number(scrub.value); move(at === TICKS ? Infinity : (at / TICKS) * state.end); },
    onkeydown: (event) => { if (event.key === " ") { event.preventDefault(); event.stopPropagation(); play(); } } });
  const bars = speculationBars(view, state);
  bars.box.classList.add("sp-bars");
  let dragging = false;
  const toPointer = (event) => move(bars.second(event.clientX - bars.box.getBoundingClientRect().left) || 0);
  view.listen(bars.box, "pointerdown", (event) => { dragging = true; bars.box.setPointerCapture(event.pointerId); toPointer(event); });
  view.listen(bars.box, "pointermove", (event) => { if (dragging) toPointer(event); });
  for (const over of ["pointerup", "pointercancel"]) view.listen(bars.box, over, () => { dragging = false; });
  const still = h("p", { class: "al-note sp-still", role: "status", hidden: true },
    "Your system asks for less motion, so this shows the end at once. The call buttons and the time slider move at your own pace.");

  // ---- text -----------------------------------------------------------------------------------------------------------
  const text = speculationText(view, () => view.get("_words"));
  const left = text.column("plain"), right = text.column("speculative"), detail = text.chips();
  const given = view.get("_prompt"), prompt = text.running(given.length > 320 ? `… ${given.slice(-300)}` : given);
  const key = (kind, what, sample) => h("span", {}, h("span", { class: "sp-part al-token", dataset: { state: kind, kind } }, sample), ` ${what}`);
  const legend = h("div", { class: "al-legend sp-legend" }, key("accepted", "✓ drafted, accepted", "token"), key("corrected", "◆ C corrected", "token"),
    key("bonus", "▲ B bonus", "token"), key("rejected", "✗ drafted, rejected", "token"), key("unused", "– drafted, not tested", "token"),
    key("pending", "being judged", "token"), h("span", {}, h("i", { class: "sp-key-draft" }), "drafting"), h("span", {}, h("i", {}), "a call of the target"),
    h("span", {}, "above each call: its tokens, hollow where thrown away"));

  // ---- figures --------------------------------------------------------------------------------------------------------
  const figure = (what, named) => {
    const value = h("b", { dataset: { figure: what } }), note = h("span", { dataset: { note: what } });
    return { value, note, box: h("div", { class: "al-figure", title: named }, value, note) };
  };
  const speedup = figure("speedup", "Time for each token without speculation, over that with it");
  const perCall = figure("tokens_per_call", "Predicted: (1 - a^(g+1)) / (1 - a) at the predicted acceptance a, averaged over drafts of g tokens");
  const acceptance = figure("acceptance", "Accepted, of the drafted tokens that were tested. Predicted: the mean of sum min(p, q) over the same places");
  const calls = figure("calls", "Passes of the target through its layers"), spent = figure("drafting", "Of the time with speculation");
  const same = h("p", { class: "sp-same", role: "status" });
  const HEAD = ["gamma", "target calls", "tokens a call", "predicted", "accepted", "predicted", "drafting", "time", "speed-up"];
  const rows = [...runs.values()].map(({ gamma: size, summary: s }) => {
    const pick = view.button(String(size), () => view.set({ gamma: size }), { class: "al-button sp-pick", title: `Show the run with gamma ${size}` });
    const cells = [thousands(s.calls), s.tokens_per_call.toFixed(2), s.predicted_tokens_per_call.toFixed(2), share(s.acceptance),
      share(s.predicted_acceptance), share(s.draft_seconds / s.seconds), clock(s.seconds), times(s.speedup)];
    return { size, pick, row: h("tr", { dataset: { gamma: size } }, h("th", { scope: "row" }, pick), cells.map((one, i) => h("td", { dataset: { column: i + 1 } }, one))) };
  });
  const table = h("table", { class: "sp-table", "aria-label": "All recorded runs" },
    h("thead", {}, h("tr", {}, HEAD.map((one, i) => h("th", { scope: "col", dataset: { column: i } }, one)))), h("tbody", {}, rows.map(({ row }) => row)));

  view.root.append(
    h("h3", {}, name ? `Speculation timeline: ${name}` : "Speculation timeline"),
    h("p", {}, "One prompt, decoded twice, in the time it took: a target call for each token; a target call for several drafted ones."),
    h("div", { class: "sp-buttons" }, buttons,
      view.checkbox({ trait: "show_rejected", label: "show rejected drafts", title: "Show the drafted tokens that were thrown away" })),
    h("div", { class: "al-sliders sp-sliders" }, gamma, speed),
    still, bars.box, scrub, h("div", { class: "sp-columns" }, left.box, right.box), legend, detail.box,
    h("div", { class: "al-panel sp-panel" }, h("div", { class: "al-figures" }, [speedup, perCall, acceptance, calls, spent].map((one) => one.box)), same, table));
  view.watch(["gamma", "speed", "show_rejected"]);
  view.watch(["position"], () => { // set from Python while it plays: that wins
    if (!playing || view.get("position") === sent) return;
    playing = false;
    cancelAnimationFrame(frame);
  });
  view.listen(calm, "change", () => { if (calm.matches) pause(); still.hidden = true; });

  // ---- drawing --------------------------------------------------------------------------------------------------------
  left.set(plain, "Without speculation", prompt);
  let drawn = null;
  function draw() {
    const one = run();
    state.t = now();
    if (drawn !== one) {
      drawn = one;
      Object.assign(state, { lane: one.lane, gamma: one.gamma, end: endOf(one) });
      bars.resize(); // the towers are as high as gamma asks
      right.set(one.lane, `With speculation, gamma ${one.gamma}`, prompt);
      figures(one.summary);
      for (const { size, pick, row } of rows) {
        pick.setAttribute("aria-pressed", String(size === one.gamma));
        row.dataset.chosen = String(size === one.gamma);
      }
    }
    view.root.dataset.rejected = String(Boolean(view.get("show_rejected")));
    setText(playButton, playing ? "❚❚ Pause" : "▶ Play");
    back.disabled = state.t === 0;
    next.disabled = state.t === Infinity;
    const at = state.t === Infinity ? TICKS : Math.min(TICKS - 1, Math.round((state.t / state.end) * TICKS));
    if (Number(scrub.value) !== at) scrub.value = at;
    const said = [[plain, left], [one.lane, right]].map(([lane, column]) => {
      const over = speculation.callsAt(lane, state.t), tokens = speculation.tokensAt(lane, over), done = over === lane.calls.length;
      setText(column.count, `${many(tokens, "token")}, ${many(over, "call")}, ${clock(Math.min(state.t, lane.end))}${done ? " ■" : ""}`);
      column.count.dataset.done = String(done);
      column.show(state.t, playing);
      return tokens;
    });
    scrub.setAttribute("aria-valuetext", `${clock(Math.min(state.t, state.end))} of ${clock(state.end)}: ${said[0]} tokens without speculation, ${said[1]} with it`);
    detail.show(one.lane, speculation.callsAt(one.lane, state.t));
  }

  function figures(s) {
    setText(speedup.value, times(s.speedup));
    setText(speedup.note, `${s.speedup >= 1 ? "speed-up" : "slower than without"}: ${clock(s.plain_seconds)} → ${clock(s.seconds)}`);
    setText(perCall.value, s.tokens_per_call.toFixed(2));
    setText(perCall.note, `tokens a target call; predicted ${s.predicted_tokens_per_call.toFixed(2)}`);
    setText(acceptance.value, share(s.acceptance));
    setText(acceptance.note, s.tested ? `of ${many(s.tested, "tested draft")} accepted; predicted ${share(s.predicted_acceptance)}` : "nothing was drafted");
    setText(calls.value, thousands(s.calls));
    setText(calls.note, `target calls instead of ${thousands(plain.calls.length)}`);
    setText(spent.value, share(s.draft_seconds / s.seconds));
    setText(spent.note, "of the time went into drafting");
    setText(same, verdict(s));
    same.dataset.same = String(s.parts_at === null);
  }
  // Of both texts, counted, not assumed.
  function verdict(s) {
    const greedy = view.get("_greedy"), at = s.parts_at, tokens = plain.parts.length;
    if (at === null) {
      return greedy ? `Greedy: the two texts are identical, all ${many(tokens, "token")} compared. Speculation changed the time and nothing else.`
        : `The two texts happen to be identical, all ${many(tokens, "token")}.`;
    }
    if (!greedy) return `Sampled: two draws from one distribution, so the texts need not agree (here they part at token ${at + 1}).`;
    const own = run().lane.calls.flatMap((call) => call.step.tokens), quote = (id) => (id === undefined ? "nothing" : `“${arlab.visible(text.word(id))}”`);
    return `Greedy, yet the texts part at token ${at + 1}: ${quote(view.get("_plain").tokens[at])} without speculation, ${quote(own[at])} with it. `
      + "Two logits so close that rounding decides can do that; anything else is a fault.";
  }

  const close = view.start();
  return () => { pause(); close(); };
}
export default { render };
