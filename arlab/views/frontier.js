// Two measures of some strategies against each other, and the line of those that no other one beats. An SVG drawing;
// frontier_names.js finds room for the names. Beside it, the arithmetic alone: `beaten` and `onLine`.
const frontier = (() => {
  const { h, svg, setText } = arlab;

  // ---- who beats whom: points { gx, gy }, larger is better in both --------------------------------------------------
  const beats = (a, b) => a.gx >= b.gx && a.gy >= b.gy && (a.gx !== b.gx || a.gy !== b.gy);
  const beaten = (points, one) => points.filter((other) => beats(other, one));
  const onLine = (points) => points.filter((one) => !points.some((other) => beats(other, one)));

  // ---- the panel --------------------------------------------------------------------------------------------------------
  // measures: { name: { label, short, way, more } }, way 1 or -1. points(): [{ name, values, old }], those to be drawn.
  // pointed(): a Set of names. point(names, how): the hand, or the keys, are on these. choose(name): Enter, or a click.
  const panel = (view, { measures, shown, points, pointed, point, choose }) => {
    const M = { left: 58, right: 44, top: 26, bottom: 46 }, HEIGHT = 310, MARK = 6;
    const unique = `fr-${Math.random().toString(36).slice(2, 8)}`;
    const measuring = document.createElement("canvas").getContext("2d");
    const picture = svg("svg", { class: "fr-plot" });
    const field = h("div", { class: "fr-field", tabindex: 0, role: "listbox", "data-lm-suppress-shortcuts": "true",
      "aria-label": "The strategies as points; left and right choose one, Enter unfolds its text" }, picture);
    const readout = h("p", { class: "fr-readout", "aria-live": "polite" });
    const select = (trait, label) => {
      const list = h("select", { "data-lm-suppress-shortcuts": "true", "aria-label": label, dataset: { trait },
        onchange: () => view.set({ [trait]: list.value }) },
      shown().map((name) => h("option", { value: name }, measures[name].label)));
      return { list, box: h("label", { class: "fr-select" }, `${label} `, list) };
    };
    const across = select("x", "Across"), upwards = select("y", "Upwards");
    const box = h("div", { class: "fr-panel" }, h("div", { class: "fr-head" }, h("h4", {}, "Frontier"), across.box, upwards.box), field, readout);

    let marks = [], drawn = ""; // what is in the picture, left to right; and what it was drawn from
    const near = (one) => marks.filter(({ x, y }) => Math.hypot(x - one.x, y - one.y) < 3).map(({ name }) => name);
    const underHand = (event) => {
      const name = event.target.closest?.("[data-label]")?.dataset.label;
      if (name) return [name];
      const edge = picture.getBoundingClientRect();
      const far = ({ x, y }) => Math.hypot(x - (event.clientX - edge.left), y - (event.clientY - edge.top));
      const one = marks.reduce((best, mark) => (far(mark) < Math.min(18, best ? far(best) : 18) ? mark : best), null);
      return one ? near(one) : [];
    };
    field.addEventListener("pointermove", (event) => point(underHand(event)));
    field.addEventListener("pointerleave", () => point([]));
    field.addEventListener("click", (event) => { const [name] = underHand(event); if (name) choose(name); });
    field.addEventListener("blur", () => point([], "keys"));
    field.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const now = marks.findIndex(({ name }) => pointed().has(name)), last = marks.length - 1;
      const to = { ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now < 0 ? last : now - 1, ArrowDown: now < 0 ? last : now - 1, Home: 0, End: last }[event.key];
      const enters = event.key === "Enter" && now >= 0;
      if ((to === undefined && !enters && event.key !== "Escape") || last < 0) return;
      event.preventDefault();
      event.stopPropagation();
      if (enters) choose(marks[now].name);
      else point(to === undefined ? [] : [marks[Math.max(0, Math.min(last, to))].name], "keys");
    });

    // ---- drawing ---------------------------------------------------------------------------------------------------------
    const range = (values, name) => {
      let low = Math.min(...values), high = Math.max(...values);
      const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.1, share = !["logprob", "seconds"].includes(name);
      [low, high] = [low - pad, high + pad];
      return share ? [Math.max(0, low), Math.min(1, high)] : name === "seconds" ? [Math.max(0, low), high] : [low, Math.min(0, high)];
    };
    const axis = (values, name, from, to, count) => {
      let [low, high] = range(values, name);
      if (low === high) [low, high] = [low - 0.05, high + 0.05];
      const ticks = curves.linearTicks(low, high, count, true), k = (to - from) / (ticks.high - ticks.low);
      return { at: (v) => from + (v - ticks.low) * k, ticks: ticks.ticks.map((v) => [v, curves.tickText(v, ticks.digits)]) };
    };
    const named = (name, way, [back, on]) => {
      const { label, more } = measures[name];
      return `${label} (${way > 0 ? `${more} ${on}` : `${back} ${more}`})`;
    };
    const fit = (text, room) => {
      if (measuring.measureText(text).width <= room) return text;
      const letters = [...text];
      while (letters.length > 1 && measuring.measureText(`${letters.join("")}…`).width > room) letters.pop();
      return `${letters.join("")}…`;
    };

    const build = (wide, x, y, all) => {
      const right = wide - M.right, bottom = HEIGHT - M.bottom, parts = [];
      const line = (props) => parts.push(svg("line", props)), text = (props, says) => parts.push(svg("text", props, says));
      picture.setAttribute("width", wide);
      picture.setAttribute("height", HEIGHT);
      const good = all.filter(({ values }) => values[x] !== null && values[y] !== null);
      const missing = all.filter((one) => !good.includes(one)).map(({ name }) => name);
      if (!good.length) {
        picture.replaceChildren(svg("text", { class: "fr-name", x: wide / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "No strategy has both measures."));
        return { missing, marks: [] };
      }
      const level = axis(good.map(({ values }) => values[x]), x, M.left, right, Math.max(2, Math.floor(wide / 110)));
      const upright = axis(good.map(({ values }) => values[y]), y, bottom, M.top, 5);
      for (const [value, says] of upright.ticks) {
        line({ class: "fr-grid", x1: M.left, x2: right, y1: upright.at(value), y2: upright.at(value) });
        text({ class: "fr-tick", x: M.left - 7, y: upright.at(value) + 4, "text-anchor": "end" }, says);
      }
      for (const [value, says] of level.ticks) {
        line({ class: "fr-grid", x1: level.at(value), x2: level.at(value), y1: M.top, y2: bottom });
        text({ class: "fr-tick", x: level.at(value), y: bottom + 16, "text-anchor": "middle" }, says);
      }
      text({ class: "fr-name", x: right, y: HEIGHT - 8, "text-anchor": "end" }, named(x, measures[x].way, ["←", "→"]));
      text({ class: "fr-name", x: 4, y: 14 }, named(y, measures[y].way, ["↓", "↑"]));

      const found = good.map(({ name, values, old }) => ({ name, old, values, x: level.at(values[x]), y: upright.at(values[y]),
        gx: measures[x].way * values[x], gy: measures[y].way * values[y] }));
      const kept = onLine(found).sort((a, b) => a.gx - b.gx || b.gy - a.gy);
      // What lies below the steps is beaten by a point on them.
      const corners = kept.flatMap((one, i) => (i ? [[kept[i - 1].x, one.y], [one.x, one.y]] : [[one.x, one.y]]));
      parts.push(svg("polyline", { class: "fr-line", points: corners.map((pair) => pair.map((p) => p.toFixed(1)).join(",")).join(" ") }));
      const pieces = corners.slice(1).map(([x1, y1], i) => ({ x: Math.min(x1, corners[i][0]) - 2, y: Math.min(y1, corners[i][1]) - 2,
        wide: Math.abs(x1 - corners[i][0]) + 4, tall: Math.abs(y1 - corners[i][1]) + 4 }));

      const names = found.map((one) => {
        const first = kept.includes(one);
        measuring.font = `${first ? 600 : 500} 12.5px ${view.theme.font}`;
        const text = fit(arlab.visible(one.name), 170);
        return { x: one.x, y: one.y, wide: Math.ceil(measuring.measureText(text).width) + 6, first, text };
      });
      const places = frontierNames.place(names,
        { left: M.left + 2, right: wide - 2, top: M.top - 6, bottom: bottom - 1 }, pieces);
      for (const [i, { leader }] of places.entries()) {
        found[i].leader = leader ? svg("line", { class: "fr-leader", x1: leader[0].x, y1: leader[0].y, x2: leader[1].x, y2: leader[1].y }) : null;
        if (leader) parts.push(found[i].leader); // below all points
      }
      found.forEach((one, i) => {
        const at = places[i];
        one.mark = svg("circle", { class: "fr-mark", cx: one.x, cy: one.y, r: MARK });
        one.back = svg("rect", { class: "fr-back", x: at.x, y: at.y, width: at.wide, height: at.tall });
        const [start, anchor] = at.turn < 0 ? [at.x + at.wide - 3, "end"] : [at.x + 3, "start"];
        one.label = svg("text", { class: "fr-label", x: start, y: at.y + 12.5, "text-anchor": anchor, dataset: { label: one.name } }, names[i].text);
        one.group = svg("g", { id: `${unique}-${i}`, role: "option", "aria-label": one.name,
          dataset: { point: one.name, line: kept.includes(one) ? "1" : "0", old: one.old ? "1" : "0", named: at.hidden ? "0" : "1" } }, one.back, one.mark, one.label);
        parts.push(one.group);
      });
      picture.replaceChildren(...parts);
      return { missing, marks: found.sort((a, b) => a.x - b.x || b.y - a.y) };
    };

    let missing = [];
    const draw = () => {
      const x = view.get("x"), y = view.get("y"), wide = Math.max(280, Math.round(field.clientWidth)), all = points();
      for (const [{ list }, value] of [[across, x], [upwards, y]]) if (list.value !== value) list.value = value;
      const key = JSON.stringify([x, y, wide, view.theme.font, all.map(({ name, old, values }) => [name, old, values[x], values[y]])]);
      if (key !== drawn) {
        drawn = key;
        ({ marks, missing } = build(wide, x, y, all));
      }
      const on = pointed();
      for (const one of marks) {
        const flag = String(on.has(one.name));
        if (one.group.getAttribute("aria-selected") === flag) continue;
        one.group.setAttribute("aria-selected", flag);
        one.mark.setAttribute("r", on.has(one.name) ? MARK + 2.5 : MARK);
        one.leader?.setAttribute("data-on", flag);
        if (on.has(one.name)) one.group.parentNode.append(one.group); // above the others
      }
      const first = marks.find(({ name }) => on.has(name));
      if (first) field.setAttribute("aria-activedescendant", first.group.id);
      else field.removeAttribute("aria-activedescendant");
      setText(readout, tell(x, y, marks.filter(({ name }) => on.has(name))));
    };

    const list = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
    const tell = (x, y, chosen) => {
      if (!chosen.length) {
        const who = missing.length > 3 ? `${missing.length} strategies` : list(missing);
        const unnamed = marks.some(({ group }) => group.dataset.named === "0");
        const rest = missing.length ? ` Not drawn, for want of a measure: ${who}.` : "";
        return `On the line are those that no other one beats: none is at least as far on both axes and farther on one.${rest}${unnamed ? " Names without room show when chosen." : ""}`;
      }
      const { values } = chosen[0], figures = [...new Set([x, y])].map((name) => `${measures[name].label} ${measures[name].format(values[name])}`);
      const by = beaten(marks, chosen[0]).map(({ name }) => name);
      return `${list(chosen.map(({ name }) => name))}: ${figures.join(", ")}; ${by.length ? `beaten by ${list(by)}` : "on the line"}.`;
    };
    return { box, field, draw };
  };

  return { beaten, onLine, panel };
})();
