// The heatmap of an alignment: targets down, sources across, gold spans outlined, one row chosen.
// state() gives { alignment, map, sources, targets, target, source } (texts made visible); point(row or null), pick(row, column).
const alignmentMap = (view, { state, point, pick }) => {
  const { h } = arlab;
  const { weightColour, fit, inkOn } = heat;
  const TALL = 470, ANGLE = Math.PI / 3, FONT = 12.5;
  const three = (w) => (w === 0 ? "0" : w < 0.0005 ? "<0.001" : w.toFixed(3));

  // Where things are, for a width. Labels of the sources stand upright where they fit into their columns.
  const pen = document.createElement("canvas").getContext("2d");
  let measured = null;
  const widths = () => {
    const { sources, targets } = state();
    if (measured?.sources === sources && measured.targets === targets) return measured;
    pen.font = `650 ${FONT}px ${view.theme.mono}`;
    const widest = (texts) => Math.max(...texts.map((text) => pen.measureText(text).width));
    return (measured = { sources, targets, across: widest(sources), down: widest(targets) });
  };
  const geometry = (width) => {
    const { alignment } = state(), { across, down } = widths();
    const marks = alignment.gold.length ? 26 : 6, left = Math.min(down, width < 640 ? 84 : 124) + 12;
    const column = (right) => Math.min(44, (width - left - right) / alignment.sources), upright = across <= column(marks) - 1;
    const w = upright ? column(marks) : column(Math.max(marks, Math.min(across, 104) * Math.cos(ANGLE) + 6)); // slanting labels reach out
    const top = upright ? 22 : Math.min(across, 104) * Math.sin(ANGLE) + 12;
    const t = Math.max(5, Math.min(26, (TALL - top) / alignment.targets));
    return { left, top, w, t, upright, room: (top - 10) / Math.sin(ANGLE) };
  };
  const height = (width) => {
    const g = geometry(width);
    return Math.ceil(g.top + g.t * state().alignment.targets + 4);
  };

  const canvas = view.canvas({ height, label: "Alignment map: target tokens down, source tokens across; arrow keys move", draw });
  function draw(ctx, width, height, theme) {
    const { alignment, target, source } = state(), { left, top, w, t } = geometry(width), { sources: columns } = alignment;
    ctx.drawImage(cells(width, height, theme), 0, 0, width, height);
    ctx.strokeStyle = theme.ink;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(left - 1, top + target * t - 1, columns * w + 1, t + 1);
    ctx.lineWidth = 2.5;
    ctx.strokeRect(left + source * w - 0.5, top + target * t - 0.5, w, t);
    drawLabels(ctx, theme);
  }

  // What does not change while one walks through the map: the cells and the gold spans, drawn once for a map and a width.
  const still = document.createElement("canvas");
  let drawn = [];
  function cells(width, height, theme) {
    const { alignment, map } = state(), ratio = canvas.canvas.width / width, now = [alignment, map, width, height, theme, ratio];
    if (now.every((one, n) => one === drawn[n])) return still;
    drawn = now;
    [still.width, still.height] = [canvas.canvas.width, canvas.canvas.height]; // this empties it
    const ctx = still.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawCells(ctx, width, theme);
    drawGold(ctx, theme);
    return still;
  }
  function drawCells(ctx, width, theme) {
    const { alignment, map } = state(), { left, top, w, t } = geometry(width), { sources: columns, targets: rows } = alignment;
    const gap = Math.min(w, t) < 7 ? 0 : 1;
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
      ctx.fillStyle = weightColour(theme, map[i * columns + j]);
      ctx.fillRect(left + j * w, top + i * t, w - gap, t - gap);
    }
    ctx.strokeStyle = theme.line;
    ctx.lineWidth = 1;
    ctx.strokeRect(left - 0.5, top - 0.5, columns * w + 1, rows * t + 1);
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const best = Array.from({ length: rows }, (_, i) => alignment.heaviest(map, i));
    const middle = (i, j) => [left + (j + 0.5) * w - 0.5, top + (i + 0.5) * t - 0.5];
    const ink = (i, j) => { ctx.fillStyle = inkOn(weightColour(theme, map[i * columns + j])); };
    if (w >= 27 && t >= 14) for (const bold of [false, true]) { // a change of font costs more than a number
      ctx.font = `${bold ? "700 " : ""}${w >= 32 ? 11 : 10}px ${theme.font}`;
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
        const value = map[i * columns + j];
        if (value < 0.005 || (j === best[i]) !== bold) continue;
        ink(i, j);
        ctx.fillText(value.toFixed(2).replace(/^0/, ""), ...middle(i, j));
      }
    } else if (w > 4) best.forEach((j, i) => { // no room for numbers: a dot on the heaviest
      if (j < 0) return;
      ink(i, j);
      ctx.beginPath();
      ctx.arc(...middle(i, j), Math.max(1.2, Math.min(w, t) / 7), 0, 7);
      ctx.fill();
    });
  }

  // Outlines of the gold spans, and whether the heaviest position of each row lies inside.
  function drawGold(ctx, theme) {
    const { alignment, map } = state(), { left, top, w, t } = geometry(canvas.width);
    ctx.strokeStyle = theme.accent;
    ctx.lineWidth = 2.5;
    ctx.setLineDash([6, 3]);
    for (const { from, to, start, end } of alignment.blocks()) ctx.strokeRect(left + start * w, top + from * t, (end - start) * w - 1, (to - from) * t - 1);
    ctx.setLineDash([]);
    ctx.textAlign = "center";
    alignment.gold.forEach((span, i) => {
      if (!span) return;
      const hit = alignment.hit(map, i);
      ctx.font = `${Math.max(8, Math.min(13, t))}px ${theme.font}`;
      ctx.fillStyle = hit ? theme.good : theme.accent;
      ctx.fillText(hit ? "✓" : "✗", left + alignment.sources * w + 13, top + (i + 0.5) * t);
    });
  }

  // All labels that fit, and always the chosen ones.
  function drawLabels(ctx, theme) {
    const { alignment, sources, targets, target, source } = state(), g = geometry(canvas.width), { left, top, w, t } = g;
    ctx.textBaseline = "middle";
    const shown = (n, chosen, size, need) => {
      const every = Math.ceil(need / size);
      return n === chosen || (n % every === 0 && (every === 1 || Math.abs(n - chosen) * size >= need));
    };
    const label = (on, size) => {
      ctx.font = `${on ? "650 " : ""}${Math.min(FONT, size)}px ${theme.mono}`;
      ctx.fillStyle = on ? theme.ink : theme.soft;
    };
    for (let i = 0; i < alignment.targets; i++) {
      if (!shown(i, target, t, 11)) continue;
      label(i === target, Math.max(10.5, t));
      ctx.textAlign = "right";
      ctx.fillText(fit(ctx, targets[i], left - 10), left - 8, top + (i + 0.5) * t);
    }
    const need = g.upright ? Math.min(w, 9) : 12;
    for (let j = 0; j < alignment.sources; j++) {
      if (!shown(j, source, w, need)) continue;
      label(j === source, g.upright ? FONT : Math.max(10.5, w));
      if (g.upright) {
        ctx.textAlign = "center";
        ctx.fillText(sources[j], left + (j + 0.5) * w, top - 11);
        continue;
      }
      ctx.save();
      ctx.textAlign = "left";
      ctx.translate(left + (j + 0.5) * w, top - 6);
      ctx.rotate(-ANGLE);
      ctx.fillText(fit(ctx, sources[j], g.room), 0, 0);
      ctx.restore();
    }
  }

  const cellAt = (event) => {
    const { alignment } = state(), box = canvas.canvas.getBoundingClientRect(), { left, top, w, t } = geometry(canvas.width);
    const i = Math.floor((event.clientY - box.top - top) / t), j = Math.floor((event.clientX - box.left - left) / w);
    return i >= 0 && i < alignment.targets && j < alignment.sources ? { i, j } : null;
  };
  const element = canvas.canvas;
  element.tabIndex = 0;
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.style.cursor = "pointer";
  element.addEventListener("mousemove", (event) => {
    const at = cellAt(event);
    point(at ? at.i : null);
    if (!at || at.j < 0) { view.untip(); return; }
    const { alignment, map, sources, targets } = state();
    view.tip(event, h("b", { class: "al-token" }, targets[at.i]), " takes ", h("b", {}, three(map[at.i * alignment.sources + at.j])),
      " from ", h("b", { class: "al-token" }, sources[at.j]), h("br"), `target ${at.i}, source ${at.j}`);
  });
  element.addEventListener("mouseleave", () => { view.untip(); point(null); });
  element.addEventListener("click", (event) => { const at = cellAt(event); if (at) pick(at.i, at.j >= 0 ? at.j : null); });
  heat.arrows(element, { rows: () => state().alignment.targets, cols: () => state().alignment.sources,
    current: () => [view.get("target"), view.get("source")], move: pick });
  return { box: canvas.box, resize: canvas.resize, three };
};
