// The plot of the training curves: axes, lines, validation points, reference lines, the cursor.
// state: { runs: [{ id, name, data, ... }] (those drawn), cursor: place on the x axis or null, low, high (of x) }
const DASHES = [[], [9, 4], [3, 3], [11, 4, 2, 4], [17, 5], [5, 3, 2, 3, 2, 3]];
const MARKS = ["circle", "square", "diamond", "triangle", "cross", "wedge"];
// Colour, dashes and mark of a run's number: all three differ for six runs, and pairs of them for thirty-six.
const lookOf = (id) => ({ colour: `series${(id % 6) + 1}`, dash: DASHES[(id + Math.floor(id / 6)) % 6], mark: MARKS[id % 6] });

// One mark of radius r: an outline that is filled with the surface, so that a line beneath it does not disturb.
const MARK_POINTS = {
  square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  triangle: [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]], wedge: [[0, 1.2], [1.15, -0.9], [-1.15, -0.9]],
  cross: [[-1, -1], [1, 1], [0, 0], [1, -1], [-1, 1], [0, 0]],
};
const drawMark = (ctx, mark, x, y, r, colour, inside) => {
  ctx.beginPath();
  if (mark === "circle") ctx.arc(x, y, r, 0, 7);
  else MARK_POINTS[mark].forEach(([dx, dy], i) => (i ? ctx.lineTo(x + r * dx, y + r * dy) : ctx.moveTo(x + r * dx, y + r * dy)));
  ctx.closePath();
  ctx.fillStyle = inside;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.75;
  ctx.fill();
  ctx.stroke();
};

