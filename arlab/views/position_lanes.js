// Three drawings above one another on one axis of positions: the binary counter, the table of vectors, one pair's wave.
// state: { length, d, known (positions that have a vector), count (binary digits), table, top (largest size in it),
// features(i) (the pair's two), wavelength(i), oldTable (a flag: the picture must be made anew) }
const positionLanes = (view, state) => {
  const { h } = arlab;
  const { number } = heat;
  const { length, d, count } = state;
  const GUTTER = 62, RIGHT = 6, DIGIT = 14, WAVE = 128, FOOT = 20;
  const at = (width, m) => GUTTER + ((m + 0.5) * (width - GUTTER - RIGHT)) / length;
  const turnText = (v) => (v >= 1e6 ? v.toExponential(2).replace("e+", "e") : v >= 1000 ? arlab.thousands(Math.round(v)) : v.toFixed(v >= 100 ? 0 : 1));

  // A line with a rim of the surface's colour, so that it shows on any colour of a picture.
  const outline = (ctx, theme, colour, dash, path) => {
    for (const [stroke, width, dashes] of [[theme.surface, 4, []], [colour, 1.75, dash]]) {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = width;
      ctx.setLineDash(dashes);
      ctx.beginPath();
      path();
      ctx.stroke();
    }
    ctx.setLineDash([]);
  };
  // The chosen column, and the one it is compared with.
  const columns = (ctx, width, top, height, theme) => {
    const wide = (width - GUTTER - RIGHT) / length;
    for (const [trait, colour, dash] of [["other", theme.series3, [4, 3]], ["position", theme.ink, []]]) {
      const middle = at(width, view.get(trait));
      outline(ctx, theme, colour, dash, () => {
        if (wide > 7) ctx.rect(middle - wide / 2, top + 1, wide, height - 2);
        else { ctx.moveTo(middle, top); ctx.lineTo(middle, top + height); }
      });
    }
  };
  const hatching = arlab.hatching();
  const nothing = (ctx, width, top, height, theme) => { // positions without a vector
    if (state.known >= length) return;
    const left = at(width, state.known - 0.5);
    ctx.fillStyle = hatching(ctx, theme.cut);
    ctx.fillRect(left, top, width - RIGHT - left, height);
  };
  const labels = (ctx, theme, align = "right") => {
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.soft;
    ctx.textAlign = align;
    ctx.textBaseline = "middle";
  };

  // ---- the counter ------------------------------------------------------------------------------------------------
  const counter = view.canvas({ height: count * DIGIT + 2, label: "Binary digits of every position; arrow keys choose position and pair",
    draw(ctx, width, height, theme) {
      const wide = (width - GUTTER - RIGHT) / length;
      ctx.fillStyle = theme.raised;
      ctx.fillRect(GUTTER, 0, width - GUTTER - RIGHT, height);
      for (let b = 0; b < count; b++) {
        ctx.fillStyle = theme.kept;
        for (let m = 2 ** b; m < length; m += 2 ** (b + 1)) { // runs of ones
          const from = at(width, m) - wide / 2, run = Math.min(2 ** b, length - m);
          ctx.fillRect(from, b * DIGIT + 1, run * wide - (wide > 4 ? 0.5 : 0), DIGIT - 2);
        }
        labels(ctx, theme);
        ctx.fillText(`every ${2 ** b}`, GUTTER - 6, b * DIGIT + DIGIT / 2 + 1);
      }
      columns(ctx, width, 0, height, theme);
    } });

  // A matrix of signed numbers as a canvas, a pixel for each; NaN stays transparent.
  const picture = (theme, wide, tall, top, valueAt, canvas) => {
    canvas ??= Object.assign(document.createElement("canvas"), { width: wide, height: tall });
    const data = new ImageData(wide, tall), pixels = new Uint32Array(data.data.buffer);
    const ramp = theme.diverging.map(arlab.rgb).map(([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
    for (let i = 0, n = 0; i < tall; i++) for (let j = 0; j < wide; j++, n++) {
      const v = valueAt(i, j);
      if (v === v) pixels[n] = ramp[Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, v / (top || 1))))];
    }
    canvas.getContext("2d").putImageData(data, 0, 0);
    return canvas;
  };

  // ---- the table of vectors -----------------------------------------------------------------------------------------
  let image = null, painted = "";
  const paintTable = (theme) => {
    const key = `${theme.dark}${theme.surface}`;
    if (!state.oldTable && key === painted) return;
    image = picture(theme, length, d, state.top, (c, m) => (m < state.known ? state.table[m * d + c] : NaN), image);
    [state.oldTable, painted] = [false, key];
  };
  const tall = Math.min(240, Math.max(48, 3 * d));
  const table = view.canvas({ height: tall + 2, label: "The vectors, a column for each position; arrow keys choose position and pair",
    draw(ctx, width, height, theme) {
      paintTable(theme);
      const row = tall / d;
      ctx.imageSmoothingEnabled = row < 1 || (width - GUTTER - RIGHT) / length < 1;
      ctx.drawImage(image, GUTTER, 1, width - GUTTER - RIGHT, tall);
      nothing(ctx, width, 1, tall, theme);
      labels(ctx, theme);
      const chosen = state.features(view.get("pair")), step = 2 ** Math.max(1, Math.ceil(Math.log2(d / 4)));
      const chosenAt = chosen.map((c) => (c + 0.5) * row);
      for (let c = 0; c < d; c += step) {
        const y = Math.max(7, Math.min(height - 7, (c + 0.5) * row));
        if (chosenAt.every((other) => Math.abs(other - y) > 13)) ctx.fillText(String(c), GUTTER - 6, y);
      }
      ctx.fillStyle = theme.ink;
      ctx.font = `600 11px ${theme.font}`;
      const joined = chosen[1] === chosen[0] + 1;
      for (const c of joined ? chosen.slice(0, 1) : chosen) {
        const size = (joined ? 2 : 1) * row + 4, y = 1 + c * row + ((joined ? 2 : 1) * row) / 2;
        outline(ctx, theme, theme.ink, [], () => ctx.rect(GUTTER + 1, y - size / 2, width - GUTTER - RIGHT - 2, size));
        ctx.fillText(joined ? `${c}, ${c + 1}` : String(c), GUTTER - 6, Math.max(7, Math.min(height - 7, y)));
      }
      columns(ctx, width, 0, height, theme);
    } });

  // ---- one pair -------------------------------------------------------------------------------------------------
  const wave = view.canvas({ height: WAVE + FOOT, label: "The chosen pair of features at every position; arrow keys choose position and pair",
    draw(ctx, width, height, theme) {
      const i = view.get("pair"), pair = state.features(i), top = state.scheme === "learned" ? state.top : state.pairTop(i);
      const y = (v) => WAVE / 2 - (v / (top || 1)) * (WAVE / 2 - 10);
      labels(ctx, theme);
      ctx.lineWidth = 1;
      for (const v of [top, 0, -top]) {
        ctx.strokeStyle = theme.line;
        ctx.beginPath(); ctx.moveTo(GUTTER, y(v)); ctx.lineTo(width - RIGHT, y(v)); ctx.stroke();
        ctx.fillText(number(v, top === 1 ? 0 : 2), GUTTER - 6, y(v));
      }
      nothing(ctx, width, 0, WAVE, theme);
      if (state.scheme === "sinusoidal") { // the digit that keeps nearest to this time, as a step between 1 and -1
        const b = positions.nearestDigit(state.wavelength(i), count);
        ctx.strokeStyle = theme.cut;
        ctx.lineWidth = 1.25;
        ctx.beginPath();
        for (let m = 0; m < length; m++) for (const edge of [m - 0.5, m + 0.5]) ctx.lineTo(at(width, edge), y(1 - 2 * positions.digit(m, b)));
        ctx.stroke();
      }
      const wide = (width - GUTTER - RIGHT) / length, w = (2 * Math.PI) / state.wavelength(i);
      pair.forEach((c, n) => {
        ctx.strokeStyle = ctx.fillStyle = n ? theme.series2 : theme.series1;
        ctx.lineWidth = n ? 1.5 : 2;
        ctx.setLineDash(n ? [6, 4] : []);
        ctx.beginPath();
        if (state.scheme === "learned") for (let m = 0; m < state.known; m++) ctx.lineTo(at(width, m), y(state.table[m * d + c]));
        else {
          const a = state.table[pair[0]], b = state.table[pair[1]]; // position 0: where the pair starts
          for (let px = GUTTER; px <= width - RIGHT; px += 1.5) {
            const angle = (((px - GUTTER) / (width - GUTTER - RIGHT)) * length - 0.5) * w;
            const [co, si] = [Math.cos(angle), Math.sin(angle)];
            const v = state.scheme === "sinusoidal" ? (n ? co : si) : n ? b * co + a * si : a * co - b * si;
            ctx.lineTo(px, y(v));
          }
        }
        ctx.stroke();
        ctx.setLineDash([]);
        if (wide > 3.4) for (let m = 0; m < state.known; m++) { // the model sees whole positions only
          ctx.beginPath(); ctx.arc(at(width, m), y(state.table[m * d + c]), Math.min(2.4, wide / 2.6), 0, 7); ctx.fill();
        }
      });
      columns(ctx, width, 0, WAVE, theme);
      labels(ctx, theme, "center");
      const step = [1, 2, 5, 10, 20, 25, 50, 100].find((n) => (n * (width - GUTTER)) / length > 42) ?? 100;
      for (let m = 0; m < length; m += step) ctx.fillText(String(m), at(width, m), WAVE + 11);
      labels(ctx, theme);
      ctx.fillText("position", GUTTER - 6, WAVE + 11);
    } });

  // ---- beside them: the chosen position read off ------------------------------------------------------------------------
  const bits = h("div", { class: "pe-bits", "aria-live": "polite" }), values = h("div", { class: "pe-values" }), ramp = h("div");
  const clock = view.canvas({ height: 136, label: "The pair at both positions, as the hands of a clock",
    draw(ctx, width, height, theme) {
      const i = view.get("pair"), [a, b] = state.features(i), [cx, cy, r] = [width / 2, height / 2, 46];
      const top = state.scheme === "learned" ? state.top * 1.1 : state.pairTop(i);
      ctx.strokeStyle = theme.line;
      ctx.lineWidth = 1;
      ctx.beginPath();
      if (state.scheme !== "learned") ctx.arc(cx, cy, r, 0, 7);
      ctx.moveTo(cx - r - 5, cy); ctx.lineTo(cx + r + 5, cy); ctx.moveTo(cx, cy - r - 5); ctx.lineTo(cx, cy + r + 5);
      ctx.stroke();
      for (const [trait, colour, name] of [["other", theme.series3, "m′"], ["position", theme.ink, "m"]]) {
        const m = view.get(trait);
        if (m >= state.known) continue;
        const [p, q] = [state.table[m * d + a], state.table[m * d + b]];
        // cosine across, sine up, so that both kinds of hand run the same way: against the clock
        const [x, y] = state.scheme === "sinusoidal" ? [q, p] : [p, q], size = Math.hypot(x, y) || 1;
        const [px, py] = [cx + (x / (top || 1)) * r, cy - (y / (top || 1)) * r];
        ctx.strokeStyle = ctx.fillStyle = colour;
        ctx.lineWidth = 2.5;
        ctx.setLineDash(trait === "other" ? [4, 3] : []);
        ctx.beginPath(); ctx.moveTo(cx, cy); ctx.lineTo(px, py); ctx.stroke();
        ctx.setLineDash([]);
        ctx.beginPath(); ctx.arc(px, py, 4, 0, 7); ctx.fill();
        ctx.font = `600 12px ${theme.font}`;
        ctx.textAlign = "center";
        ctx.textBaseline = "middle";
        ctx.fillText(name, px + (13 * x) / size, Math.max(8, Math.min(height - 8, py - (13 * y) / size)));
      }
    } });

  // ---- pointing -----------------------------------------------------------------------------------------------------
  const place = (lane, event) => {
    const box = lane.canvas.getBoundingClientRect();
    const m = Math.floor(((event.clientX - box.left - GUTTER) / (lane.width - GUTTER - RIGHT)) * length);
    return { m: Math.max(0, Math.min(length - 1, m)), inside: event.clientX - box.left >= GUTTER, y: event.clientY - box.top };
  };
  const pairAt = (c) => Math.min(d / 2 - 1, state.scheme === "rotary" ? c % (d / 2) : Math.floor(c / 2));
  const rowAt = (y) => Math.max(0, Math.min(d - 1, Math.floor(((y - 1) / tall) * d)));
  for (const lane of [counter, table, wave]) {
    const { canvas } = lane;
    canvas.tabIndex = 0;
    canvas.setAttribute("data-lm-suppress-shortcuts", "true");
    canvas.classList.add("pe-live");
    const choose = (event) => {
      const { m, y } = place(lane, event);
      view.set({ position: m, ...(lane === table && event.type === "pointerdown" ? { pair: pairAt(rowAt(y)) } : {}) });
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); choose(event); });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) choose(event);
      const { m, inside, y } = place(lane, event);
      if (!inside) { view.untip(); return; }
      const c = rowAt(y), words = m >= state.known ? "no vector" : null;
      const [a, b] = state.features(view.get("pair"));
      const value = (f) => `feature ${f}: ${number(state.table[m * d + f], 4)}`;
      view.tip(event, `position ${m} = ${m.toString(2).padStart(count, "0")}₂`,
        ...(lane === counter ? [] : [h("br"), words ?? (lane === table ? value(c) : `${value(a)}, ${value(b)}`)]));
    });
    canvas.addEventListener("pointerleave", () => view.untip());
    heat.arrows(canvas, { rows: d / 2, cols: length, current: () => [view.get("pair"), view.get("position")],
      move: (i, m) => view.set({ pair: i, position: m }) });
  }

  const titles = { counter: h("h4"), table: h("h4"), wave: h("h4") };
  const lane = (title, main, ...side) => h("div", { class: "pe-lane" }, h("div", { class: "pe-title" }, title), main.box, h("div", { class: "pe-side" }, side));
  const waveKey = h("div", { class: "al-note pe-key" });
  const box = h("div", { class: "pe-lanes" }, lane(titles.counter, counter, bits), lane(titles.table, table, ramp, values), lane(titles.wave, wave, clock.box, waveKey));

  const swatch = (colour, dashed) => h("i", { class: dashed ? "pe-dashed" : "pe-line", style: { borderTopColor: colour } });
  const sup = (text) => h("sup", {}, text);
  const heads = {
    sinusoidal: () => ["Sinusoids: feature 2i is sin(m ωᵢ), feature 2i + 1 is cos(m ωᵢ), with ωᵢ = base", sup("−2i/d")],
    learned: () => [`Learned: one row of ${d} numbers for each of ${state.known} positions`],
    rotary: () => ["Rotary: one query q, each of its pairs turned by m ωᵢ, with ωᵢ = base", sup("−2i/d")],
  };
  function show() {
    const theme = view.theme, m = view.get("position"), other = view.get("other"), i = view.get("pair"), [a, b] = state.features(i);
    const binary = (value) => value.toString(2).padStart(count, "0");
    const line = (name, value, kind) => h("div", { class: kind }, h("span", {}, `${name} = ${value}`), h("b", { class: "pe-binary" }, binary(value)));
    bits.replaceChildren(line("m", m, "pe-m"), line("m′", other, "pe-other"));
    titles.counter.replaceChildren("A binary counter: digit b flips every 2", sup("b"), " positions, and is 1 where it is filled");
    titles.table.replaceChildren(...heads[state.scheme]());
    titles.wave.replaceChildren(`Pair i = ${i}, features ${a} and ${b}: `, state.scheme === "learned" ? "nothing ties one position to the next"
      : `once around in ${turnText(state.wavelength(i))} positions`);
    const size = number(state.top, state.top === 1 ? 0 : 2);
    ramp.replaceChildren(heat.legend([[0, `−${size}`], [128, "0"], [255, size]].map(([n, text]) => ({ colour: theme.diverging[n], text }))));
    const entry = (c) => h("div", {}, `feature ${c}: `, m < state.known
      ? h("b", { dataset: { feature: c, value: state.table[m * d + c] } }, number(state.table[m * d + c], 4)) : h("b", {}, "none"));
    values.replaceChildren(entry(a), entry(b));
    const names = { sinusoidal: ["sine", "cosine"], learned: [`${a}`, `${b}`], rotary: [`${a}`, `${b}`] }[state.scheme];
    waveKey.replaceChildren(h("span", {}, swatch(theme.series1), names[0]), h("span", {}, swatch(theme.series2, true), names[1]),
      state.scheme === "sinusoidal" ? h("span", {}, swatch(theme.cut), `digit every ${2 ** positions.nearestDigit(state.wavelength(i), count)}`) : "");
    wave.canvas.dataset.wavelength = state.wavelength(i);
  }
  return { box, show, outline, picture };
};
