// Training curves: what is around the plot. The kernel only sends rows; everything else is computed here.
function render({ model, el }) {
  const { h, svg, setText, thousands } = arlab;
  const view = arlab.view(model, el, { label: view_label(), draw });
  const rows = curves.store((name) => model.get(name));
  // runs: those drawn. cursor: a place on the x axis, or null for the last record of each run.
  const state = { runs: [], all: [], cursor: null, total: 0, empty: "", at: placeIn };
  let stale = true;
  function view_label() { return model.get("_heading") || "Training curves"; }

  // ---- elements ---------------------------------------------------------------------------------------------------
  const stateText = h("span", { class: "tc-state" });
  const fill = h("i", {});
  const bar = h("div", { class: "tc-bar", role: "progressbar", "aria-label": "Steps done", "aria-valuemin": 0 }, fill);
  const figure = (name, what) => {
    const value = h("b", { dataset: { figure: name } }), text = h("span", {}, what);
    return { value, text, box: h("div", { class: "al-figure" }, value, text) };
  };
  const done = figure("step", "steps"), loss = figure("loss", "loss"), valid = figure("validation", "validation loss");
  const speed = figure("speed", "tokens a second"), time = figure("time", "left");
  const progress = h("div", { class: "tc-progress" }, bar,
    h("div", { class: "tc-figures" }, [done, loss, valid, speed, time].map((one) => one.box)));

  const axis = view.segmented({ trait: "x", label: "Against", options: [
    { value: "steps", label: "steps", title: "Horizontal axis: training steps" },
    { value: "tokens", label: "tokens", title: "Horizontal axis: targets trained on so far" },
    { value: "seconds", label: "seconds", title: "Horizontal axis: time spent training" }] });
  const SPANS = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000];
  const smoothing = view.slider({ trait: "smoothing", label: "Smoothing", stops: SPANS, reset: 10,
    title: "The thick line is a moving average over about so many steps; the thin one is every step's loss",
    format: (v) => (v === 1 ? "off" : String(Number(v.toPrecision(4)))),
    parse: (text) => (text === "off" ? 1 : Number(text) >= 1 && Number(text) <= 1000 ? Number(text) : undefined) });
  const logs = h("div", { class: "tc-logs" }, view.checkbox({ trait: "log_y", label: "log loss", title: "Logarithmic loss axis" }),
    view.checkbox({ trait: "log_x", label: "log x", title: "Logarithmic horizontal axis" }));

  const plot = curvesPlot(view, state);
  const reader = h("div", { class: "tc-plot", tabindex: 0, role: "slider", "aria-label": "Read the curves at a step; arrow keys move",
    "data-lm-suppress-shortcuts": "true" }, plot.box);
  const where = h("span", {});
  const HEADS = ["step", "tokens", "loss", "smoothed", "validation", "lr", "gradient"];
  const body = h("tbody", {}), heads = HEADS.map((text) => h("th", { scope: "col", dataset: { column: text } }, text));
  const table = h("div", { class: "tc-table" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, where), heads)), body));

  const remarks = h("div", { class: "tc-remarks", role: "status" }), help = h("p", { class: "al-note tc-help" });
  view.root.append(
    h("div", { class: "tc-title" }, h("h3", {}, view_label()), stateText), progress,
    h("div", { class: "tc-controls" }, axis, smoothing, logs), reader, table,
    remarks, help);

  // ---- reading out ----------------------------------------------------------------------------------------------------
  // The record of a run at the cursor, or its last; -1 where the run has none there.
  function placeIn(run) {
    const x = plot.xs(run), last = run.data.step.length - 1;
    if (state.cursor === null) return last;
    const i = curves.placeOf(x, state.cursor), gap = last > 0 ? (x[last] - x[0]) / last : 0;
    return i === last && state.cursor > x[last] + gap * 1.5 ? -1 : i;
  }
  const number = (v) => (!Number.isFinite(v) ? curves.spell(v) : Math.abs(v) >= 1e4 ? v.toExponential(2) : v.toFixed(4)).replace("-", "−");
  const small = (v) => (Number.isFinite(v) ? (v === 0 ? "0" : Math.abs(v) < 0.01 || Math.abs(v) >= 1e4 ? v.toExponential(2) : v.toPrecision(3)) : "–");
  const whole = (v) => (Number.isFinite(v) ? thousands(v) : "–");
  const validAt = (data, i) => { // the newest validation loss at or before a record: its place
    const k = curves.placeOf(data.validated, i);
    return k < 0 ? -1 : data.validated[k];
  };
  function readout({ data }, i) {
    if (i < 0) return HEADS.map(() => "–");
    const v = validAt(data, i);
    const spent = Number.isFinite(data.seconds[i]) ? data.seconds[i].toFixed(2) : "–"; // in the place of the tokens
    return [whole(data.step[i]), view.get("x") === "seconds" ? spent : whole(data.tokens[i]), number(data.loss[i]),
      number(curves.average(data, view.get("smoothing"))[i]),
      v < 0 ? "–" : number(data.validation[v]) + (v === i ? "" : ` @${thousands(data.step[v])}`), small(data.lr[i]), small(data.grad[i])];
  }
  const moveTo = (x) => { state.cursor = x; view.redraw(); };
  const nearestTo = (x) => { // the record nearest to x on the horizontal axis, among all runs drawn
    let best = null;
    for (const run of state.runs) {
      const all = plot.xs(run), i = curves.placeOf(all, x);
      for (const one of [all[i], all[i + 1]]) if (Number.isFinite(one) && (best === null || Math.abs(one - x) < Math.abs(best - x))) best = one;
    }
    return best;
  };
  const neighbour = (x, way) => {
    let best = null;
    for (const run of state.runs) {
      const all = plot.xs(run);
      let i = curves.placeOf(all, x);
      if (way > 0) i++;
      else while (i >= 0 && all[i] >= x) i--;
      const one = all[i];
      if (Number.isFinite(one) && (best === null || (way > 0 ? one < best : one > best))) best = one;
    }
    return best ?? x;
  };
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = state.cursor ?? nearestTo(Infinity === state.high ? 0 : state.high) ?? 0, far = (state.high - state.low) / 20;
    const moves = {
      ArrowLeft: () => (state.cursor === null ? now : neighbour(now, -1)), ArrowRight: () => (state.cursor === null ? now : neighbour(now, 1)),
      PageUp: () => nearestTo(now - far), PageDown: () => nearestTo(now + far), Home: () => nearestTo(state.low), End: () => nearestTo(state.high),
      Escape: () => null,
    };
    moves.ArrowDown = moves.ArrowLeft;
    moves.ArrowUp = moves.ArrowRight;
    if (!moves[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    moveTo(moves[event.key]());
  };
  view.listen(reader, "keydown", onKey);
  view.listen(reader, "pointermove", (event) => moveTo(nearestTo(plot.pixelToX(event.clientX - plot.box.getBoundingClientRect().left))));
  view.listen(reader, "pointerleave", () => moveTo(null));
  view.listen(reader, "blur", () => moveTo(null));
  view.watch(["x"], () => { state.cursor = null; });
  view.watch(["_stream", "_tail", "_runs"], () => { stale = true; });
  view.watch(["_lines", "hidden", "smoothing", "log_x", "log_y", "_total"]);

  // ---- drawing --------------------------------------------------------------------------------------------------------
  function draw() {
    if (stale) {
      const found = rows.read();
      state.all = view.get("_runs").map((run) => ({ ...run, data: found.get(run.id) ?? emptyRun() }));
      stale = false;
    }
    state.total = view.get("_total");
    const hidden = new Set(view.get("hidden"));
    state.runs = state.all.filter((run) => !hidden.has(run.name));
    state.empty = state.all.length && !state.runs.length ? "every run is hidden" : "no record yet";
    showProgress(state.all.findLast((run) => run.state !== "added"));
    showTable(hidden);
    showRemarks();
  }
  const emptyRun = () => ({ step: [], tokens: [], seconds: [], loss: [], validation: [], lr: [], grad: [], validated: [], span: 0, memo: {} });

  // What has become of a run. One that its reader left after the last step has finished.
  const fateOf = (run) => (run.state === "stopped" && run.total && run.data.step.at(-1) >= run.total ? "finished" : run.state);
  function fate(run) {
    const at = `step ${thousands(run.data.step.at(-1) ?? 0)}${run.total ? ` of ${thousands(run.total)}` : ""}`;
    return { running: view.live ? "running" : `was running when this page was saved, at ${at}`, finished: "finished",
      stopped: `stopped at ${at}`, interrupted: `interrupted at ${at}`, failed: `failed after ${at}: ${run.note}` }[fateOf(run)] ?? "";
  }

  function showProgress(run) {
    progress.hidden = !run && state.all.length > 0;
    setText(stateText, run ? fate(run) : state.all.length ? "" : "not started");
    stateText.title = stateText.textContent;
    const data = run?.data ?? emptyRun(), last = data.step.length - 1, step = data.step[last] ?? 0, total = run ? run.total : state.total;
    const running = run?.state === "running", share = total ? Math.min(1, step / total) : running || !run ? 0 : 1;
    bar.dataset.unknown = String(!total && running);
    bar.setAttribute("aria-valuemax", total || Math.max(1, step));
    bar.setAttribute("aria-valuenow", total ? Math.min(step, total) : step);
    bar.setAttribute("aria-valuetext", total ? `step ${step} of ${total}` : `step ${step}`);
    fill.style.width = `${(100 * share).toFixed(2)}%`;
    setText(done.value, total ? `${thousands(step)} / ${thousands(total)}` : thousands(step));
    setText(loss.value, last < 0 ? "–" : number(curves.average(data, view.get("smoothing"))[last] ?? NaN));
    const smoothed = view.get("smoothing") > 1;
    setText(loss.text, smoothed ? "loss, smoothed" : "loss");
    setText(help, `${smoothed ? "Thick line: smoothed loss; thin line: every step" : "Line: the loss of every step"}; marks: validation loss. `
      + "Point at the plot, or focus it and use the arrow keys, to read it.");
    const v = validAt(data, last);
    setText(valid.value, v < 0 ? "–" : number(data.validation[v]));
    const pace = last < 0 ? null : curves.pace(data);
    setText(speed.value, pace && Number.isFinite(pace.tokens) ? thousands(Number(pace.tokens.toPrecision(3))) : "–");
    const spent = data.seconds[last], left = pace && total ? Math.max(0, total - step) / pace.steps : NaN;
    setText(time.text, running && total ? "left" : "spent training");
    setText(time.value, running && total ? (Number.isFinite(left) ? curves.clock(left) : "–")
      : Number.isFinite(spent) ? (spent < 60 ? `${spent.toFixed(1)} s` : curves.clock(spent)) : "–");
  }

  // A row of the table for each run: its look and name (a button that hides it), what became of it, its numbers.
  let made = [];
  const keyOf = (run) => `${run.id}/${run.name}/${run.recorded}`;
  const swatch = (run) => {
    const look = lookOf(run.id), r = 3.5, shape = look.mark === "circle" ? svg("circle", { cx: 17, cy: 7, r })
      : svg("path", { d: MARK_POINTS[look.mark].map(([x, y], i) => `${i ? "L" : "M"}${17 + r * x} ${7 + r * y}`).join("") + "Z" });
    return svg("svg", { class: "tc-swatch", width: 34, height: 14, "aria-hidden": "true", style: { color: `var(--al-${look.colour})` } },
      svg("line", { x1: 0, y1: 7, x2: 34, y2: 7, "stroke-dasharray": look.dash.join(" ") || undefined }), shape);
  };
  const makeRow = (run) => {
    const name = h("span", { class: "tc-name" });
    const toggle = h("button", { type: "button", class: "tc-toggle", "data-lm-suppress-shortcuts": "true", onclick: () => {
      const hidden = view.get("hidden"), own = run.name;
      view.set({ hidden: hidden.includes(own) ? hidden.filter((one) => one !== own) : [...hidden, own] });
    } }, swatch(run), name);
    const cells = HEADS.map((text) => h("td", { dataset: { column: text } }));
    const row = h("tr", { dataset: { run: run.name } }, h("th", { scope: "row" }, h("div", { class: "tc-who" }, toggle,
      run.recorded ? h("span", { class: "tc-recorded", title: "A run made earlier and stored, not by this notebook now" }, "recorded") : null)), cells);
    setText(name, run.name);
    return { key: keyOf(run), row, toggle, cells };
  };
  function showTable(hidden) {
    const keys = state.all.map(keyOf);
    if (keys.join("\n") !== made.map((one) => one.key).join("\n")) {
      made = state.all.map((run, i) => (made[i]?.key === keys[i] ? made[i] : makeRow(run)));
      body.replaceChildren(...made.map((one) => one.row));
    }
    const spoken = [];
    state.all.forEach((run, i) => {
      const { row, toggle, cells } = made[i], off = hidden.has(run.name);
      toggle.setAttribute("aria-pressed", String(!off));
      toggle.title = off ? "Show this run" : "Hide this run";
      row.dataset.off = String(off);
      const texts = off ? HEADS.map(() => "") : readout(run, placeIn(run));
      texts.forEach((text, k) => setText(cells[k], text));
      if (!off) spoken.push(`${run.name}: loss ${texts[2]}, smoothed ${texts[3]}, validation ${texts[4]}`);
    });
    const unit = view.get("x"), x = state.cursor;
    const place = x === null ? "last record" : unit === "seconds" ? `at ${x.toFixed(2)} seconds` : unit === "tokens" ? `at ${thousands(x)} tokens` : `at step ${thousands(x)}`;
    setText(where, place);
    setText(heads[1], unit === "seconds" ? "seconds" : "tokens");
    reader.setAttribute("aria-valuetext", [place, ...spoken].join("; "));
    reader.setAttribute("aria-valuemin", state.low ?? 0);
    reader.setAttribute("aria-valuemax", state.high ?? 0);
    reader.setAttribute("aria-valuenow", x ?? state.high ?? 0);
  }
  // What went otherwise than hoped, in full.
  function showRemarks() {
    const texts = state.all.flatMap((run) => {
      const words = [["stopped", "interrupted", "failed"].includes(fateOf(run)) ? fate(run) : "", curves.oddities(run.data), missing(run)].filter(Boolean);
      return words.length ? [[run.name, words.join("; ")]] : [];
    });
    const key = texts.flat().join("\n");
    if (remarks.dataset.key === key) return;
    remarks.dataset.key = key;
    remarks.replaceChildren(...texts.map(([name, text]) => h("div", {}, h("b", {}, name), `: ${text}`)));
  }
  const missing = (run) => (run.data.step.length && curves.extent(run.data, curves.AXES[view.get("x")], false)[0] === Infinity ? `records no ${view.get("x")}` : "");

  return view.start();
}

export default { render };
