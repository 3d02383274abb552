// The pipeline: the same tokens in five panels, from the model's distribution to a draw.
const ROWS = 14; // tokens drawn
const ROW = 24; // pixels a row
const USUAL = ["temperature", "top_k", "top_p"];

function render({ model, el }) {
  const { h, setText, percent, thousands } = arlab;
  const view = arlab.view(model, el, { label: "From logits to a token, stage by stage", draw });
  const hasModel = view.get("_has_model");
  const texts = tokenTexts(view), draw100 = draws(view), hits = draw100.state;

  // Stage 0 is the model, 1 to 3 the filters in their order, 4 the draw (the distribution after stage 3).
  let now, usual, shown = 0, stale = true, renamed = true;
  const stages = Array.from({ length: 4 }, () => ({ p: new Float64Array(ROWS), kept: 0, mass: 1, bits: 0, beyond: 0 }));

  function load() {
    const logits = arlab.floats(view.get("_sorted_logits")), ids = arlab.ints(view.get("_sorted_ids"));
    now = new Distribution(logits, ids);
    usual = new Distribution(logits, ids);
    shown = Math.min(ROWS, now.size);
    names.forEach((cell, i) => { cell.hidden = i >= shown; cell.dataset.id = i < shown ? ids[i] : ""; });
    stale = false;
    renamed = true;
  }

  function record(stage, mass) {
    now.weigh();
    for (let i = 0; i < shown; i++) stage.p[i] = now.p(now.rankNow(i));
    stage.kept = now.n;
    stage.mass = mass;
    stage.bits = now.entropy();
    stage.beyond = now.n > shown ? 1 - now.mass[shown - 1] / now.total : 0;
  }

  function run() {
    now.reset();
    record(stages[0], 1);
    view.get("order").forEach((name, i) => {
      const before = now.total, value = view.get(name), first = now.p(0);
      filterControls.applyTo(now, name, value);
      record(stages[i + 1], name !== "temperature" ? now.total / before : value === 0 ? first : 1);
    });
  }
  // How many tokens the usual order would leave, to compare.
  function leftUsually() {
    usual.reset();
    for (const name of USUAL) filterControls.applyTo(usual, name, view.get(name));
    return usual.n;
  }

  // ---- elements ---------------------------------------------------------------------------------------------
  let busy = false;
  const work = async (question) => { busy = true; view.redraw(); await question(); busy = false; view.redraw(); };
  const prompt = promptBox(view, { isBusy: () => busy, work });
  const move = (at, by) => {
    const order = [...view.get("order")];
    [order[at], order[at + by]] = [order[at + by], order[at]];
    view.set({ order });
  };
  const names = Array.from({ length: ROWS }, () => h("div", { class: "pl-name al-token" }));
  const rest = h("div", { class: "pl-name pl-rest" }, "all others");
  const panels = Array.from({ length: 5 }, (_, s) => {
    const filter = s >= 1 && s <= 3;
    const title = h("h4", {}, s === 0 ? "Model" : s === 4 ? "Draw" : "");
    const setting = h("span", {}), kept = h("b", {}), word = h("span", {}), mass = h("div", { class: "al-note pl-note" }), bits = h("div", { class: "al-note pl-note" });
    const arrows = [-1, 1].map((by) => h("button", { type: "button", class: "pl-move", "data-lm-suppress-shortcuts": "true",
      onclick: () => move(s - 1, by) }, by < 0 ? "◀" : "▶"));
    arrows[0].disabled = s === 1;
    arrows[1].disabled = s === 3;
    const canvas = view.canvas({ height: (ROWS + 1) * ROW, label: `Stage ${s + 1}: probabilities`, draw: (...all) => (s < 4 ? drawStage(s, ...all) : drawDraw(...all)) });
    const box = h("div", { class: "pl-panel", dataset: { stage: s } },
      h("div", { class: "pl-head" }, title, h("div", { class: "pl-setting" }, setting, filter && h("span", { class: "pl-moves" }, arrows)),
        h("div", { class: "pl-kept" }, kept, word), mass, bits), canvas.box);
    return { box, title, setting, kept, word, mass, bits, arrows, canvas };
  });
  const compare = h("p", { class: "al-note pl-compare" });
  const result = h("div", { class: "dv-result pl-result", role: "status" });
  view.root.append(...[
    h("h3", {}, "From logits to a token"),
    hasModel && prompt.box,
    hasModel && !view.live && h("p", { class: "al-note" }, OFFLINE),
    h("div", { class: "al-sliders dv-sliders" }, filterControls.sliders(view, ["temperature", "top_k", "top_p"]),
      h("div", { class: "al-note pl-key" }, h("span", {}, h("i", { class: "dv-key-fill" }), "after this stage"),
        h("span", {}, h("i", { class: "dv-key-line" }), "before it"), h("span", {}, h("i", { class: "pl-key-cut" }), "cut here"))),
    h("div", { class: "pl-grid" }, h("div", { class: "pl-names" }, h("div", { class: "pl-head" }), names, rest), panels.map(({ box }) => box)),
    compare,
    h("div", { class: "al-buttons" }, view.button("Draw one", () => draw100.more(1), { class: "al-button al-primary" }),
      view.button("Draw a hundred", () => draw100.more(100))),
    result,
  ].filter(Boolean));

  // ---- drawing ---------------------------------------------------------------------------------------------------
  function draw() {
    if (!view.get("_sorted_logits")?.byteLength) return;
    if (stale) load();
    run();
    draw100.update(now);
    showHeads();
    if (renamed) names.forEach((cell, i) => { if (i < shown) setText(cell, arlab.visible(view.get("_head_strings")[i] ?? `#${now.ids[i]}`)); });
    renamed = false;
    const parts = draw100.sentence(now, texts, shown, "A uniform number u picks the token into whose stretch of [0, 1] it falls.");
    const key = parts.map((part) => part.textContent ?? part).join("");
    if (result.textContent !== key) result.replaceChildren(...parts);
    if (hasModel) prompt.sync();
    view.report(() => ({ drawn: draw100.told(now), page_figures: { stages: stages.map((stage, i) => ({
      stage: i ? view.get("order")[i - 1] : "raw", kept: stage.kept, mass: stage.mass, entropy_bits: stage.bits,
      head: Array.from(stage.p.subarray(0, shown)) })) } }));
  }

  const settings = {
    temperature: (t) => (t === 0 ? "argmax" : t === 1 ? "off (t = 1)" : `logits ÷ ${t}`),
    top_k: (k) => (k === 0 ? "off" : `k = ${thousands(k)}`),
    top_p: (p) => (p === 1 ? "off (p = 1)" : `p = ${p}`),
  };
  const TITLES = { temperature: "Temperature", top_k: "Top-k", top_p: "Top-p" };
  function showHeads() {
    const order = view.get("order");
    panels.forEach((panel, s) => {
      const stage = stages[Math.min(s, 3)], name = order[s - 1];
      if (name) {
        setText(panel.title, TITLES[name]);
        setText(panel.setting, settings[name](view.get(name)));
        panel.arrows[0].setAttribute("aria-label", `Move ${TITLES[name]} earlier`);
        panel.arrows[1].setAttribute("aria-label", `Move ${TITLES[name]} later`);
      } else setText(panel.setting, s === 0 ? "softmax" : "by number u");
      setText(panel.kept, thousands(stage.kept));
      setText(panel.word, stage.kept === 1 ? " token" : " tokens");
      const cuts = s >= 1 && s <= 3 && stage.kept < stages[s - 1].kept;
      setText(panel.mass, cuts ? `keeps ${percent(stage.mass)}` : s === 0 || s === 4 ? "" : "nothing cut");
      setText(panel.bits, s === 4 ? "" : `${stage.bits.toFixed(2)} bits`);
    });
    const left = stages[3].kept, isUsual = order.every((name, i) => name === USUAL[i]);
    const other = isUsual ? left : leftUsually();
    setText(compare, isUsual ? "The arrows above the panels change the order of the filters."
      : `In the order temperature, top-k, top-p, ${thousands(other)} token${other === 1 ? " is" : "s are"} left${other === left ? ", as here" : `; here ${thousands(left)}`}.`);
  }

  const widest = () => {
    let most = 0;
    for (const stage of stages) for (let i = 0; i < shown; i++) most = Math.max(most, stage.p[i]);
    return most;
  };
  const hatchings = Array.from({ length: 5 }, () => arlab.hatching());
  const value = (stage, i) => (i < ROWS ? stage.p[i] : stage.beyond);

  function drawStage(s, ctx, width, height, theme) {
    if (!now?.n) return;
    const stage = stages[s], before = stages[s - 1], room = width - 58, per = room / widest();
    ctx.font = `12px ${theme.font}`;
    ctx.textAlign = "right";
    ctx.lineWidth = 1;
    for (let i = 0; i <= ROWS; i++) {
      if (i >= shown && (i < ROWS || now.size <= shown)) continue;
      const y = i * ROW, p = value(stage, i), past = before ? value(before, i) : p;
      if (past === 0 && p === 0) { // cut by an earlier stage
        ctx.fillStyle = theme.faint;
        ctx.fillText("·", width - 6, y + 16);
        continue;
      }
      if (p > 0) {
        ctx.fillStyle = i === ROWS ? theme.keptSoft : s === 0 ? theme.soft : theme.kept;
        ctx.fillRect(0, y + 7, Math.min(room, Math.max(1, p * per)), ROW - 14);
      } else {
        ctx.fillStyle = hatchings[s](ctx, theme.accent);
        ctx.fillRect(0, y + 4, Math.min(room, past * per), ROW - 8);
      }
      if (before) {
        ctx.strokeStyle = p > 0 ? theme.soft : theme.accent;
        ctx.strokeRect(0.5, y + 4.5, Math.min(room, Math.max(1, past * per)), ROW - 9);
      }
      ctx.fillStyle = p > 0 ? theme.ink : theme.accent;
      ctx.fillText(p > 0 ? percent(p) : "cut", width - 6, y + 16);
    }
  }

  // The last panel: [0, 1] as a strip of stretches, from the top down; u falls on one of them.
  function drawDraw(ctx, width, height, theme) {
    if (!now?.n) return;
    const stage = stages[3], tall = (shown + (now.size > shown ? 1 : 0)) * ROW - 4, wide = 14, left = Math.min(44, width / 3);
    ctx.font = `12px ${theme.font}`;
    for (let i = 0, from = 0; i < now.n; i++) {
      const to = now.mass[i] / now.total;
      if ((to - from) * tall < 6) { // too thin to tell apart: the rest in one
        ctx.fillStyle = hatchings[4](ctx, theme.kept);
        ctx.fillRect(0, 2 + from * tall, wide, (1 - from) * tall);
        break;
      }
      ctx.fillStyle = i % 2 ? theme.keptSoft : theme.kept;
      ctx.fillRect(0, 2 + from * tall, wide, (to - from) * tall);
      from = to;
    }
    ctx.strokeStyle = theme.soft;
    ctx.lineWidth = 1;
    ctx.strokeRect(0.5, 2.5, wide - 1, tall - 1);
    ctx.fillStyle = theme.accent;
    ctx.strokeStyle = theme.accent;
    for (let i = 0; i < hits.count; i++) {
      const y = 2 + hits.uniforms[i] * tall;
      if (hits.count > 1) { ctx.fillRect(wide + 2, y - 0.5, 7, 1); continue; }
      const row = Math.min(hits.landed, shown) * ROW + ROW / 2;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.moveTo(0, y);
      ctx.lineTo(wide + 2, y);
      ctx.lineTo(left - 6, row);
      ctx.stroke();
      ctx.beginPath();
      ctx.arc(wide / 2, y, 4, 0, 7);
      ctx.fill();
    }
    drawOutcomes(ctx, width, theme, stage, left);
  }
  function drawOutcomes(ctx, width, theme, stage, left) {
    const room = width - left - 52, per = room / widest();
    let beyond = hits.count > 1 ? hits.count : 0;
    for (let i = 0; i <= ROWS; i++) {
      if (i >= shown && (i < ROWS || now.size <= shown)) continue;
      const y = i * ROW, p = value(stage, i), times = i === ROWS ? beyond : hits.count > 1 && p > 0 ? hits.marks[now.rankNow(i)] : 0;
      beyond -= i < ROWS ? times : 0;
      const here = hits.count === 1 && Math.min(hits.landed, ROWS) === (i === ROWS ? ROWS : now.rankNow(i));
      ctx.fillStyle = here ? theme.accent : i === ROWS ? theme.keptSoft : theme.kept;
      if (p > 0) ctx.fillRect(left, y + 7, Math.min(room, Math.max(1, p * per)), ROW - 14);
      if (times) {
        ctx.fillStyle = theme.accent;
        ctx.fillRect(left + Math.min(room, (times / hits.count) * per) - 1.5, y + 3, 3, ROW - 6);
      }
      ctx.textAlign = "right";
      ctx.font = `${here || times ? "600 " : ""}12px ${theme.font}`;
      ctx.fillStyle = here || times ? theme.accent : p > 0 ? theme.ink : theme.faint;
      ctx.fillText(times ? `×${times}` : p > 0 ? percent(p) : "·", width - 2, y + 16);
    }
  }

  view.watch(["_sorted_logits", "_sorted_ids"], () => { stale = true; });
  view.watch(["_head_strings"], () => { renamed = true; });
  view.watch(["order", "_draw_start", "_draw_count", "seed"]);
  return view.start();
}

export default { render };
