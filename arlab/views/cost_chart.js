// A chart with two logarithmic axes: lines that are functions of T, a marker at the chosen T, crossings, measured points.
// what() -> { lines: [{ key, colour, dash, width, at(T) }], points: [{ name, colour, series: [[T, value]], told(value) }],
//   crossings: [{ time, value, text }], level: { value, text } or null, context }
const costChart = (view, { label, base, steps, format, what, ready, stops, height = 290 }) => {
  const { h } = arlab;
  const LEFT = 66, RIGHT = 10, TOP = 18, FOOT = 34;
  const [first, last] = [stops[0], stops.at(-1)];
  const log = (v) => Math.log(v) / Math.log(base);
  let low = 0, high = 1; // exponents of `base`
  const x = (width, time) => LEFT + (Math.log(time / first) / Math.log(last / first)) * (width - LEFT - RIGHT);
  const y = (v) => TOP + ((high - log(v)) / (high - low)) * (height - TOP - FOOT);

  const range = ({ lines, points, level }) => {
    const values = [...lines.flatMap((line) => [line.at(first), line.at(last)]), ...points.flatMap(({ series }) => series.map(([, v]) => v))];
    if (level) values.push(level.value);
    const logs = values.filter((v) => v > 0).map(log), room = (Math.max(...logs) - Math.min(...logs)) * 0.03 || 1;
    [low, high] = [Math.min(...logs) - 2 * room, Math.max(...logs) + room];
  };
  const text = (ctx, theme, words, px, py, colour, align) => { // with a rim, for it stands on lines
    ctx.textAlign = align;
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    ctx.lineWidth = 4;
    ctx.strokeStyle = theme.surface;
    ctx.strokeText(words, px, py);
    ctx.fillStyle = colour;
    ctx.fillText(words, px, py);
  };
  const rule = (ctx, colour, width, dash, ...places) => {
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.setLineDash(dash);
    ctx.beginPath();
    for (const [px, py] of places) ctx.lineTo(px, py);
    ctx.stroke();
    ctx.setLineDash([]);
  };
  // Circle, square, triangle, diamond: measured series differ by shape as well.
  const marker = (ctx, n, px, py, size) => {
    ctx.beginPath();
    if (n % 4 === 0) ctx.arc(px, py, size, 0, 7);
    else if (n % 4 === 1) ctx.rect(px - size * 0.9, py - size * 0.9, size * 1.8, size * 1.8);
    else for (const [dx, dy] of n % 4 === 2 ? [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]] : [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]) ctx.lineTo(px + dx * size, py + dy * size);
    ctx.closePath();
  };

  const canvas = view.canvas({ height, label: `${label}; left and right choose T`, draw(ctx, width, tall, theme) {
    if (!ready()) return;
    const told = what(), bottom = tall - FOOT;
    range(told);
    ctx.font = `11px ${theme.font}`;
    const step = steps.find((one) => (high - low) / one <= 7.5) ?? steps.at(-1);
    for (let n = Math.ceil(low / step) * step; n <= high; n += step) {
      rule(ctx, theme.line, 1, [], [LEFT, y(base ** n)], [width - RIGHT, y(base ** n)]);
      text(ctx, theme, format(base ** n), LEFT - 6, y(base ** n), theme.soft, "right");
    }
    const octaves = width < 360 ? 4 : width < 560 ? 3 : 2;
    for (let n = Math.log2(first); n <= Math.log2(last); n++) {
      const px = x(width, 2 ** n);
      rule(ctx, theme.line, 1, [], [px, bottom], [px, bottom + ((n - 3) % octaves ? 3 : 6)]);
      if ((n - 3) % octaves === 0) text(ctx, theme, arlab.thousands(2 ** n), Math.min(px, width - 20), bottom + 13, theme.soft, "center");
    }
    text(ctx, theme, "T =", LEFT - 12, bottom + 13, theme.soft, "right");
    if (told.level) rule(ctx, theme.soft, 1.25, [2, 3], [LEFT, y(told.level.value)], [width - RIGHT, y(told.level.value)]);
    if (told.context >= first && told.context <= last) {
      const px = x(width, told.context);
      rule(ctx, theme.soft, 1, [2, 3], [px, TOP], [px, bottom]);
      const words = `context_length ${arlab.thousands(told.context)}`, room = ctx.measureText(words).width / 2 + 3;
      text(ctx, theme, words, Math.max(LEFT + room, Math.min(width - room, px)), 8, theme.soft, "center");
    }
    for (const line of told.lines) {
      const places = Array.from({ length: 61 }, (_, n) => first * (last / first) ** (n / 60)).map((time) => [x(width, time), y(line.at(time))]);
      rule(ctx, line.colour, line.width, line.dash, ...places);
    }
    const now = x(width, view.get("time"));
    rule(ctx, theme.ink, 1.25, [], [now, TOP], [now, bottom]);
    for (const line of told.lines) {
      ctx.fillStyle = line.colour;
      ctx.strokeStyle = theme.surface;
      ctx.lineWidth = 1.5;
      marker(ctx, 0, now, y(line.at(view.get("time"))), 4.5);
      ctx.fill();
      ctx.stroke();
    }
    told.points.forEach(({ series, colour, shape }) => series.forEach(([time, value]) => {
      ctx.fillStyle = theme.surface;
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2;
      marker(ctx, shape, x(width, time), y(value), 4.5);
      ctx.fill();
      ctx.stroke();
    }));
    if (told.level) { // its name stands above, unless a line does
      const py = y(told.level.value), crowded = told.lines.some((line) => { const gap = py - y(line.at(first)); return gap > -6 && gap < 18; });
      text(ctx, theme, told.level.text, LEFT + 6, py + (crowded ? 9 : -8), theme.soft, "left");
    }
    ctx.font = `600 11px ${theme.font}`;
    const taken = []; // boxes of rings and of labels, so that none covers another
    const crossings = told.crossings.filter(({ time }) => time >= first && time <= last).map((one) => ({ ...one, px: x(width, one.time), py: y(one.value) }));
    for (const { px, py } of crossings) {
      ctx.strokeStyle = theme.ink;
      ctx.lineWidth = 1.75;
      ctx.beginPath(); ctx.arc(px, py, 7, 0, 7); ctx.stroke();
      taken.push([px - 8, py - 8, px + 8, py + 8]);
    }
    for (const { px, py, text: words } of crossings) {
      const wide = ctx.measureText(words).width;
      const places = [[-7, -17], [7, 17], [7, -17], [-7, 17], [-7, -32], [7, 32], [7, -32]].map(([dx, dy]) => {
        const left = Math.max(LEFT + 2, Math.min(width - wide - 2, dx < 0 ? px + dx - wide : px + dx));
        return [left, py + dy - 7, left + wide, py + dy + 7];
      });
      const free = (box) => box[1] >= TOP && box[3] <= bottom && taken.every((one) => box[0] > one[2] || box[2] < one[0] || box[1] > one[3] || box[3] < one[1]);
      const box = places.find(free) ?? places[0];
      taken.push(box);
      text(ctx, theme, words, box[0], (box[1] + box[3]) / 2, theme.ink, "left");
    }
  } });

  const element = canvas.canvas;
  element.tabIndex = 0;
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.classList.add("ce-live");
  const timeAt = (event) => {
    const part = (event.clientX - element.getBoundingClientRect().left - LEFT) / (canvas.width - LEFT - RIGHT);
    return Math.round(first * (last / first) ** Math.max(0, Math.min(1, part)));
  };
  const choose = (event) => view.set({ time: timeAt(event) });
  element.addEventListener("pointerdown", (event) => { element.setPointerCapture(event.pointerId); choose(event); });
  element.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) choose(event);
    const told = what(), box = element.getBoundingClientRect();
    const near = told.points.flatMap(({ name, series, told: say, line }) => series.map(([time, value]) => ({ name, time, value, say, line,
      far: Math.hypot(event.clientX - box.left - x(canvas.width, time), event.clientY - box.top - y(value)) }))).sort((a, b) => a.far - b.far)[0];
    const time = timeAt(event);
    if (near?.far < 10) {
      const times = near.line ? `, ${(near.value / near.line.at(near.time)).toFixed(2)} times the line` : "";
      view.tip(event, `measured: ${near.name}`, h("br"), `T = ${arlab.thousands(near.time)}: ${near.say(near.value)}${times}`);
    } else view.tip(event, `T = ${arlab.thousands(time)}`, ...told.lines.flatMap((line) => [h("br"), `${line.key}: ${format(line.at(time))}`]));
  });
  element.addEventListener("pointerleave", () => view.untip());
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const time = view.get("time");
    const next = { ArrowRight: stops.find((one) => one > time) ?? last, ArrowLeft: stops.findLast((one) => one < time) ?? first, Home: first, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    view.set({ time: next });
  });
  // A small sign of a line or of a measured series, for the legend: as it is drawn.
  const sign = (theme, { colour, dash = [], width = 2, shape }) => {
    const one = h("canvas", { width: 52, height: 24, class: "ce-sign", "aria-hidden": "true" }), ctx = one.getContext("2d");
    ctx.scale(2, 2);
    if (shape === undefined) rule(ctx, colour, width + 0.5, dash, [0, 6], [26, 6]);
    else {
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2;
      marker(ctx, shape, 13, 6, 4);
      ctx.stroke();
    }
    return one;
  };
  return { box: canvas.box, canvas: element, sign };
};
