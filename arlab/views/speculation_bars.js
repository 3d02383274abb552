// The two runs as bars on one time axis; above each call of the target a tower of the tokens that it gave.
// state: { plain, lane (those of speculation_clock.js), gamma, end, t }
const speculationBars = (view, state) => {
  const { clock, many } = speculation;
  const SIDE = 8, LABEL = 20, BAR = 16, AXIS = 24, GAP = 12; // pixels; SIDE: half the thumb of the slider below
  const pattern = arlab.hatching();
  const unit = () => Math.max(3, Math.min(8, Math.floor(60 / (state.gamma + 1))));
  const plainTop = () => LABEL + unit() + 2, laneTop = () => plainTop() + BAR + GAP + LABEL + unit() * (state.gamma + 1) + 2;
  const tall = () => laneTop() + BAR + AXIS;

  const nice = (end, room) => { // the distance of the ticks
    const least = (end * 78) / room, power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].find((m) => m * power >= least) * power;
  };
  const tickText = (x, by, end) => (end < 1 ? `${Number((1000 * x).toFixed(Math.max(0, -Math.floor(Math.log10(1000 * by) + 1e-9))))} ms`
    : `${x.toFixed(Math.max(0, -Math.floor(Math.log10(by) + 1e-9)))} s`);

  // One square of a tower. Thrown-away drafts are hollow, the target's own token has its shape.
  function square(ctx, theme, kind, x, y, w, s) {
    const thin = w < 5, h = s - 1;
    ctx.fillStyle = ctx.strokeStyle = { accepted: theme.good, corrected: theme.accent, bonus: theme.series4, end: theme.good, token: theme.kept }[kind] ?? theme.cut;
    ctx.lineWidth = 1;
    if (kind === "rejected" || kind === "unused") {
      if (thin) { ctx.fillRect(x + w / 2 - 0.5, y, 1, h); return; }
      ctx.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
      if (kind === "rejected") { ctx.beginPath(); ctx.moveTo(x + 1, y + h - 1); ctx.lineTo(x + w - 1, y + 1); ctx.stroke(); }
    } else if (kind === "corrected" && !thin) { // a diamond
      ctx.beginPath();
      for (const [a, b] of [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]]) ctx.lineTo(x + a * w, y + b * h);
      ctx.fill();
    } else if (kind === "bonus" && !thin) { // a triangle
      ctx.beginPath();
      for (const [a, b] of [[0.5, 0], [1, 1], [0, 1]]) ctx.lineTo(x + a * w, y + b * h);
      ctx.fill();
    } else ctx.fillRect(x, y, w, h);
  }

  function lane(ctx, theme, calls, top, x) {
    const s = unit();
    for (const call of calls) {
      const from = x(call.start), middle = x(call.drafted), to = x(call.end);
      const gap = Math.min(1, (to - from) * 0.25); // neighbours stay apart, however narrow
      if (middle > from) {
        ctx.fillStyle = pattern(ctx, theme.accent);
        ctx.fillRect(from, top, middle - from, BAR);
        ctx.strokeStyle = theme.accent;
        ctx.lineWidth = 1;
        const wide = (middle - from) / Math.max(1, call.drafts.length);
        if (wide >= 3) { // a tick for each drafted token
          ctx.beginPath();
          call.drafts.forEach((_, j) => { const at = from + wide * (j + 1) - 0.5; ctx.moveTo(at, top); ctx.lineTo(at, top + BAR); });
          ctx.stroke();
        }
      }
      ctx.fillStyle = theme.kept;
      ctx.fillRect(middle, top, Math.max(0.3, to - middle - gap), BAR);
      const w = Math.max(1, Math.min(s - 1, to - from - gap)), left = to - gap - w;
      const kinds = call.drafts.filter((kind) => kind === "accepted"), lost = call.drafts.length - kinds.length;
      if (call.gain > kinds.length) kinds.push(call.kind === "plain" ? "token" : call.kind);
      kinds.push(...call.drafts.slice(call.drafts.length - lost));
      kinds.forEach((kind, i) => square(ctx, theme, kind, left, top - 1 - s * (i + 1), w, s));
    }
  }

  // Both lanes as they are at the end, drawn once and copied from in every frame.
  const sheet = document.createElement("canvas");
  let drawn = [];
  function lanes(width, height, theme, x) {
    const ratio = globalThis.devicePixelRatio || 1, key = [state.lane, theme, width, height, ratio];
    if (key.every((one, i) => one === drawn[i])) return ratio;
    drawn = key;
    sheet.width = Math.round(width * ratio);
    sheet.height = Math.round(height * ratio);
    const ctx = sheet.getContext("2d");
    ctx.scale(ratio, ratio);
    lane(ctx, theme, state.plain.calls, plainTop(), x);
    lane(ctx, theme, state.lane.calls, laneTop(), x);
    return ratio;
  }

  function draw(ctx, width, height, theme) {
    const room = width - 2 * SIDE, x = (t) => SIDE + (room * Math.min(t, state.end)) / state.end, at = x(state.t);
    ctx.font = `12px ${theme.font}`;
    const rows = [{ calls: state.plain.calls, top: plainTop(), label: 0, name: "without speculation", end: state.plain.end },
      { calls: state.lane.calls, top: laneTop(), label: plainTop() + BAR + GAP, end: state.lane.end, name: `with speculation, gamma ${state.gamma}` }];
    const ratio = lanes(width, height, theme, x), cut = Math.round(at * ratio) / ratio;
    for (const [alpha, from, to] of [[1, 0, cut], [0.16, cut, width]]) { // what is to come is faint
      ctx.globalAlpha = alpha;
      if (to > from) ctx.drawImage(sheet, from * ratio, 0, (to - from) * ratio, sheet.height, from, 0, to - from, height);
    }
    ctx.globalAlpha = 1;
    for (const row of rows) {
      ctx.fillStyle = theme.soft;
      ctx.textAlign = "left";
      ctx.fillText(`${row.name}: ${many(row.calls.length, "target call")}, ${clock(row.end)}`, SIDE, row.label + 13);
      ctx.fillStyle = theme.line;
      ctx.fillRect(x(row.end), row.top, SIDE + room - x(row.end), 1);
    }
    const base = laneTop() + BAR, by = nice(state.end, room);
    ctx.fillStyle = theme.faint;
    for (let k = 0; k * by <= state.end * (1 + 1e-9); k++) {
      const place = x(k * by), text = tickText(k * by, by, state.end), half = ctx.measureText(text).width / 2;
      ctx.fillRect(place - 0.5, base + 3, 1, 4);
      ctx.textAlign = "center";
      ctx.fillText(text, Math.max(half, Math.min(width - half, place)), base + 19);
    }
    ctx.fillStyle = theme.ink;
    ctx.fillRect(Math.min(width - 2, Math.max(0, at - 0.75)), LABEL, 1.5, base - LABEL + 4);
  }

  const plot = view.canvas({ height: tall, label: "Both runs in time", draw });
  // The second of a place on the canvas, 0 .. end.
  const second = (pixel) => Math.max(0, Math.min(1, (pixel - SIDE) / (plot.width - 2 * SIDE))) * state.end;
  return { ...plot, box: plot.box, resize: plot.resize, second };
};
