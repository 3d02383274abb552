// Two drawings of all errors together: a map of each model (position of the error x symbol), and accuracy by distance.
const errorCharts = (() => {
  const { h, svg, setText } = arlab;
  // One mark a model, told apart by shape as well as by colour; paths around 0, 0.
  const SHAPES = ["M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z", "M-3.6 -3.6H3.6V3.6H-3.6Z", "M0 -4.8L4.6 3.4H-4.6Z", "M0 -5L4.6 0L0 5L-4.6 0Z",
    "M-4.6 -3.2L-3.2 -4.6L0 -1.4L3.2 -4.6L4.6 -3.2L1.4 0L4.6 3.2L3.2 4.6L0 1.4L-3.2 4.6L-4.6 3.2L-1.4 0Z", "M0 4.8L4.6 -3.4H-4.6Z"];
  const series = (m) => `var(--al-series${m + 1})`;
  const mark = (m) => svg("svg", { class: "ep-mark", viewBox: "-6 -6 12 12", "aria-hidden": "true" }, svg("path", { d: SHAPES[m], style: { fill: series(m) } }));
  const two = (share) => (share === null ? "–" : share.toFixed(2));

  // state: { run (of error_numbers.js), text(id) }. here() -> [position, place of the symbol among the choices, or -1];
  // choose(p, c): what a click asks for; keys(element): arrow keys. Made anew with each run, for its sizes may differ.
  const map = (view, state, m, { here, choose, keys }) => {
    const { run } = state, rows = run.choices.length, LEFT = 26, FOOT = 18;
    const tall = Math.max(7, Math.min(run.names.length > 3 ? 11 : 15, Math.floor(150 / rows)));
    const hatching = arlab.hatching();
    const shares = run.answer.map((_, p) => run.choices.map((__, c) => { const one = run.after(m, p, c); return one.of ? one.right / one.of : null; }));
    const wide = (width) => (width - LEFT - 2) / run.time;
    const still = document.createElement("canvas"); // all but the frame, drawn once for a width and a theme
    let drawn = [];
    const shared = (width, theme) => {
      const ratio = canvas.canvas.width / width, now = [width, ratio, theme];
      if (now.every((one, n) => one === drawn[n])) return still;
      drawn = now;
      [still.width, still.height] = [canvas.canvas.width, canvas.canvas.height]; // this empties it
      const ctx = still.getContext("2d"), w = wide(width);
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.fillStyle = theme.line;
      ctx.fillRect(LEFT, 0, w * run.time, rows * tall);
      for (let p = 0; p < run.time; p++) for (let c = 0; c < rows; c++) {
        const x = LEFT + p * w, y = c * tall, share = shares[p][c];
        ctx.fillStyle = !run.wrong(p, c) ? theme.surface : share === null ? hatching(ctx, theme.cut) : theme.sequential[Math.round(25 + 230 * share)];
        ctx.fillRect(x + 0.5, y + 0.5, w - 1, tall - 1);
        if (run.wrong(p, c)) continue;
        ctx.fillStyle = theme.soft;
        ctx.beginPath();
        ctx.arc(x + w / 2, y + tall / 2, 1.5, 0, 7);
        ctx.fill();
      }
      ctx.font = `11px ${theme.mono}`;
      ctx.fillStyle = theme.soft;
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      const each = Math.ceil(11 / tall);
      for (let c = 0; c < rows; c += each) ctx.fillText(heat.fit(ctx, state.text(run.choices[c]), LEFT - 8), LEFT - 5, (c + 0.5) * tall);
      ctx.textAlign = "center";
      const step = [1, 2, 5, 10, 20].find((n) => n * w >= 22);
      for (let p = 0; p < run.time; p += step) ctx.fillText(String(p), LEFT + (p + 0.5) * w, rows * tall + 10);
      return still;
    };
    const canvas = view.canvas({ height: rows * tall + FOOT, paint: false,
      label: `${run.names[m]}: share right after each error; across the position of the error, down the symbol`,
      draw(ctx, width, height, theme) {
        ctx.drawImage(shared(width, theme), 0, 0, width, height);
        const [p, c] = here(), w = wide(width);
        for (const [colour, line] of [[theme.surface, 5], [theme.accent, 2.5]]) { // the column alone where no error is chosen
          ctx.strokeStyle = colour;
          ctx.lineWidth = line;
          ctx.strokeRect(LEFT + p * w, Math.max(0, c) * tall + 1, w, (c < 0 ? rows : 1) * tall - 2);
        }
      } });
    const at = (event) => {
      const edge = canvas.canvas.getBoundingClientRect();
      const p = Math.floor((event.clientX - edge.left - LEFT) / wide(canvas.width)), c = Math.floor((event.clientY - edge.top) / tall);
      return p >= 0 && p < run.time && c >= 0 && c < rows ? [p, c] : null;
    };
    canvas.box.addEventListener("click", (event) => { const place = at(event); if (place) choose(...place); });
    canvas.box.addEventListener("pointermove", (event) => {
      const place = at(event);
      if (!place) { view.untip(); return; }
      const [p, c] = place, share = shares[p][c], one = run.after(m, p, c), put = h("span", { class: "al-token" }, state.text(run.choices[c]));
      view.tip(event, ...(run.wrong(p, c) ? [put, ` put in at position ${p}: `, share === null ? "nothing comes after it" : `${one.right} of ${one.of} right after it`]
        : [put, ` is the right symbol at position ${p}: no error`]));
    });
    canvas.box.addEventListener("pointerleave", () => view.untip());
    canvas.box.classList.add("ep-map-box");
    canvas.box.tabIndex = 0;
    canvas.box.setAttribute("role", "group");
    canvas.box.setAttribute("aria-label", `${run.names[m]}, map of all errors; the arrow keys choose position and symbol`);
    canvas.box.setAttribute("data-lm-suppress-shortcuts", "true");
    keys(canvas.box);
    const model = run.models[m];
    const box = h("figure", { class: "ep-map" }, h("figcaption", {}, mark(m), h("span", { class: "ep-name", title: model.name }, arlab.visible(model.name)),
      h("span", { class: "al-note ep-mean", title: "Share of right symbols after an error, over all errors" },
        "mean ", h("b", { dataset: { mean: m } }, two(model.mean)))), canvas.box);
    return { box, paint: canvas.paint };
  };

  // Accuracy by distance: solid after an error, dashed at the same places without one.
  const distances = (view, state) => {
    const M = { left: 34, right: 10, top: 10, bottom: 34 };
    let hover = 0; // a distance, or 0
    const x = (width, k) => M.left + ((k - 1) * (width - M.left - M.right)) / Math.max(1, state.run.time - 2);
    const tall = () => (view.root.clientWidth > 740 ? 420 : 270); // beside the maps, or above them
    const canvas = view.canvas({ height: tall, paint: false, label: "Share of right symbols by distance from the error, a line a model",
      draw(ctx, width, height, theme) {
        const { run } = state, last = run.time - 1, bottom = height - M.bottom, y = (share) => bottom - share * (bottom - M.top);
        ctx.font = `11px ${theme.font}`;
        ctx.textBaseline = "middle";
        ctx.lineWidth = 1;
        for (const share of [0, 0.25, 0.5, 0.75, 1]) {
          ctx.strokeStyle = theme.line;
          ctx.beginPath();
          ctx.moveTo(M.left, Math.round(y(share)) + 0.5);
          ctx.lineTo(width - M.right, Math.round(y(share)) + 0.5);
          ctx.stroke();
          ctx.fillStyle = theme.soft;
          ctx.textAlign = "right";
          ctx.fillText(String(share), M.left - 7, y(share));
        }
        ctx.textAlign = "center";
        const step = [1, 2, 5, 10].find((n) => last / n <= Math.max(2, (width - 60) / 34)) ?? 20;
        for (let k = 1; k <= last; k++) if (k === 1 || k % step === 0) ctx.fillText(String(k), x(width, k), bottom + 12);
        ctx.fillText("symbols after the error", (M.left + width - M.right) / 2, bottom + 27);
        if (hover) {
          ctx.strokeStyle = theme.soft;
          ctx.beginPath();
          ctx.moveTo(x(width, hover), M.top);
          ctx.lineTo(x(width, hover), bottom);
          ctx.stroke();
        }
        const line = (values, m, dashed) => {
          ctx.strokeStyle = ctx.fillStyle = theme[`series${m + 1}`];
          ctx.lineWidth = dashed ? 1.5 : 2;
          ctx.setLineDash(dashed ? [5, 4] : []);
          ctx.beginPath();
          let open = false;
          values.forEach((value, k) => {
            if (value === null) { open = false; return; }
            ctx[open ? "lineTo" : "moveTo"](x(width, k + 1), y(value));
            open = true;
          });
          ctx.stroke();
          ctx.setLineDash([]);
          if (!dashed) values.forEach((value, k) => {
            if (value === null) return;
            ctx.save();
            ctx.translate(x(width, k + 1), y(value));
            ctx.strokeStyle = theme.surface;
            ctx.lineWidth = 1.5;
            const path = new Path2D(SHAPES[m]);
            ctx.stroke(path);
            ctx.fill(path);
            ctx.restore();
          });
        };
        run.models.forEach((model, m) => line(model.without, m, true));
        run.models.forEach((model, m) => line(model.byDistance, m, false));
      } });
    canvas.box.addEventListener("pointermove", (event) => {
      const { run } = state, edge = canvas.canvas.getBoundingClientRect(), last = run.time - 1;
      const k = Math.max(1, Math.min(last, Math.round(1 + ((event.clientX - edge.left - M.left) / Math.max(1, canvas.width - M.left - M.right)) * (last - 1))));
      if (k !== hover) { hover = k; view.redraw(); }
      view.tip(event, h("b", {}, k === 1 ? "the next symbol" : `${k} symbols after the error`), ...run.models.flatMap((model) => [h("br"),
        h("bdi", {}, arlab.visible(model.name)), `: ${two(model.byDistance[k - 1])}`, model.without[k - 1] === null ? "" : `, without an error ${two(model.without[k - 1])}`]));
    });
    canvas.box.addEventListener("pointerleave", () => { hover = 0; view.untip(); view.redraw(); });
    let drawn = []; // a move of the error changes nothing here
    const paint = () => {
      const now = [state.run, hover, view.theme, canvas.canvas.width, canvas.canvas.height, canvas.width];
      if (now.every((one, n) => one === drawn[n])) return;
      canvas.paint();
      drawn = [state.run, hover, view.theme, canvas.canvas.width, canvas.canvas.height, canvas.width];
    };
    return { box: canvas.box, paint };
  };

  return { mark, two, map, distances, series, setText };
})();
