// Matrices of numbers, for the attention views: colours, labels that fit, a drawn grid, and keyboard moves in it.
const heat = (() => {
  const { h } = arlab;

  // Colour of a weight in [0, 1]. Most weights are small, so the scale is bent (power 0.6); exactly 0 is `raised`.
  const weightColour = (theme, w) => (w > 0 ? theme.sequential[Math.round(255 * Math.min(1, w) ** 0.6)] : theme.raised);
  // Colour of a signed value; `top` is the largest size on the scale.
  const signedColour = (theme, v, top) => theme.diverging[Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, v / (top || 1))) * 0.85)];
  // Black or white text, whichever is easier to read on the colour: at least 4.5 to 1 on any.
  const inks = new Map();
  const inkOn = (colour) => {
    if (!inks.has(colour)) {
      const linear = arlab.rgb(colour).map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      inks.set(colour, light > 0.179 ? "#000000" : "#ffffff");
    }
    return inks.get(colour);
  };
  // The text, or as much of it as fits in `room` pixels of the context's font, with an ellipsis.
  const fit = (ctx, text, room) => {
    if (ctx.measureText(text).width <= room) return text;
    const letters = [...text];
    while (letters.length > 1 && ctx.measureText(`${letters.join("")}…`).width > room) letters.pop();
    return `${letters.join("")}…`;
  };
  // A number with a real minus sign and `digits` decimals; never "−0.00".
  const number = (v, digits = 2) => {
    const text = Math.abs(v).toFixed(digits);
    return v < 0 && Number(text) !== 0 ? `−${text}` : text;
  };

  // A matrix of weights as a canvas of wide x tall pixels. Each pixel shows the largest weight that it covers, so that a
  // thin line does not fade when the matrix is larger than its picture.
  const picture = (theme, rows, cols, wide, tall, valueAt) => {
    const image = new ImageData(wide, tall);
    const largest = new Float32Array(wide * tall).fill(-1);
    for (let y = 0; y < Math.max(tall, rows); y++) {
      const i = tall >= rows ? Math.floor((y * rows) / tall) : y;
      const line = wide * (tall >= rows ? y : Math.floor((y * tall) / rows));
      for (let x = 0; x < Math.max(wide, cols); x++) {
        const w = valueAt(i, wide >= cols ? Math.floor((x * cols) / wide) : x);
        const place = line + (wide >= cols ? x : Math.floor((x * wide) / cols));
        if (w > largest[place]) largest[place] = w;
      }
    }
    const ramp = rampOf(theme);
    for (let n = 0; n < largest.length; n++) {
      const w = largest[n], colour = w > 0 ? ramp[Math.round(255 * Math.min(1, w) ** 0.6)] : ramp.zero;
      for (let c = 0; c < 3; c++) image.data[4 * n + c] = colour[c];
      image.data[4 * n + 3] = 255;
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [wide, tall];
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };
  let ramp = null;
  const rampOf = (theme) => {
    if (ramp?.theme !== theme) ramp = Object.assign(theme.sequential.map(arlab.rgb), { zero: arlab.rgb(theme.raised), theme });
    return ramp;
  };

  // A grid of cells with numbers, made of elements: for small matrices in which each number is read.
  // rows, cols: counts. onpick(i, j, event): makes the cells clickable. The grid is one stop for the Tab key; arrows move
  // (event null). hint(i, j): what a cell says when the mouse rests on it; asked then, not at every drawing.
  const grid = ({ rows, cols, label, cell, onpick, onenter, current, rowLabels, colLabels, hint }) => {
    const cells = [];
    const labels = { rows: [], cols: [] };
    const box = h("div", { class: "al-grid", role: onpick ? "grid" : "img", "aria-label": label,
      tabindex: onpick ? 0 : undefined, "data-lm-suppress-shortcuts": onpick ? "true" : undefined,
      style: { gridTemplateColumns: `${rowLabels ? "var(--al-row-label, auto) " : ""}repeat(${cols}, ${cell ?? "var(--al-cell)"})` } });
    if (colLabels) {
      if (rowLabels) box.append(h("div", { class: "al-grid-corner" }));
      for (let j = 0; j < cols; j++) {
        labels.cols.push(h("div", { class: "al-grid-col al-token", title: colLabels[j] }, colLabels[j]));
        box.append(labels.cols[j]);
      }
    }
    for (let i = 0; i < rows; i++) {
      if (rowLabels) {
        labels.rows.push(h("div", { class: "al-grid-row al-token", title: rowLabels[i] }, rowLabels[i]));
        box.append(labels.rows[i]);
      }
      for (let j = 0; j < cols; j++) {
        const one = h("div", { class: "al-cell", role: onpick ? "gridcell" : undefined, dataset: { i, j } });
        cells.push(one);
        box.append(one);
      }
    }
    const at = (event) => {
      const one = event.target.closest?.(".al-cell");
      return one && box.contains(one) ? [Number(one.dataset.i), Number(one.dataset.j)] : null;
    };
    if (hint) box.addEventListener("mouseover", (event) => { const place = at(event); if (place) event.target.closest(".al-cell").title = hint(...place); });
    if (onpick) {
      box.classList.add("al-grid-live");
      box.addEventListener("click", (event) => { const place = at(event); if (place) onpick(...place, event); });
      arrows(box, { rows, cols, current, move: (i, j) => onpick(i, j, null), enter: onenter });
    }
    // set(i, j, text, colour): colour null leaves the cell plain
    const set = (i, j, text, colour) => {
      const one = cells[i * cols + j];
      arlab.setText(one, text);
      const ground = colour ?? "";
      if (one.ground !== ground) {
        one.ground = ground;
        one.style.background = ground;
        one.style.color = colour ? inkOn(colour) : "";
      }
    };
    const mark = (fn) => cells.forEach((one, n) => {
      const name = fn(Math.floor(n / cols), n % cols) || "";
      if (one.mark !== name) one.className = `al-cell ${one.mark = name}`;
    });
    return { box, cells, labels, set, mark, cell: (i, j) => cells[i * cols + j] };
  };

  // Arrow keys, Home and End in a matrix: current() -> [i, j], move(i, j), and enter(i, j) for Space and Enter.
  const arrows = (element, { rows, cols, current, move, enter }) => {
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      let [i, j] = current();
      if (event.key === "ArrowUp") i--;
      else if (event.key === "ArrowDown") i++;
      else if (event.key === "ArrowLeft") j--;
      else if (event.key === "ArrowRight") j++;
      else if (event.key === "Home") j = 0;
      else if (event.key === "End") j = Infinity;
      else if ((event.key === " " || event.key === "Enter") && enter) { event.preventDefault(); event.stopPropagation(); enter(i, j); return; }
      else return;
      event.preventDefault();
      event.stopPropagation();
      const count = (n) => (typeof n === "function" ? n() : n);
      move(Math.max(0, Math.min(count(rows) - 1, i)), Math.max(0, Math.min(count(cols) - 1, j)));
    });
  };

  // A ramp with its numbers: stops [{ colour, text }] as small boxes in a row.
  const legend = (stops) => h("span", { class: "al-ramp" }, stops.map(({ colour, text, className }) =>
    h("span", { class: "al-ramp-stop" }, h("i", { class: className, style: { background: colour ?? "" } }), text)));

  return { weightColour, signedColour, inkOn, fit, number, picture, grid, arrows, legend };
})();
