// The next-token explorer. The kernel sends sorted logits once; every move of a slider is computed here.
const ROWS = 18; // tokens drawn
const ROW = 22; // pixels a row

function render({ model, el }) {
  const { h, setText, percent, thousands } = arlab;
  const view = arlab.view(model, el, { label: "Next-token explorer", draw });
  const { live } = view;
  const hasModel = view.get("_has_model");
  const texts = tokenTexts(view), draw100 = draws(view), hits = draw100.state;

  // What a move computes, in buffers made once for a distribution.
  let raw, now, shown = 0;
  let stale = true; // the distribution changed
  let renamed = true; // the strings of its tokens came
  const state = { now: null, heated: 0, afterK: 0, cutBy: "", rawEntropy: 0, get count() { return hits.count; }, uniforms: hits.uniforms };

  function load() {
    const logits = arlab.floats(view.get("_sorted_logits")), ids = arlab.ints(view.get("_sorted_ids"));
    raw = new Distribution(logits, ids).reset().weigh();
    now = state.now = new Distribution(logits, ids);
    state.rawEntropy = raw.entropy();
    shown = Math.min(ROWS, logits.length);
    list.style.height = `${shown * ROW}px`;
    rows.forEach((cell, i) => {
      cell.row.hidden = i >= shown;
      if (i >= shown) return;
      cell.row.dataset.id = ids[i];
      setText(cell.id, String(ids[i]));
      setText(cell.raw, percent(raw.p(i)));
    });
    stale = false;
    renamed = true;
  }

  function filter() {
    state.cutBy = "";
    now.reset();
    const step = (trait) => {
      const before = now.n;
      filterControls.applyTo(now, trait, view.get(trait));
      if (now.n < before) state.cutBy = filterControls.NAMES[trait];
    };
    step("temperature");
    state.heated = now.weigh().total; // mass of the whole vocabulary after temperature
    step("top_k");
    state.afterK = now.total;
    step("top_p");
    step("min_p");
  }

  // ---- elements ---------------------------------------------------------------------------------------------
  let busy = false;
  const work = async (question) => { busy = true; view.redraw(); await question(); busy = false; view.redraw(); };
  const prompt = promptBox(view, { isBusy: () => busy, work });
  const textBox = h("div", { class: "nt-text al-token", "aria-label": "Text so far" });
  const undoButton = view.button("Undo", () => work(() => view.ask("undo")), { title: live ? "Take back the last appended token" : OFFLINE });
  const appendButton = view.button("Append", () => work(() => view.ask("append", { token_id: picked() })), { class: "al-button nt-append" });

  const figure = (name, title) => {
    const value = h("b", { dataset: { figure: name } }), what = h("span", {});
    return { value, what, box: h("div", { class: "al-figure", title }, value, what) };
  };
  const entropy = figure("entropy", "Entropy of the model's distribution, and of what is left after the filters");
  const choices = figure("choices", "2 to the power of the entropy: as many equally likely tokens would be as uncertain");
  const kept = figure("kept", "Tokens that can still be drawn");
  const mass = figure("mass", "Their probability after temperature, before they are renormalised");

  // Head of the distribution: text in rows, bars on one canvas beneath them.
  const rows = Array.from({ length: ROWS }, (_, i) => {
    const token = h("span", { class: "nt-token al-token" }), id = h("span", { class: "nt-id" });
    const after = h("span", { class: "nt-after" }), rawP = h("span", { class: "nt-raw" }), count = h("span", { class: "nt-count" });
    const row = h("div", { class: "nt-row", role: "option", "aria-selected": "false", onclick: () => choose(i) },
      h("span", { class: "nt-name" }, token, id), h("span", {}), after, rawP, count);
    return { row, token, id, after, raw: rawP, count };
  });
  const bars = view.canvas({ height: ROWS * ROW, draw: drawBars,
    label: "Bars: probability after the filters, filled; in the model's distribution, outlined" });
  bars.box.classList.add("nt-bars");
  const axis = view.canvas({ height: 16, label: "Scale of the bars", draw: drawAxis });
  const list = h("div", { class: "nt-list", role: "listbox", tabindex: 0, "aria-label": "Most probable next tokens",
    "data-lm-suppress-shortcuts": "true",
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const at = rows.findIndex(({ row }) => row.getAttribute("aria-selected") === "true");
      choose(Math.max(0, Math.min(shown - 1, at + step)), true);
    } }, bars.box, rows.map(({ row }) => row));
  const rest = h("div", { class: "nt-rest al-note" });
  const scale = view.segmented({ trait: "bar_scale", label: "Bars", options: [
    { value: "fit", label: "fit", title: "The longest bar fills the width" },
    { value: "full", label: "0–100 %", title: "The width is a probability of 1" }] });
  const curve = cumulativeCurve(view, state);
  const result = h("div", { class: "dv-result", role: "status" });
  const drawMany = (count) => () => { view.set({ chosen: -1 }); draw100.more(count); };

  view.root.append(...[
    h("h3", {}, "Next-token explorer"),
    hasModel && prompt.box,
    hasModel && h("div", { class: "nt-so-far" }, textBox, undoButton),
    hasModel && !live && h("p", { class: "al-note" }, OFFLINE),
    h("div", { class: "al-sliders dv-sliders" }, filterControls.sliders(view)),
    h("div", { class: "dv-figures" }, entropy.box, choices.box, kept.box, mass.box),
    h("div", { class: "nt-main" },
      h("div", {},
        h("div", { class: "nt-heading" }, h("h4", {}, "Most probable tokens"), scale),
        h("div", { class: "nt-columns al-note" }, h("span", {}, "token, id"), axis.box,
          h("span", { class: "nt-after" }, h("i", { class: "dv-key-fill" }), "after"),
          h("span", { class: "nt-raw" }, h("i", { class: "dv-key-line" }), "model"),
          h("span", { class: "nt-count" }, "drawn")),
        list, rest),
      h("div", {},
        h("div", { class: "nt-heading" }, h("h4", {}, "Cumulative probability")), curve.box,
        h("div", { class: "al-legend nt-legend" }, h("span", {}, h("i", { class: "nt-key-kept" }), "kept, renormalised"),
          h("span", {}, h("i", { class: "nt-key-all" }), "after temperature")),
        h("div", { class: "al-buttons" },
          view.button("Draw one", drawMany(1), { class: "al-button al-primary" }),
          view.button("Draw a hundred", drawMany(100)), hasModel && appendButton),
        result)),
  ].filter(Boolean));

  // ---- choosing ------------------------------------------------------------------------------------------------
  const choose = (i, keep = false) => {
    const id = raw.ids[i];
    view.set({ chosen: !keep && view.get("chosen") === id ? -1 : id });
  };
  // The token that Append would add: the one chosen by hand, or the one just drawn.
  const picked = () => {
    const chosen = view.get("chosen");
    return chosen >= 0 ? chosen : hits.landed >= 0 ? now.idAt(hits.landed) : -1;
  };

  // ---- drawing ---------------------------------------------------------------------------------------------------
  function draw() {
    if (!view.get("_sorted_logits")?.byteLength) return;
    if (stale) load();
    filter();
    draw100.update(now);
    const figures = { entropy_raw_bits: state.rawEntropy, entropy_bits: now.entropy(), kept: now.n, vocab_size: now.size,
      kept_mass: now.total / state.heated, kept_mass_raw: raw.mass[now.n - 1] / raw.total };
    showFigures(figures);
    showRows();
    showResult();
    view.report(() => ({ drawn: draw100.told(now), page_figures: { ...figures,
      head: Array.from({ length: shown }, (_, i) => [raw.ids[i], now.p(now.rankNow(i))]) } }));
  }

  const plain = (x) => (x < 1000 ? x.toFixed(1) : thousands(Math.round(x)));
  function showFigures(f) {
    setText(entropy.value, `${f.entropy_raw_bits.toFixed(2)} → ${f.entropy_bits.toFixed(2)}`);
    setText(entropy.what, "bits of entropy, before → after");
    setText(choices.value, `${plain(2 ** f.entropy_raw_bits)} → ${plain(2 ** f.entropy_bits)}`);
    setText(choices.what, "effective choices (perplexity)");
    setText(kept.value, `${thousands(f.kept)} of ${thousands(f.vocab_size)}`);
    setText(kept.what, state.cutBy ? `tokens kept, cut by ${state.cutBy}` : "tokens kept, none cut");
    setText(mass.value, f.kept_mass > 0.99995 && f.kept < now.finite ? ">99.99 %" : `${(100 * f.kept_mass).toFixed(2)} %`);
    setText(mass.what, "of the mass kept");
  }

  function showRows() {
    const id = picked();
    for (let i = 0; i < shown; i++) {
      const cell = rows[i], rank = now.rankNow(i), keeps = rank < now.n;
      if (renamed) setText(cell.token, arlab.visible(view.get("_head_strings")[i] ?? `#${raw.ids[i]}`));
      setText(cell.after, keeps ? percent(now.p(rank)) : "cut");
      const flag = keeps ? "1" : "0", selected = String(raw.ids[i] === id);
      if (cell.row.dataset.kept !== flag) cell.row.dataset.kept = flag;
      if (cell.row.getAttribute("aria-selected") !== selected) cell.row.setAttribute("aria-selected", selected);
      setText(cell.count, hits.count > 1 && hits.marks[rank] ? `×${hits.marks[rank]}` : hits.landed === rank ? "◀" : "");
    }
    renamed = false;
    const others = raw.size - shown, beyond = (dist) => (dist.n > shown ? 1 - dist.mass[shown - 1] / dist.total : 0);
    setText(rest, others > 0 ? `and ${thousands(others)} more: ${percent(beyond(raw))} in the model, ${percent(beyond(now))} after the filters` : "");
  }

  function showResult() {
    const parts = draw100.sentence(now, texts, shown, hasModel
      ? "Draw a token, or click one in the list; then append it and go on."
      : "A uniform number u picks the token whose stretch of the curve it falls into.");
    const key = parts.map((part) => part.textContent ?? part).join("");
    if (result.textContent !== key) result.replaceChildren(...parts);
    if (!hasModel) return;
    const id = picked();
    setText(appendButton, id >= 0 ? `Append ${texts.of(now, id)}` : "Append");
    appendButton.disabled = !live || id < 0 || busy;
    appendButton.title = live ? "Add this token to the text and ask the model again" : OFFLINE;
    undoButton.disabled = !live || view.get("_appended").length === 0 || busy;
    prompt.sync();
  }

  const widest = () => (view.get("bar_scale") === "full" ? 1 : Math.min(1, Math.max(raw.p(0), now.p(0)) * 1.02));
  const hatching = arlab.hatching();
  function drawBars(ctx, width, height, theme) {
    if (!now?.n) return;
    const full = widest(), per = (width - 2) / full, pattern = hatching(ctx, theme.cut);
    gridLines(ctx, theme, width, shown * ROW, full);
    for (let i = 0; i < shown; i++) {
      const y = i * ROW, rank = now.rankNow(i), keeps = rank < now.n, outline = raw.p(i) * per;
      if (keeps) {
        ctx.fillStyle = theme.kept;
        ctx.fillRect(0, y + 6, Math.max(0.5, now.p(rank) * per), ROW - 12);
      } else {
        ctx.fillStyle = pattern;
        ctx.fillRect(0, y + 3, outline, ROW - 6);
      }
      ctx.strokeStyle = keeps ? theme.soft : theme.cut;
      ctx.lineWidth = 1;
      ctx.strokeRect(0.5, y + 3.5, Math.max(0, outline - 0.5), ROW - 7);
      if (hits.count > 1 && keeps && hits.marks[rank]) {
        ctx.fillStyle = theme.accent;
        ctx.fillRect(Math.min(width - 2, (hits.marks[rank] / hits.count) * per) - 1.5, y + 1, 3, ROW - 2);
      }
    }
    if (now.n < shown && !now.moved) { // the cut, between two rows
      ctx.strokeStyle = theme.accent;
      ctx.lineWidth = 1.5;
      ctx.setLineDash([5, 4]);
      ctx.beginPath();
      ctx.moveTo(0, now.n * ROW);
      ctx.lineTo(width, now.n * ROW);
      ctx.stroke();
      ctx.setLineDash([]);
    }
  }
  function drawAxis(ctx, width, height, theme) {
    if (!now?.n) return;
    const full = widest(), step = tickStep(full);
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.faint;
    for (let i = 0; i * step <= full * 1.0001; i++) {
      const at = ((i * step) / full) * (width - 2);
      if (at > width - 16) break;
      ctx.textAlign = i === 0 ? "left" : "center";
      ctx.fillText(i === 0 ? "0" : `${Number((100 * i * step).toPrecision(3))} %`, at, 12);
    }
  }

  // ---- text and listening ----------------------------------------------------------------------------------------
  function showText() {
    const pieces = view.get("_appended").map((piece) => h("span", { class: "nt-added" }, arlab.visible(piece)));
    textBox.replaceChildren(h("span", { class: "nt-given" }, view.get("prompt")), ...pieces, h("span", { class: "nt-caret", "aria-hidden": "true" }));
    textBox.scrollTop = textBox.scrollHeight;
  }
  view.watch(["_sorted_logits", "_sorted_ids"], () => { stale = true; });
  view.watch(["_head_strings"], () => { renamed = true; });
  view.watch(["prompt", "_appended"], showText);
  view.watch(["_draw_start", "_draw_count", "seed", "chosen"]);
  showText();
  return view.start();
}

// A round distance between ticks, so that at most four fit below `full`.
function tickStep(full) {
  const unit = 10 ** Math.floor(Math.log10(full));
  return unit * [0.1, 0.2, 0.25, 0.5, 1, 2, 2.5].find((part) => full / (unit * part) <= 4.5);
}

// Faint vertical lines at round probabilities behind bars that span 0 to `full`.
function gridLines(ctx, theme, width, height, full) {
  const step = tickStep(full);
  ctx.strokeStyle = theme.line;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let p = 0; p <= full * 1.0001; p += step) {
    const at = Math.round((p / full) * (width - 2)) + 0.5;
    ctx.moveTo(at, 0);
    ctx.lineTo(at, height);
  }
  ctx.stroke();
}

export default { render };
