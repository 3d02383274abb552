// Attention explorer: thumbnails of a layer's heads, one large map, and the weights of one query over the text itself.
function render({ model, el }) {
  const { h, setText, visible, floats } = arlab;
  const { weightColour, fit } = heat;
  const get = (name) => model.get(name);

  // ---- data -----------------------------------------------------------------------------------------------
  let steps, figures, heads, queries, keys, queryText, keyText;
  const load = () => {
    const raw = get("weights");
    steps = new Uint16Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
    figures = floats(get("figures"));
    [, heads, queries, keys] = get("shape");
    queryText = get("tokens").map(visible);
    keyText = get("key_tokens").map(visible);
  };
  load();
  const weight = (layer, head, i, j) => {
    return steps[((layer * heads + head) * queries + i) * keys + j] / 65535;
  };
  const figure = (n, head) => {
    return figures[(n * get("shape")[0] + get("layer")) * heads + head];
  };
  const three = (w) => (w === 0 ? "0" : w < 0.0005 ? "<0.001" : w.toFixed(3));
  let hover = null; // a query that the mouse points at, before it is chosen
  const query = () => (hover !== null && hover < queries ? hover : get("query"));
  const point = (i) => { if (hover !== i) { hover = i; view.redraw(); } };

  const view = arlab.view(model, el, { label: "Attention explorer", draw });

  // ---- the text and the selectors ---------------------------------------------------------------------------
  const field = h("input", { type: "text", "aria-label": "Text to measure", "data-lm-suppress-shortcuts": "true",
    spellcheck: "false", autocomplete: "off", value: get("text"),
    onkeydown: (event) => { if (event.key === "Enter") measure(); } });
  const go = view.button("Measure", () => measure(), { class: "al-button al-primary", disabled: !view.live,
    title: view.live ? "Run the model on this text" : "A saved page has no kernel: open the notebook to measure another text" });
  field.disabled = !view.live;
  const measure = async () => {
    if (!view.live) return;
    go.disabled = true;
    await view.ask("text", { text: field.value });
    go.disabled = false;
  };
  view.watch(["text"], () => { field.value = get("text"); });

  const selector = (trait, label, count) => (count === 1 ? "" : view.slider({ trait, label, reset: 0,
    stops: arlab.steps(0, count - 1, 1), parse: (text) => (/^\d+$/.test(text) && Number(text) < count ? Number(text) : undefined) }));
  const selectors = h("div", { class: "al-sliders" },
    selector("layer", "Layer", get("shape")[0]), selector("head", "Head", heads));

  // ---- thumbnails ----------------------------------------------------------------------------------------------
  const columns = (heads) => Math.ceil(Math.sqrt(heads));
  let drawnThumbs = "";
  let pictures = [];
  const picture = (head, wide, tall, theme) => heat.picture(theme, queries, keys, wide, tall, (i, j) => weight(get("layer"), head, i, j));
  const place = (width) => {
    const across = columns(heads), gap = across > 4 ? 5 : 8, caption = across > 4 ? 0 : 14;
    let w = Math.min(150, (width - gap * (across - 1)) / across);
    const rowsOfThem = Math.ceil(heads / across);
    w = Math.min(w, ((THUMBS - rowsOfThem * (gap + caption)) / rowsOfThem) * Math.max(1, keys / queries));
    const tall = Math.min(w * (queries / keys), THUMBS / rowsOfThem - gap - caption);
    return { across, gap, caption, w, tall, at: (n) => [(n % across) * (w + gap), Math.floor(n / across) * (tall + gap + caption)] };
  };
  const THUMBS = 268; // at most
  const thumbsHeight = (width) => {
    const p = place(width);
    return Math.ceil(Math.ceil(heads / p.across) * (p.tall + p.gap + p.caption));
  };
  const thumbs = view.canvas({ height: (width) => thumbsHeight(width), label: "All heads of the layer; arrow keys choose one",
    draw(ctx, width, height, theme) {
      const p = place(width), r = globalThis.devicePixelRatio || 1;
      const key = [get("layer"), width, r, theme.surface, version].join();
      if (key !== drawnThumbs) {
        pictures = Array.from({ length: heads }, (_, n) => picture(n, Math.max(1, Math.round(p.w * r)), Math.max(1, Math.round(p.tall * r)), theme));
        drawnThumbs = key;
      }
      ctx.font = `11px ${theme.font}`;
      ctx.textBaseline = "top";
      for (let n = 0; n < heads; n++) {
        const [x, y] = p.at(n), on = n === get("head");
        ctx.drawImage(pictures[n], x, y, p.w, p.tall);
        ctx.strokeStyle = on ? theme.accent : theme.line;
        ctx.lineWidth = on ? 2.5 : 1;
        ctx.strokeRect(x + 0.5, y + 0.5, p.w - 1, p.tall - 1);
        if (p.caption) {
          ctx.fillStyle = on ? theme.accent : theme.soft;
          ctx.fillText(`head ${n}`, x, y + p.tall + 2);
        }
      }
    } });
  const thumbAt = (event) => {
    const box = thumbs.canvas.getBoundingClientRect(), p = place(thumbs.width);
    const column = Math.floor((event.clientX - box.left) / (p.w + p.gap));
    const n = column + p.across * Math.floor((event.clientY - box.top) / (p.tall + p.gap + p.caption));
    return column < p.across && n >= 0 && n < heads ? n : null;
  };
  thumbs.canvas.tabIndex = 0;
  thumbs.canvas.setAttribute("data-lm-suppress-shortcuts", "true");
  thumbs.canvas.style.cursor = "pointer";
  thumbs.canvas.addEventListener("click", (event) => { const n = thumbAt(event); if (n !== null) view.set({ head: n }); });
  thumbs.canvas.addEventListener("mousemove", (event) => {
    const n = thumbAt(event);
    if (n === null) view.untip(); else view.tip(event, `head ${n} of layer ${get("layer")}`);
  });
  thumbs.canvas.addEventListener("mouseleave", () => view.untip());
  const across = () => columns(heads);
  heat.arrows(thumbs.canvas, {
    rows: () => Math.ceil(heads / across()), cols: across,
    current: () => [Math.floor(get("head") / across()), get("head") % across()],
    move: (i, j) => { const n = i * across() + j; if (n < heads) view.set({ head: n }); },
  });

  // ---- figures of the heads -----------------------------------------------------------------------------------
  const COLUMNS = [["entropy", "Mean entropy of the rows, in nats: 0 = all on one token"],
    ["first", "Mean share of the weight on the first token"], ["previous", "Mean share on the token before"],
    ["itself", "Mean share on the token itself"]];
  const body = h("tbody");
  const table = h("table", { class: "al-heads" },
    h("thead", {}, h("tr", {}, h("th", {}, "head"), COLUMNS.map(([name, title]) => h("th", { title }, name)))), body);
  const scroller = h("div", { style: { maxHeight: "208px", overflowY: "auto" } }, table);
  const fillTable = () => {
    body.replaceChildren(...Array.from({ length: heads }, (_, n) => h("tr", { onclick: () => view.set({ head: n }) },
      h("td", {}, String(n)), COLUMNS.map(() => h("td")))));
  };

  // ---- the large map --------------------------------------------------------------------------------------------
  const LEFT = 92, TOP = 74, RIGHT = 34, MAP = 484;
  const geometry = (width) => {
    const cell = Math.min(46, (width - LEFT - RIGHT) / keys, (MAP - TOP - 3) / queries);
    return { cell, every: Math.ceil(12 / cell), size: Math.max(10.5, Math.min(12.5, cell - 1)) };
  };
  const mapHeight = (width) => Math.ceil(Math.max(170, TOP + 3 + geometry(width).cell * queries));
  const map = view.canvas({ height: mapHeight, label: "Attention map: queries down, keys across; arrow keys move",
    draw(ctx, width, height, theme) {
      const { cell, every, size } = geometry(width);
      const layer = get("layer"), head = get("head"), q = query();
      if (cell < 8) { // many small cells: as one picture
        ctx.imageSmoothingEnabled = false;
        ctx.drawImage(picture(head, keys, queries, theme), LEFT, TOP, keys * cell, queries * cell);
        ctx.imageSmoothingEnabled = true;
      } else {
        for (let i = 0; i < queries; i++) for (let j = 0; j < keys; j++) {
          ctx.fillStyle = weightColour(theme, weight(layer, head, i, j));
          ctx.fillRect(LEFT + j * cell, TOP + i * cell, cell - 1, cell - 1);
        }
      }
      ctx.strokeStyle = theme.line;
      ctx.lineWidth = 1;
      ctx.strokeRect(LEFT - 0.5, TOP - 0.5, keys * cell + 1, queries * cell + 1);
      if (cell >= 30) {
        ctx.font = `11px ${theme.font}`;
        ctx.textAlign = "center";
        ctx.textBaseline = "middle";
        for (let i = 0; i < queries; i++) for (let j = 0; j < keys; j++) {
          const w = weight(layer, head, i, j);
          if (w < 0.005) continue;
          ctx.fillStyle = heat.inkOn(weightColour(theme, w));
          ctx.fillText(w.toFixed(2), LEFT + (j + 0.5) * cell - 0.5, TOP + (i + 0.5) * cell);
        }
      }
      // The chosen row and key, and labels: all that fit, and always the chosen ones.
      ctx.strokeStyle = theme.accent;
      ctx.lineWidth = 2;
      ctx.strokeRect(LEFT - 1.5, TOP + q * cell - 1.5, keys * cell + 2, cell + 2);
      const k = get("key");
      ctx.strokeStyle = theme.ink;
      ctx.lineWidth = 1.5;
      ctx.strokeRect(LEFT + k * cell - 1, TOP + q * cell - 1, cell + 1, cell + 1);
      ctx.textBaseline = "middle";
      const label = (chosen) => {
        ctx.font = `${chosen ? "650 " : ""}${size}px ${theme.mono}`;
        ctx.fillStyle = chosen ? theme.accent : theme.soft;
      };
      const shown = (n, chosen) => n === chosen || (n % every === 0 && (every === 1 || Math.abs(n - chosen) * cell > 10));
      ctx.textAlign = "right";
      for (let i = 0; i < queries; i++) {
        if (!shown(i, q)) continue;
        label(i === q);
        ctx.fillText(fit(ctx, queryText[i], LEFT - 8), LEFT - 6, TOP + (i + 0.5) * cell);
      }
      ctx.textAlign = "left";
      for (let j = 0; j < keys; j++) {
        if (!shown(j, k)) continue;
        label(false);
        if (j === k) ctx.fillStyle = theme.ink;
        ctx.save();
        ctx.translate(LEFT + (j + 0.5) * cell, TOP - 5);
        ctx.rotate(-Math.PI / 3);
        ctx.fillText(fit(ctx, keyText[j], (TOP - 8) / Math.sin(Math.PI / 3)), 0, 0);
        ctx.restore();
      }
    } });
  map.canvas.tabIndex = 0;
  map.canvas.setAttribute("data-lm-suppress-shortcuts", "true");
  const cellAt = (event) => {
    const box = map.canvas.getBoundingClientRect(), g = geometry(map.width);
    const j = Math.floor((event.clientX - box.left - LEFT) / g.cell), i = Math.floor((event.clientY - box.top - TOP) / g.cell);
    return i >= 0 && i < queries && j < keys ? { i, j } : null;
  };
  map.canvas.addEventListener("mousemove", (event) => {
    const at = cellAt(event);
    point(at ? at.i : null);
    if (!at || at.j < 0) { view.untip(); return; }
    const w = weight(get("layer"), get("head"), at.i, at.j);
    view.tip(event, h("b", { class: "al-token" }, queryText[at.i]), " → ", h("b", { class: "al-token" }, keyText[at.j]),
      h("br"), `weight ${three(w)}`, w === 0 ? " (exactly: masked)" : "", h("br"), `query ${at.i}, key ${at.j}`);
  });
  map.canvas.addEventListener("mouseleave", () => { view.untip(); point(null); });
  map.canvas.addEventListener("click", (event) => {
    const at = cellAt(event);
    if (at) view.set({ query: at.i, ...(at.j >= 0 ? { key: at.j } : {}) });
  });
  heat.arrows(map.canvas, { rows: () => queries, cols: () => keys,
    current: () => [get("query"), get("key")], move: (i, j) => { hover = null; view.set({ query: i, key: j }); } });
  const readout = h("div", { class: "al-label", "aria-live": "polite", style: { minHeight: "21px" } });

  // ---- the text itself: a bar over each key ------------------------------------------------------------------------
  const strip = h("div", { class: "al-strip" });
  const asking = h("div", { class: "al-strip al-plain", hidden: true });
  const stripTitle = h("h4", { style: { whiteSpace: "nowrap", overflow: "hidden", textOverflow: "ellipsis" } });
  let bars = [], askers = [];
  const chooser = (i, ...inside) => h("button", { type: "button", "data-lm-suppress-shortcuts": "true", dataset: { i },
    onmouseenter: () => point(i), onmouseleave: () => point(null), onclick: () => view.set({ query: i }) }, ...inside);
  let long = false;
  const fillStrip = () => {
    const cross = get("cross");
    long = keyText.length > 26;
    strip.classList.toggle("al-long", long);
    asking.hidden = !cross;
    askers = cross ? queryText.map((text, i) => chooser(i, h("span", { class: "al-token" }, text))) : [];
    asking.replaceChildren(...askers);
    bars = keyText.map((text, j) => {
      const share = h("small"), bar = h("i");
      const inside = [h("span", { class: "al-bar" }, share, bar), h("span", { class: "al-token" }, text)];
      const button = cross
        ? h("button", { type: "button", "data-lm-suppress-shortcuts": "true", dataset: { j }, onclick: () => view.set({ key: j }) }, ...inside)
        : chooser(j, ...inside);
      return { button, share, bar };
    });
    if (!cross) askers = bars.map((b) => b.button);
    strip.replaceChildren(...bars.map((b) => b.button));
  };

  let version = 0; // counts the texts, for the cache of thumbnails
  const reload = () => { load(); version++; hover = null; fillTable(); fillStrip(); map.resize(); thumbs.resize(); };
  let stale = false;
  // The tokens too: the map of a text of one token is a 1, whatever the token, and weights that stay tell of no change.
  view.watch(["weights", "tokens", "key_tokens"], () => { stale = true; });
  view.watch(["layer", "head", "query", "key"]);

  const headline = h("h4");
  const legend = h("span");
  view.root.append(
    h("h3", {}, "Attention explorer"),
    h("p", {}, "Where does each head take its values from? Point at a token or a row; click to keep it."),
    get("editable") ? h("div", { style: { display: "grid", gridTemplateColumns: "1fr auto", gap: "8px", marginBottom: "8px" } }, field, go) : "",
    selectors,
    h("div", { class: "al-explorer-main" },
      h("div", { class: "al-explorer-side" }, headline, thumbs.box, scroller),
      h("div", {}, map.box, readout)),
    h("div", { class: "al-panel", style: { marginTop: "6px", paddingTop: "10px" } }, stripTitle, asking, strip),
    h("div", { class: "al-legend", style: { display: "flex", flexWrap: "wrap", gap: "4px 24px", marginTop: "8px" } }, legend,
      h("span", {}, "A map is a measurement, not an explanation: it says where values come from, not what they do.")),
  );
  fillTable();
  fillStrip();

  let legendTheme = null;
  function draw() {
    if (stale) { stale = false; reload(); }
    const theme = view.theme, layer = get("layer"), head = get("head"), q = query(), k = get("key");
    setText(headline, heads > 1 ? `Layer ${layer}: all heads` : `Layer ${layer}`);
    for (let n = 0; n < heads; n++) {
      const row = body.children[n];
      row.setAttribute("aria-current", String(n === head));
      COLUMNS.forEach((_, c) => {
        const value = figure(c, n);
        setText(row.children[c + 1], Number.isNaN(value) ? "–" : value.toFixed(2));
      });
    }
    setText(stripTitle, `Layer ${layer}, head ${head}: where “${queryText[q]}” (position ${q}) looks`);
    bars.forEach(({ button, share, bar }, j) => {
      const w = weight(layer, head, q, j);
      setText(share, w === 0 ? "" : w < 0.005 ? "·" : w.toFixed(2).replace(/^0/, ""));
      bar.style.height = `${(long ? 20 : 32) * w}px`;
      button.classList.toggle("al-unseen", w === 0);
      button.setAttribute("aria-label", `${keyText[j]}: weight ${three(w)}`);
    });
    askers.forEach((button, i) => button.setAttribute("aria-pressed", String(i === q)));
    const w = weight(layer, head, q, k);
    setText(readout, `“${queryText[q]}” → “${keyText[k]}”: ${three(w)}`);
    readout.dataset.weight = String(w);
    if (legendTheme !== theme) {
      legendTheme = theme;
      legend.replaceChildren(heat.legend([{ colour: theme.raised, text: "exactly 0" },
        ...[0.01, 0.1, 0.3, 0.6, 1].map((v) => ({ colour: weightColour(theme, v), text: String(v) }))]));
    }
  }
  return view.start();
}
export default { render };
