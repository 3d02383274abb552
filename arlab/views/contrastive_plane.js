// Every token of the vocabulary as a point: across, its log-probability under the weak model; up, under the strong one.
// The score is the height above the diagonal, the guard a level line; the winner is the point furthest above the diagonal
// that lies on or over the line.
const contrastivePlane = (view, state, name) => {
  const { prob, signed, power } = contrastWords;
  const LEFT = 54, BOTTOM = 30, TOP = 12, RIGHT = 12;
  let map = null; // log-probability -> pixel
  const layers = { key: "", kept: null, cut: null }; // the points once in each colour: a move only clips them
  const put = (ctx, theme) => {
    const { contrast } = state;
    const paint = (colour, size) => {
      const layer = document.createElement("canvas");
      [layer.width, layer.height] = [ctx.canvas.width, ctx.canvas.height];
      const c = layer.getContext("2d"), ratio = globalThis.devicePixelRatio || 1;
      c.scale(ratio, ratio);
      c.fillStyle = colour;
      for (let i = contrast.size - 1; i >= 0; i--) c.fillRect(map.x(contrast.weak[i]) - size / 2, map.y(contrast.strong[i]) - size / 2, size, size);
      return layer;
    };
    layers.kept = paint(theme.series1, contrast.size < 1000 ? 4 : 2);
    layers.cut = paint(theme.cut, contrast.size < 1000 ? 4 : 1.6);
  };
  const sign = (ctx, x, y, kind, theme) => {
    ctx.beginPath();
    if (kind === "chosen") { ctx.moveTo(x, y - 7); ctx.lineTo(x + 6, y); ctx.lineTo(x, y + 7); ctx.lineTo(x - 6, y); ctx.closePath(); }
    else if (kind === "first") ctx.arc(x, y, 9, 0, 2 * Math.PI);
    else { ctx.moveTo(x - 5, y - 5); ctx.lineTo(x + 5, y + 5); ctx.moveTo(x + 5, y - 5); ctx.lineTo(x - 5, y + 5); }
    ctx.lineWidth = kind === "chosen" ? 1 : 2;
    ctx.fillStyle = theme.accent;
    ctx.strokeStyle = kind === "chosen" ? theme.surface : kind === "first" ? theme.ink : theme.accent;
    if (kind === "chosen") ctx.fill();
    ctx.stroke();
  };
  const draw = (ctx, width, height, theme) => {
    const { contrast, floor, chosen, limit } = state;
    if (!contrast) return;
    const right = width - RIGHT, low = height - BOTTOM, unit = Math.LN10;
    const clip = (lp) => Math.max(0, 1 + lp / (unit * floor)); // 0 at 10^-floor and below, 1 at p = 1
    map = { x: (lp) => LEFT + clip(lp) * (right - LEFT), y: (lp) => low - clip(lp) * (low - TOP) };
    ctx.font = `11px ${theme.font}`;
    ctx.lineWidth = 1;
    ctx.strokeStyle = theme.line;
    ctx.fillStyle = theme.faint;
    for (const decade of state.ticks) {
      const x = map.x(-decade * unit), y = map.y(-decade * unit), text = power(decade);
      ctx.beginPath();
      ctx.moveTo(x, TOP); ctx.lineTo(x, low);
      ctx.moveTo(LEFT, y); ctx.lineTo(right, y);
      ctx.stroke();
      ctx.textAlign = "right";
      ctx.fillText(text, LEFT - 5, y + 4);
      ctx.textAlign = decade === 0 ? "right" : "center";
      ctx.fillText(text, x, low + 14);
    }
    ctx.textAlign = "center";
    ctx.fillText(`p, ${view.get("weak_name")}`, (LEFT + right) / 2, height - 3);
    ctx.save();
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(`p, ${view.get("strong_name")}`, -(TOP + low) / 2, 10);
    ctx.restore();

    const key = [width, height, ctx.canvas.width, theme.series1, theme.cut, state.version].join();
    if (key !== layers.key) put(ctx, theme);
    layers.key = key;
    const line = limit === -Infinity ? low + 3 : map.y(limit);
    for (const [layer, from, to] of [[layers.cut, line, height], [layers.kept, 0, line]]) {
      ctx.save();
      ctx.beginPath();
      ctx.rect(0, from, width, to - from);
      ctx.clip();
      ctx.drawImage(layer, 0, 0, width, height);
      ctx.restore();
    }
    ctx.fillStyle = theme.series1; // a few stand out more
    if (contrast.n < 1000) for (let i = 0; i < contrast.n; i++) ctx.fillRect(map.x(contrast.weak[i]) - 2, map.y(contrast.strong[i]) - 2, 4, 4);
    // lines of equal score: 0, and that of the winner
    const diagonal = (score, colour, dash) => {
      ctx.strokeStyle = colour;
      ctx.setLineDash(dash);
      ctx.save();
      ctx.beginPath();
      ctx.rect(LEFT, TOP, right - LEFT, low - TOP);
      ctx.clip();
      const shift = (score / (unit * floor)) * (low - TOP);
      ctx.beginPath();
      ctx.moveTo(LEFT, low - shift);
      ctx.lineTo(right, TOP - shift);
      ctx.stroke();
      ctx.restore();
      ctx.setLineDash([]);
    };
    ctx.lineWidth = 1.2;
    diagonal(0, theme.soft, []);
    diagonal(contrast.score[chosen], theme.series3, [2, 3]);
    if (limit !== -Infinity) {
      ctx.strokeStyle = theme.accent;
      ctx.lineWidth = 1.5;
      ctx.setLineDash([5, 4]);
      ctx.beginPath();
      ctx.moveTo(LEFT, line); ctx.lineTo(right, line);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    const at = (rank, kind) => sign(ctx, map.x(contrast.weak[rank]), map.y(contrast.strong[rank]), kind, theme);
    if (contrast.free[0] !== chosen) at(contrast.free[0], "free");
    at(0, "first");
    at(chosen, "chosen");
  };
  // The token nearest to the pointer, in words.
  const nearest = (x, y) => {
    const { contrast } = state;
    let best = -1, least = 100;
    for (let i = 0; i < contrast.size; i++) {
      const dx = map.x(contrast.weak[i]) - x, dy = map.y(contrast.strong[i]) - y, far = dx * dx + dy * dy;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  };
  const point = (event) => {
    const rank = map ? nearest(event.offsetX, event.offsetY) : -1;
    if (rank < 0) { view.untip(); return; }
    const { contrast } = state;
    view.tip(event, arlab.h("span", { class: "al-token" }, name(rank)), ` ${prob(contrast.strong[rank], 1)} against ${prob(contrast.weak[rank], 1)}: `,
      rank < contrast.n ? `score ${signed(contrast.score[rank])}` : `not plausible (${signed(contrast.score[rank])})`);
  };
  const plane = view.canvas({ height: (width) => Math.max(230, Math.min(300, Math.round(width * 0.75))), draw,
    label: "Every token of the vocabulary: probability under the weak model across, under the strong model up; the guard is a level line" });
  view.listen(plane.canvas, "mousemove", point);
  view.listen(plane.canvas, "mouseleave", view.untip);
  return plane;
};
