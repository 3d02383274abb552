// Cumulative probability against rank (logarithmic), the cut, the threshold of top-p, and where draws land.
// state: { now: Distribution, heated: mass after temperature, afterK: mass after top-k, count, uniforms }
const cumulativeCurve = (view, state) => {
  const { thousands } = arlab;
  const M = { left: 38, right: 10, top: 10, bottom: 30 };
  let columns = new Uint32Array(0); // the rank (from 0) at each pixel
  let columnsFor = "";
  let w = 1, tall = 1, span = 1;
  const x = (rank) => M.left + (w * Math.log(rank + 1)) / span; // left edge of a rank, counted from 0
  const y = (c) => M.top + tall * (1 - c);
  const hatching = arlab.hatching();

  function lay(width, height, size) {
    w = width - M.left - M.right;
    tall = height - M.top - M.bottom;
    span = Math.log(size + 1);
    if (columnsFor === `${w}/${size}`) return;
    columnsFor = `${w}/${size}`;
    columns = Uint32Array.from({ length: Math.max(1, Math.floor(w)) }, (_, i) => Math.min(size, Math.exp((i / w) * span)) - 1);
  }

  function path(ctx, points) { // [x0, y0, x1, y1, ...]
    ctx.beginPath();
    for (let i = 0; i < points.length; i += 2) ctx.lineTo(points[i], points[i + 1]);
    ctx.stroke();
  }
  function dashed(ctx, colour, points) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1;
    ctx.setLineDash([4, 4]);
    path(ctx, points);
    ctx.setLineDash([]);
  }

  function frame(ctx, theme, size, width, height) {
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.faint;
    ctx.strokeStyle = theme.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.textAlign = "right";
    for (const c of [0, 0.25, 0.5, 0.75, 1]) {
      ctx.moveTo(M.left, Math.round(y(c)) + 0.5);
      ctx.lineTo(width - M.right, Math.round(y(c)) + 0.5);
      ctx.fillText(c.toFixed(2), M.left - 6, y(c) + 4);
    }
    ctx.textAlign = "center";
    const times = size > 300 ? 10 : size > 30 ? 4 : 2;
    for (let rank = 1; rank <= size; rank *= times) {
      const at = Math.round((x(rank - 1) + x(rank)) / 2) + 0.5;
      ctx.moveTo(at, y(0));
      ctx.lineTo(at, y(0) + 4);
      ctx.fillText(thousands(rank), Math.min(at, width - M.right - 8), y(0) + 16);
    }
    ctx.stroke();
    ctx.textAlign = "right";
    ctx.fillText("rank", width - M.right, height - 2);
  }

  // A staircase of cumulative mass / total over the first `ranks` ranks.
  function stairs(ctx, colour, thick, mass, total, ranks) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = thick;
    ctx.beginPath();
    let level = 0;
    for (let i = 0; i < columns.length && columns[i] < ranks; i++) {
      const next = y(Math.min(1, mass[columns[i]] / total));
      if (i && next !== level) ctx.lineTo(M.left + i, level);
      ctx.lineTo(M.left + i, next);
      level = next;
    }
    ctx.stroke();
  }

  function drawCut(ctx, theme, n, width) {
    const edge = x(n), left = edge > M.left + w * 0.55;
    ctx.strokeStyle = theme.accent;
    ctx.lineWidth = 1.5;
    path(ctx, [edge, M.top, edge, M.top + tall]);
    ctx.font = `600 12px ${theme.font}`;
    ctx.textAlign = left ? "right" : "left";
    const label = `${thousands(n)} kept`, at = edge + (left ? -6 : 6), wide = ctx.measureText(label).width;
    ctx.fillStyle = theme.surface;
    ctx.fillRect(left ? at - wide - 3 : at - 3, M.top + tall - 26, wide + 6, 20);
    ctx.fillStyle = theme.accent;
    ctx.fillText(label, at, M.top + tall - 11);
  }

  function drawLanding(ctx, theme) {
    const { now, count, uniforms } = state;
    ctx.fillStyle = theme.accent;
    ctx.font = `600 12px ${theme.font}`;
    for (let i = 0; i < count; i++) {
      const rank = now.land(uniforms[i]), at = (x(rank) + x(rank + 1)) / 2, level = y(uniforms[i]);
      if (count === 1) {
        dashed(ctx, theme.accent, [M.left, level, at, level, at, y(0)]);
        ctx.textAlign = "left";
        ctx.fillText("u", M.left + 5, level > M.top + 16 ? level - 4 : level + 13);
      }
      ctx.beginPath();
      ctx.arc(at, level, count === 1 ? 4.5 : 1.75, 0, 7);
      ctx.fill();
    }
  }

  return view.canvas({ height: 272, label: "Cumulative probability against rank, with the cut",
    draw(ctx, width, height, theme) {
      const { now, heated, afterK } = state;
      if (!now?.n) return;
      lay(width, height, now.size);
      frame(ctx, theme, now.size, width, height);
      if (now.n < now.size) { // what is cut off, hatched
        ctx.fillStyle = hatching(ctx, theme.cut);
        ctx.globalAlpha = 0.35;
        ctx.fillRect(x(now.n), M.top, width - M.right - x(now.n), tall);
        ctx.globalAlpha = 1;
      }
      const t = view.get("temperature");
      stairs(ctx, theme.soft, 1.25, now.mass, heated, t === 0 ? 1 : now.finite);
      stairs(ctx, theme.kept, 2.5, now.mass, now.total, now.n);
      const p = view.get("top_p");
      if (p < 1) {
        const level = y((p * afterK) / heated);
        dashed(ctx, theme.soft, [M.left, level, width - M.right, level]);
        ctx.font = `12px ${theme.font}`;
        ctx.fillStyle = theme.ink;
        ctx.textAlign = "right";
        ctx.fillText(`p = ${p}`, width - M.right - 4, level < M.top + 16 ? level + 14 : level - 5);
      }
      if (now.n < now.size) drawCut(ctx, theme, now.n, width);
      drawLanding(ctx, theme);
    } });
};