const curvesPlot = (view, state, { height = 330 } = {}) => {
  const M = { left: 56, right: 16, top: 28, bottom: 44 };
  const NAMES = { steps: "training steps", tokens: "training tokens (targets)", seconds: "seconds of training" };
  let sx = (x) => x, sy = (y) => y, back = (px) => px; // data to pixels, and pixels to x
  const box = { left: M.left, right: 1, top: M.top, bottom: 1 };

  const scale = (low, high, from, to, log) => {
    const a = log ? Math.log(low) : low, k = (to - from) / ((log ? Math.log(high) : high) - a || 1);
    return log ? { to: (v) => from + (Math.log(v) - a) * k, back: (px) => Math.exp(a + (px - from) / k) }
      : { to: (v) => from + (v - a) * k, back: (px) => a + (px - from) / k };
  };

  // ---- ranges ----------------------------------------------------------------------------------------------------
  const xs = (run) => run.data[curves.AXES[view.get("x")]];
  function xRange() {
    const log = view.get("log_x");
    let low = Infinity, high = -Infinity, growing = false;
    for (const run of state.runs) {
      const [from, to] = curves.extent(run.data, curves.AXES[view.get("x")], log);
      [low, high] = [Math.min(low, from), Math.max(high, to)];
      if (run.state === "running") growing = true;
    }
    const planned = view.get("x") === "steps" ? Math.max(0, ...state.runs.map((run) => (run.state === "running" ? run.total : 0))) : 0;
    if (low > high) [low, high] = [log ? 1 : 0, state.total || 1];
    else if (growing) high = planned > high ? planned : curves.linearTicks(0, high, 6, true).high; // in a few leaps, not with each record
    if (!log && low < 0.3 * high) low = 0;
    if (low === high) [low, high] = log ? [low / 2, low * 2] : [Math.min(0, low), low || 1];
    return [low, high];
  }
  function yRange() {
    const log = view.get("log_y");
    let low = Infinity, high = -Infinity;
    const take = (from, to) => { [low, high] = [Math.min(low, from), Math.max(high, to)]; };
    for (const { data } of state.runs) for (const name of ["loss", "validation"]) take(...curves.extent(data, name, log));
    for (const { value } of view.get("_lines")) if (!log || value > 0) take(value, value);
    if (low > high) return log ? [0.1, 10] : [0, 1];
    if (low === high) return log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
    return log ? [low / (high / low) ** 0.05, high * (high / low) ** 0.05] : [low, high];
  }

  // ---- axes --------------------------------------------------------------------------------------------------------
  function axes(ctx, width, tall, theme) {
    Object.assign(box, { right: width - M.right, bottom: tall - M.bottom });
    const [xLow, xHigh] = xRange(), [yLow, yHigh] = yRange(), logX = view.get("log_x"), logY = view.get("log_y");
    const across = Math.max(2, Math.floor((box.right - box.left) / 90));
    const x = logX ? curves.logTicks(xLow, xHigh, across) : curves.linearTicks(xLow, xHigh, across, false);
    const y = logY ? curves.logTicks(yLow, yHigh, 7) : curves.linearTicks(yLow, yHigh, 6, true);
    const h = scale(x.low, x.high, box.left, box.right, logX), v = scale(y.low, y.high, box.bottom, box.top, logY);
    [sx, back, sy] = [h.to, h.back, v.to];
    Object.assign(state, { low: x.low, high: x.high });
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.faint;
    ctx.strokeStyle = theme.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.textAlign = "right";
    for (const tick of y.ticks) {
      const at = Math.round(sy(tick)) + 0.5;
      ctx.moveTo(box.left, at);
      ctx.lineTo(box.right, at);
      ctx.fillText(curves.tickText(tick, y.digits), box.left - 7, at + 3.5);
    }
    ctx.textAlign = "center";
    for (const tick of x.ticks) {
      const at = Math.round(sx(tick)) + 0.5, text = curves.tickText(tick), half = ctx.measureText(text).width / 2;
      ctx.moveTo(at, box.bottom);
      ctx.lineTo(at, box.bottom + 5);
      ctx.fillText(text, Math.min(at, width - half - 1), box.bottom + 18);
    }
    ctx.moveTo(box.left, box.bottom + 0.5);
    ctx.lineTo(box.right, box.bottom + 0.5);
    ctx.stroke();
    ctx.font = `12px ${theme.font}`;
    ctx.fillStyle = theme.soft;
    ctx.textAlign = "left";
    ctx.fillText(view.get("_loss_label") + (logY ? " (logarithmic)" : ""), 2, 13);
    ctx.textAlign = "right";
    ctx.fillText(NAMES[view.get("x")] + (logX ? " (logarithmic)" : ""), box.right, tall - 5);
  }

  // ---- lines --------------------------------------------------------------------------------------------------------
  // A line through points that may be many more than pixels: of each column of pixels, its first, extreme and last
  // values are drawn, which gives the same picture. What is not finite (or cannot be drawn on a logarithm) is a gap.
  function path(ctx, data, values) {
    const logX = view.get("log_x"), logY = view.get("log_y");
    let column = NaN, first = 0, low = 0, high = 0, last = 0, open = false, count = 0, px = 0;
    const dots = [];
    const end = () => {
      if (!open) return;
      if (low !== high) { ctx.lineTo(px, low); ctx.lineTo(px, high); ctx.lineTo(px, last); }
      if (count === 1) dots.push([px, first]);
      open = false;
    };
    ctx.beginPath();
    for (let i = 0; i < values.length; i++) {
      const x = data[i], y = values[i];
      if (y - y !== 0 || x - x !== 0 || (logX && x <= 0) || (logY && y <= 0)) { end(); column = NaN; continue; }
      const at = sx(x), level = sy(y), here = Math.floor(2 * at);
      if (!open) { ctx.moveTo(at, level); [open, count] = [true, 0]; }
      else if (here === column) {
        if (level < low) low = level;
        if (level > high) high = level;
        px = at;
        last = level;
        count++;
        continue;
      } else {
        if (low !== high) { ctx.lineTo(px, low); ctx.lineTo(px, high); ctx.lineTo(px, last); }
        ctx.lineTo(at, level);
      }
      column = here;
      px = at;
      first = low = high = last = level;
      count++;
    }
    end();
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.fillStyle = ctx.strokeStyle;
    for (const [x, y] of dots) { ctx.beginPath(); ctx.arc(x, y, 2, 0, 7); ctx.fill(); }
  }

  const shownLines = () => view.get("_lines").filter(({ value }) => value > 0 || !view.get("log_y"));
  function references(ctx, theme) {
    ctx.strokeStyle = theme.soft;
    ctx.lineWidth = 1.25;
    ctx.setLineDash([1, 3]);
    ctx.beginPath();
    for (const { value } of shownLines()) {
      const at = Math.round(sy(value)) + 0.5;
      ctx.moveTo(box.left, at);
      ctx.lineTo(box.right, at);
    }
    ctx.stroke();
    ctx.setLineDash([]);
  }
  // How many points of the curves lie in a rectangle (some are looked at, not all).
  function crowd(left, right, top, bottom) {
    const from = back(left), to = back(right);
    let count = 0;
    for (const run of state.runs) {
      const x = xs(run), values = curves.average(run.data, view.get("smoothing"));
      const first = Math.max(0, curves.placeOf(x, from)), last = curves.placeOf(x, to);
      for (let i = first, stride = Math.max(1, (last - first) / 50); i <= last; i += stride) {
        const y = sy(values[Math.floor(i)]);
        if (y > top && y < bottom) count++;
      }
    }
    return count;
  }
  // Names of the reference lines, at the end that is less crowded; those of lines close together stand side by side.
  function referenceNames(ctx, theme) {
    ctx.font = `12px ${theme.font}`;
    ctx.textAlign = "left";
    const placed = [];
    for (const { label, value } of shownLines()) {
      const at = Math.round(sy(value)) + 0.5, text = `${label} = ${Number(value.toPrecision(4))}`, wide = ctx.measureText(text).width;
      const base = at - box.top < 18 ? at + 14 : at - 5;
      const near = (end) => placed.filter((one) => one.end === end && Math.abs(one.base - base) < 14);
      const places = { right: Math.min(box.right - 4, ...near("right").map((one) => one.x - 14)) - wide,
        left: Math.max(box.left + 5, ...near("left").map((one) => one.x + one.wide + 14)) };
      const [right, left] = [places.right, places.left].map((x) => crowd(x - 4, x + wide + 4, base - 14, base + 6));
      const end = left < right ? "left" : "right", x = places[end];
      placed.push({ base, end, x, wide });
      ctx.globalAlpha = 0.8;
      ctx.fillStyle = theme.surface;
      ctx.fillRect(x - 3, base - 11, wide + 6, 14);
      ctx.globalAlpha = 1;
      ctx.fillStyle = theme.ink;
      ctx.fillText(text, x, base);
    }
  }

  // Where a loss is not a number: a hatched strip, so that the gap is seen to be no accident, with its name.
  const hatching = arlab.hatching();
  function gaps(ctx, run, theme) {
    const x = xs(run);
    ctx.font = `600 11px ${theme.font}`;
    ctx.textAlign = "center";
    let free = -Infinity; // names do not overlap
    for (const [first, last] of curves.stretches(run.data)) {
      const from = sx(x[first]), to = sx(x[last]);
      if (!Number.isFinite(from) || !Number.isFinite(to)) continue;
      ctx.fillStyle = hatching(ctx, theme.accent);
      ctx.globalAlpha = 0.5;
      ctx.fillRect(from - 1.5, box.top, to - from + 3, box.bottom - box.top);
      ctx.globalAlpha = 1;
      const text = curves.spell(run.data.loss[first]), wide = ctx.measureText(text).width;
      const at = Math.max(box.left + wide / 2, Math.min(box.right - wide / 2, (from + to) / 2));
      if (at - wide / 2 < free) continue;
      free = at + wide / 2 + 6;
      ctx.fillStyle = theme.accent;
      ctx.fillText(text, at, box.top - 3);
    }
  }

  function lines(ctx, theme) {
    const span = view.get("smoothing");
    ctx.lineJoin = "round";
    if (span > 1) {
      ctx.globalAlpha = 0.35;
      ctx.lineWidth = 1;
      for (const run of state.runs) { ctx.strokeStyle = theme[lookOf(run.id).colour]; path(ctx, xs(run), run.data.loss); }
      ctx.globalAlpha = 1;
    }
    for (const run of state.runs) {
      const look = lookOf(run.id);
      ctx.strokeStyle = theme[look.colour];
      ctx.lineWidth = span > 1 ? 2.25 : 1.75;
      ctx.setLineDash(look.dash);
      path(ctx, xs(run), span > 1 ? curves.average(run.data, span) : run.data.loss);
    }
  }

  function validation(ctx, theme) {
    for (const run of state.runs) {
      const { data } = run, look = lookOf(run.id), colour = theme[look.colour], x = xs(run);
      if (!data.validated.length) continue;
      ctx.strokeStyle = colour;
      ctx.lineWidth = 1;
      path(ctx, data.validated.map((i) => x[i]), data.validated.map((i) => data.validation[i]));
      let free = -Infinity;
      for (const i of data.validated) {
        const at = sx(x[i]), level = sy(data.validation[i]);
        if (!Number.isFinite(at) || !Number.isFinite(level) || (at < free && i !== data.validated.at(-1))) continue;
        free = at + 9;
        drawMark(ctx, look.mark, at, level, 3.5, colour, theme.surface);
      }
    }
  }

  function cursor(ctx, theme) {
    if (state.cursor === null) return;
    const at = Math.round(sx(state.cursor)) + 0.5;
    ctx.strokeStyle = theme.ink;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(at, box.top);
    ctx.lineTo(at, box.bottom);
    ctx.stroke();
    const span = view.get("smoothing");
    for (const run of state.runs) {
      const i = state.at(run);
      const y = i < 0 ? NaN : sy(span > 1 ? curves.average(run.data, span)[i] : run.data.loss[i]);
      if (!Number.isFinite(y)) continue;
      ctx.fillStyle = theme[lookOf(run.id).colour];
      ctx.beginPath();
      ctx.arc(sx(xs(run)[i]), y, 4, 0, 7);
      ctx.fill();
    }
  }

  const canvas = view.canvas({ height, label: "Loss of the runs", draw(ctx, width, tall, theme) {
    axes(ctx, width, tall, theme);
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left - 4, 0, box.right - box.left + 8, box.bottom + 1);
    ctx.clip();
    for (const run of state.runs) gaps(ctx, run, theme);
    references(ctx, theme);
    lines(ctx, theme);
    validation(ctx, theme);
    referenceNames(ctx, theme);
    cursor(ctx, theme);
    ctx.restore();
    if (!state.runs.some((run) => run.data.step.length)) {
      ctx.font = `13px ${theme.font}`;
      ctx.fillStyle = theme.faint;
      ctx.textAlign = "center";
      ctx.fillText(state.empty, (box.left + box.right) / 2, (box.top + box.bottom) / 2);
    }
  } });
  return { ...canvas, xs, pixelToX: (px) => back(Math.max(box.left, Math.min(box.right, px))), xToPixel: (x) => sx(x) };
};
