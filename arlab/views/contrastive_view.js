// The contrastive view. The kernel sends both models' log-probabilities once; every move of alpha is computed here.
const ROWS = 10; // tokens in the list
const FREE = 3; // tokens that would lead without the guard
const ROW = 22, GAP = 28; // pixels: a row, and the heading between the two lists
const FROZEN = "This is a saved page: the slider and the guard work, a new prompt and the next token need the notebook.";

function render({ model, el }) {
  const { h, setText, thousands } = arlab;
  const { power, prob, share, signed, written, modelName, capital } = contrastWords;
  const view = arlab.view(model, el, { label: "Contrastive decoding", draw });
  const { live } = view;
  const hasModel = view.get("_has_model");
  const strongName = () => view.get("strong_name"), weakName = () => view.get("weak_name");

  const name = (rank) => {
    const id = state.contrast.ids[rank], known = view.get("_known_strings")[id];
    return known === undefined ? view.tokenText(id) : arlab.visible(known);
  };
  const number = (rank) => signed(state.contrast.score[rank]);
  const token = (rank) => h("span", { class: "al-token dv-mark" }, name(rank));

  // ---- what a move computes ------------------------------------------------------------------------------------
  const state = { contrast: null, chosen: 0, limit: -Infinity, floor: 8, low: -1, high: 1, ticks: [], version: 0 };
  let stale = true, shown = 0, free = 0;
  function load() {
    const floats = (trait) => arlab.floats(view.get(trait));
    const contrast = state.contrast = new Contrast({ logits: floats("_strong_logits"), strong: floats("_strong_logprobs"),
      weak: floats("_weak_logprobs"), ids: arlab.ints(view.get("_sorted_ids")) });
    shown = Math.min(ROWS, contrast.size);
    free = Math.min(FREE, contrast.free.length);
    // Scales that stay while alpha moves: the head of the strong model and the best scores of all must fit.
    const seen = [...Array.from({ length: shown }, (_, i) => i), ...contrast.free].filter((i) => i < contrast.finite);
    const lowest = Math.min(...seen.map((i) => Math.min(contrast.strong[i], Math.max(-40, contrast.weak[i]))));
    state.floor = Math.max(4, Math.min(14, Math.ceil(-lowest / Math.LN10)));
    const every = state.floor <= 4 ? 1 : state.floor <= 8 ? 2 : state.floor <= 12 ? 3 : 4;
    state.ticks = Array.from({ length: Math.floor(state.floor / every) + 1 }, (_, i) => i * every);
    state.high = Math.min(20, Math.max(1, ...seen.map((i) => contrast.score[i]))) * 1.04;
    state.low = Math.max(-8, Math.min(-state.high / 6, ...seen.map((i) => contrast.score[i])));
    state.version++;
    list.style.height = `${shown * ROW + GAP + free * ROW}px`;
    heading.style.top = `${shown * ROW}px`;
    rows.forEach((cell, i) => {
      cell.row.hidden = i < ROWS ? i >= shown : i - ROWS >= free;
      cell.row.style.top = `${topOf(i)}px`;
      cell.rank = -1;
    });
    stale = false;
  }
  function listed() {
    const { contrast } = state;
    if (view.get("order") === "strong") return Array.from({ length: shown }, (_, i) => i);
    const ranks = contrast.best(contrast.n, shown);
    for (let i = contrast.n; ranks.length < shown; i++) ranks.push(i); // then what the guard cut, most probable first
    return ranks;
  }

  // ---- elements --------------------------------------------------------------------------------------------------
  let busy = false;
  const work = async (question) => { busy = true; view.redraw(); await question(); busy = false; view.redraw(); };
  const prompt = promptBox(view, { isBusy: () => busy, work, offline: FROZEN });
  const textBox = h("div", { class: "nt-text al-token", "aria-label": "Text so far" });
  const undoButton = view.button("Undo", () => work(() => view.ask("undo")), { title: live ? "Take back the last appended token" : FROZEN });
  const append = (rank) => () => work(() => view.ask("append", { token_id: state.contrast.ids[rank()] }));
  const appendChosen = view.button("Append", append(() => state.chosen), { class: "al-button al-primary nt-append cv-append" });
  const appendFirst = view.button("Append", append(() => 0), { class: "al-button nt-append" });
  const alpha = view.slider({ trait: "alpha", label: "Alpha α", reset: 0.1, format: written,
    stops: [...[1e-5, 1e-4, 1e-3, 1e-2, 0.1].flatMap((decade) => [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8].map((x) => Number((x * decade).toPrecision(2)))), 1],
    title: "A token is plausible if the strong model gives it at least alpha times the probability of its favourite",
    parse: (text) => { const x = text === "" ? NaN : Number(text.replace(",", ".")); return x > 0 && x <= 1 ? x : undefined; } });
  const guard = view.checkbox({ trait: "guarded", label: "guard: plausible tokens only", title: "Off is alpha=None: every token competes" });
  const order = view.segmented({ trait: "order", label: "Order", options: [
    { value: "score", label: "by score", title: "The highest plausible scores first" },
    { value: "strong", label: "by probability", title: "The strong model's most probable tokens first" }] });

  const figure = (id, title) => {
    const value = h("b", { dataset: { figure: id } }), what = h("span", {});
    return { value, what, box: h("div", { class: "al-figure", title }, value, what) };
  };
  const plausible = figure("plausible", "Tokens that may be chosen");
  const threshold = figure("threshold", "The least probability that is plausible");
  const winner = figure("chosen", "The highest score among the plausible tokens");
  const without = figure("free", "The highest score of all tokens");

  const rows = Array.from({ length: ROWS + FREE }, () => {
    const mark = h("span", { class: "cv-mark" }), label = h("span", { class: "nt-token al-token" });
    const strong = h("span", { class: "cv-number" }), weak = h("span", { class: "cv-number" }), score = h("span", { class: "cv-number cv-score" });
    const row = h("div", { class: "cv-row", role: "listitem" }, mark, label, h("i", {}), strong, h("i", {}), weak, h("i", {}), score);
    return { row, mark, label, strong, weak, score, rank: -1 };
  });
  const topOf = (i) => (i < ROWS ? i * ROW : shown * ROW + GAP + (i - ROWS) * ROW);
  const heading = h("div", { class: "cv-between al-note" }, "the highest scores of all, with no guard");
  const bars = view.canvas({ height: () => shown * ROW + GAP + free * ROW, draw: drawBars,
    label: "Bars on a logarithmic scale: probability under the strong model, under the weak model, and the score" });
  bars.box.classList.add("cv-bars");
  const list = h("div", { class: "cv-list", role: "list", "aria-label": "Tokens" }, bars.box, rows.slice(0, ROWS).map(({ row }) => row),
    heading, rows.slice(ROWS).map(({ row }) => row));
  const axis = view.canvas({ height: 16, label: "Scales of the bars", draw: drawAxis });
  axis.box.classList.add("cv-axis");
  const strongHead = h("span", { class: "cv-head" }), weakHead = h("span", { class: "cv-head" });
  const plane = contrastivePlane(view, state, name);
  const story = h("div", { class: "cv-story", role: "status" });
  const key = (kind, text) => h("span", {}, h("i", { class: kind }), text);

  view.root.append(...[
    h("h3", {}, "Contrastive decoding"),
    hasModel && prompt.box,
    hasModel && h("div", { class: "nt-so-far" }, textBox, undoButton),
    hasModel && !live && h("p", { class: "al-note" }, FROZEN),
    h("div", { class: "al-sliders cv-controls" }, alpha, h("div", { class: "cv-switches" }, guard, order)),
    h("div", { class: "dv-figures" }, plausible.box, threshold.box, winner.box, without.box),
    h("div", { class: "cv-row cv-heads al-note" }, h("span", {}), h("span", {}, "token"), strongHead, weakHead,
      h("span", { class: "cv-head" }, "score: log ratio, nats")),
    axis.box, list,
    h("div", { class: "al-legend cv-legend" }, h("span", {}, h("b", {}, "◆"), " chosen"), h("span", {}, h("b", {}, "○"), " the strong model's first choice"),
      key("cv-key-line", "guard: α times the largest p"), key("cv-key-cut", "not plausible: its score counts as −∞")),
    h("div", { class: "cv-below" },
      h("div", {}, h("h4", {}, "The whole vocabulary"), plane.box,
        h("p", { class: "al-note" }, "A point is a token; its score is how far it lies above the diagonal. ◆ chosen, ○ the strong model's first choice, × what would win without the guard. Dotted: the winner's score.")),
      h("div", {}, hasModel && h("div", { class: "al-buttons cv-buttons" }, appendChosen, appendFirst), h("h4", {}, "In words"), story)),
  ].filter(Boolean));

  // ---- drawing -----------------------------------------------------------------------------------------------------
  function draw() {
    if (!view.get("_strong_logits")?.byteLength) return;
    if (stale) { load(); bars.resize(); }
    const { contrast } = state, guarded = view.get("guarded");
    contrast.guard(guarded ? view.get("alpha") : null);
    const ranks = listed();
    state.chosen = view.get("order") === "score" ? ranks[0] : contrast.best(contrast.n, 1)[0];
    state.limit = guarded ? contrast.strong[0] + Math.log(view.get("alpha")) : -Infinity;
    state.beaten = contrast.beaten(state.chosen);
    setText(strongHead, `p, ${strongName()}`);
    setText(weakHead, `p, ${weakName()}`);
    showRows([...ranks, ...Array(ROWS - shown).fill(-1), ...contrast.free]);
    showFigures(guarded);
    tell(guarded);
    if (hasModel) showButtons();
    view.report(() => {
      const pair = (rank) => [contrast.ids[rank], contrast.score[rank]];
      return { page_figures: { plausible: contrast.n, vocab_size: contrast.size, mass: contrast.plausibleMass,
        threshold: Math.exp(state.limit), chosen: contrast.ids[state.chosen], chosen_score: contrast.score[state.chosen],
        strong_first: contrast.ids[0], free_first: pair(contrast.free[0])[0], free_score: pair(contrast.free[0])[1],
        beaten: state.beaten, head: contrast.best(contrast.n, ROWS).map(pair) } };
    });
  }

  function showRows(ranks) {
    const { contrast } = state;
    rows.forEach((cell, i) => {
      const rank = ranks[i];
      if (rank === undefined || rank < 0) return;
      const text = name(rank);
      setText(cell.label, text);
      if (cell.rank !== rank) {
        cell.rank = rank;
        cell.row.dataset.id = contrast.ids[rank];
        cell.row.title = `id ${contrast.ids[rank]}, number ${thousands(rank + 1)} of the strong model`;
        setText(cell.strong, prob(contrast.strong[rank]));
        setText(cell.weak, prob(contrast.weak[rank]));
      }
      const kept = rank < contrast.n ? "1" : "0";
      setText(cell.score, kept === "1" ? number(rank) : `(${number(rank)})`);
      if (cell.row.dataset.kept !== kept) cell.row.dataset.kept = kept;
      setText(cell.mark, `${rank === state.chosen ? "◆" : ""}${rank === 0 ? "○" : ""}`);
    });
  }

  const put = (element, rank) => { // a token and its score
    const text = `${name(rank)} ${number(rank)}`;
    if (element.textContent !== text) element.replaceChildren(h("span", { class: "al-token" }, name(rank)), ` ${number(rank)}`);
  };
  function showFigures(guarded) {
    const { contrast } = state;
    setText(plausible.value, `${thousands(contrast.n)} of ${thousands(contrast.size)}`);
    setText(plausible.what, guarded ? `plausible, ${share(contrast.plausibleMass)} of the mass` : "possible, none is cut");
    setText(threshold.value, guarded ? `≥ ${prob(state.limit)}` : "no guard");
    setText(threshold.what, guarded ? `is plausible: α × ${prob(contrast.strong[0])}` : "every possible token competes");
    put(winner.value, state.chosen);
    setText(winner.what, `chosen: highest ${guarded ? "plausible " : ""}score`);
    put(without.value, contrast.free[0]);
    setText(without.what, "highest score without the guard");
  }

  function tell(guarded) {
    const names = { S: modelName(strongName(), "strong"), W: modelName(weakName(), "weak") };
    const { contrast, chosen } = state;
    const key = [state.version, guarded, contrast.n, view.get("alpha"), names.S, names.W, ...[chosen, 0, contrast.free[0]].map(name)].join("\u0000");
    if (key === story.dataset.key) return;
    story.dataset.key = key;
    story.replaceChildren(...contrastWords.story({ ...state, ...names, alpha: guarded ? view.get("alpha") : null, token }).map((parts) => h("p", {}, parts)));
  }

  function showButtons() {
    setText(appendChosen, `Append ${name(state.chosen)}`);
    setText(appendFirst, state.chosen === 0 ? `${capital(modelName(strongName(), "strong"))} alone: the same` : `Append ${name(0)} (${strongName()} alone)`);
    appendChosen.disabled = !live || busy;
    appendFirst.disabled = !live || busy || state.chosen === 0;
    for (const button of [appendChosen, appendFirst]) button.title = live ? "Add this token to the text and ask both models again" : FROZEN;
    undoButton.disabled = !live || view.get("_appended").length === 0 || busy;
    prompt.sync();
  }

  // Where the three columns of bars are: measured once for a width.
  let columns = [], measured = 0;
  const measure = (width) => {
    if (width === measured) return columns;
    const cells = [...rows[0].row.querySelectorAll("i")];
    columns = cells.map((cell) => ({ x: cell.offsetLeft, width: cell.offsetWidth }));
    if (columns[0].width) measured = width;
    return columns;
  };
  const length = (logp) => Math.max(0, 1 + logp / (Math.LN10 * state.floor)); // share of the column
  const along = (score, { x, width }) => x + (Math.max(0, Math.min(1, (score - state.low) / (state.high - state.low)))) * width;
  const hatching = arlab.hatching();
  function drawBars(ctx, width, height, theme) {
    const { contrast } = state;
    if (!contrast) return;
    const [strong, weak, score] = measure(width), zero = along(0, score), pattern = hatching(ctx, theme.cut);
    ctx.strokeStyle = theme.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (const { x, width: w } of [strong, weak]) for (const decade of state.ticks) {
      const at = Math.round(x + (1 - decade / state.floor) * w) + 0.5;
      ctx.moveTo(at, 0);
      ctx.lineTo(at, height);
    }
    ctx.stroke();
    rows.forEach(({ row, rank }, i) => {
      if (row.hidden || rank < 0) return;
      const y = topOf(i) + 5, tall = ROW - 10, kept = rank < contrast.n;
      const bar = (from, to, colour) => {
        ctx.fillStyle = kept ? colour : pattern;
        ctx.strokeStyle = theme.cut;
        ctx.fillRect(from, y, to - from, tall);
        if (!kept && to - from > 1) ctx.strokeRect(from + 0.5, y + 0.5, to - from - 1, tall - 1);
      };
      bar(strong.x, strong.x + length(contrast.strong[rank]) * strong.width, theme.series1);
      bar(weak.x, weak.x + length(contrast.weak[rank]) * weak.width, theme.series2);
      const end = along(contrast.score[rank], score);
      bar(Math.min(zero, end), Math.max(zero, end, Math.min(zero, end) + 1), theme.series3);
    });
    const line = (x, colour, dash, wide) => {
      ctx.strokeStyle = colour;
      ctx.lineWidth = wide;
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(x, 0);
      ctx.lineTo(x, height);
      ctx.stroke();
      ctx.setLineDash([]);
    };
    line(Math.round(zero) + 0.5, theme.soft, [], 1);
    if (state.limit !== -Infinity) line(strong.x + length(state.limit) * strong.width, theme.accent, [5, 4], 2);
  }
  function drawAxis(ctx, width, height, theme) {
    if (!state.contrast) return;
    const [strong, weak, score] = measure(bars.width), few = strong.width < 120;
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.faint;
    ctx.textAlign = "center";
    for (const { x, width: w } of [strong, weak]) state.ticks.forEach((decade, i) => {
      if (!few || i % 2 === 0) ctx.fillText(power(decade), x + (1 - decade / state.floor) * w, 12);
    });
    ctx.fillText("0", along(0, score), 12);
    const top = Math.floor(state.high);
    if (along(top, score) - along(0, score) > 24) ctx.fillText(`+${top}`, along(top, score), 12);
    if (state.limit === -Infinity) return;
    ctx.fillStyle = theme.accent;
    const at = strong.x + length(state.limit) * strong.width;
    ctx.beginPath();
    ctx.moveTo(at - 4, 9); ctx.lineTo(at + 4, 9); ctx.lineTo(at, 16);
    ctx.fill();
  }

  // ---- text and listening --------------------------------------------------------------------------------------------
  function showText() {
    const pieces = view.get("_appended").map((piece) => h("span", { class: "nt-added" }, arlab.visible(piece)));
    textBox.replaceChildren(h("span", { class: "nt-given" }, view.get("prompt")), ...pieces, h("span", { class: "nt-caret", "aria-hidden": "true" }));
    textBox.scrollTop = textBox.scrollHeight;
  }
  view.watch(["_strong_logits", "_strong_logprobs", "_weak_logprobs", "_sorted_ids"], () => { stale = true; });
  view.watch(["_known_strings", "strong_name", "weak_name"]);
  view.watch(["prompt", "_appended"], showText);
  showText();
  return view.start();
}

export default { render };
