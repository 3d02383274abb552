// Cost explorer: sliders for the sizes of a decoder, memory and arithmetic against T, and the numbers behind each line.
function render({ model, el }) {
  const { h, setText, thousands } = arlab;
  const view = arlab.view(model, el, { label: "Cost explorer", draw });
  const { get } = view;
  const models = get("models");
  const MEMORY = ["weights", "attention maps", "fused attention", "KV cache"], WORK = ["without cache", "with cache", "training"];
  const STYLE = { weights: ["soft", [], 2.5], "attention maps": ["series2", [], 2.5], "fused attention": ["series3", [7, 4], 2], "KV cache": ["series1", [], 2.5],
    "without cache": ["series2", [], 2.5], "with cache": ["series1", [], 2.5], training: ["series4", [7, 4], 2] };
  const WORDS = {
    weights: ["weights", "parameters × bytes"],
    "attention maps": ["attention maps", "layers × rows × heads × T × T × bytes, kept for training"],
    "fused attention": ["fused attention", "in their place: layers × rows × heads × T float32"],
    "KV cache": ["KV cache", "2 × layers × rows × KV heads × head width × T × bytes"],
    "without cache": ["next token, no cache", "the whole text of T tokens again"],
    "with cache": ["next token, cache", "the newest token; T − 1 keys and values are kept"],
    training: ["training, per token", "forward and backward over T tokens, divided by T"],
  };

  // ---- the config that is priced -----------------------------------------------------------------------------------
  const config = () => {
    const start = models[get("model")], d_model = get("d_model");
    const d_ff = Math.max(1, Math.floor((start.d_ff * d_model + Math.floor(start.d_model / 2)) / start.d_model));
    return { ...start, layers: get("layers"), heads: get("heads"), kv_heads: get("kv_heads"), d_model, d_ff };
  };
  const heads = () => { // how many there may be
    const { d_head, positions } = models[get("model")];
    return d_head === null ? costs.divisors(get("d_model"), positions === "rotary") : Array.from({ length: 256 }, (_, i) => i + 1);
  };
  const kvHeads = () => costs.divisors(get("heads")).filter((n) => n < get("heads"));
  // Sizes that no longer fit each other are mended at once: heads divide d_model, KV heads divide heads.
  const mend = (name) => {
    if (name === "d_model" && !heads().includes(get("heads"))) view.set({ heads: costs.nearest(heads(), get("heads")) });
    if (name !== "kv_heads" && get("kv_heads") && get("heads") % get("kv_heads")) view.set({ kv_heads: costs.nearest(costs.divisors(get("heads")), get("kv_heads")) });
  };
  const choose = (name) => {
    const { layers, d_model, heads: count, kv_heads } = models[name];
    loading = true; // not to be mended half way
    view.set({ model: name, layers, d_model, heads: count, kv_heads });
    loading = false;
  };
  let loading = false;

  // ---- controls ---------------------------------------------------------------------------------------------------
  const TIMES = Array.from({ length: 49 }, (_, n) => Math.round(8 * 2 ** (n / 4)));
  const nice = (from, to) => Array.from({ length: 40 }, (_, n) => 10 ** (n - 20)).flatMap((ten) => [1, 1.5, 2, 3, 4, 5, 6, 8].map((n) => Number((n * ten).toPrecision(3))))
    .filter((v) => v >= from && v <= to);
  const powers = (to) => Array.from({ length: Math.log2(to) + 1 }, (_, n) => 2 ** n);
  const whole = (low, high) => (text) => { const v = Number(text.replaceAll(",", "")); return Number.isInteger(v) && v >= low && v <= high ? v : undefined; };
  const positive = (text) => { const v = parseFloat(text.replaceAll(",", "")); return v > 0 && v < Infinity ? v : undefined; };
  const COUNTS = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 25, 30, 32, 36, 40, 48, 64, 80, 96, 128];
  const ALL = 999; // the place on the scale of "as many as heads", which is stored as 0
  const now = (trait) => get(trait);
  const preset = (size) => ({ reset: () => models[get("model")][size], resetOn: ["model"] });
  const sliders = h("div", { class: "al-sliders ce-sliders" },
    view.slider({ trait: "time", label: "T, tokens", stops: TIMES, reset: get("time"), format: thousands, parse: whole(8, 32768) }),
    view.slider({ trait: "rows", label: "Rows", stops: powers(512), reset: get("rows"), format: thousands, parse: whole(1, 4096), title: "Sequences side by side: the batch" }),
    view.slider({ trait: "layers", label: "Layers", stops: COUNTS, ...preset("layers"), parse: whole(1, 256) }),
    view.slider({ trait: "d_model", label: "d_model", stops: [32, 48, 64, 96, 128, 192, 256, 384, 512, 576, 768, 960, 1024, 1280, 1536, 1600, 2048, 2560, 3072, 4096, 5120, 6144, 8192, 12288, 16384],
      ...preset("d_model"), format: thousands, parse: (text) => { const v = whole(8, 32768)(text); return v % 2 ? undefined : v; }, title: "The feed-forward width keeps its proportion" }),
    view.slider({ trait: "heads", label: "Heads", stops: COUNTS, ...preset("heads"), stored: (stop) => costs.towards(heads(), stop, now("heads")),
      parse: (text) => { const v = whole(1, 256)(text); return heads().includes(v) ? v : undefined; }, title: "A number that divides d_model" }),
    view.slider({ trait: "kv_heads", label: "KV heads", stops: [...COUNTS, ALL], ...preset("kv_heads"), title: "Keys and values may be shared by several query heads",
      format: (v) => (v ? String(v) : "all"), placed: (v) => v || ALL,
      stored: (stop) => (stop === ALL || !kvHeads().length || (stop > (now("kv_heads") || ALL) && stop > kvHeads().at(-1)) ? 0 : costs.towards(kvHeads(), stop, now("kv_heads") || ALL)),
      parse: (text) => { if (text === "all" || text === "0") return 0; const v = whole(1, 256)(text); return get("heads") % v ? undefined : v; } }),
    view.slider({ trait: "memory", label: "Memory, GiB", stops: [0.5, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 141, 192, 256, 512, 1024], reset: get("memory"),
      format: (v) => String(Number(v.toPrecision(4))), parse: positive, title: "What the machine has: the dotted line" }),
    Object.keys(get("seconds")).length ? view.slider({ trait: "rate", label: "FLOP/s", stops: nice(0.1, 1e6), reset: get("rate"),
      format: (v) => costs.flops(v * 1e9).replace("FLOP", ""), title: "The speed that turns measured seconds into FLOPs: choose it so that points fall on their line",
      parse: (text) => { // a bare number is GFLOP/s; "2 T" is 2,000 of them
        const v = positive(text), unit = { k: 1e-6, M: 1e-3, G: 1, T: 1e3, P: 1e6 }[text.match(/[kMGTP]/)?.[0] ?? "G"];
        return v && v * unit; } }) : "");
  const presets = Object.keys(models).map((name) => view.button(name, () => choose(name), { class: "al-button ce-preset", dataset: { model: name } }));
  const dtype = view.segmented({ trait: "dtype", label: "", options: [{ value: "float32", label: "float32", title: "4 bytes a number" }, { value: "bfloat16", label: "bfloat16", title: "2 bytes a number" }] });
  const summary = h("p", { class: "ce-summary", "aria-live": "polite" });

  // ---- charts -----------------------------------------------------------------------------------------------------
  let state, lines, figures;
  const line = (key) => { const [colour, dash, width] = STYLE[key]; return { key, colour: view.theme[colour], dash, width, at: lines[key] }; };
  const changed = () => ["layers", "heads", "kv_heads", "d_model"].some((name) => get(name) !== models[get("model")][name]);
  // Measured points belong to one model as it is: they turn grey, and are compared with no line, while another is priced.
  const points = (trait, keys, scale, say) => Object.entries(get(trait)).map(([name, series], n) => {
    const known = keys.includes(name), own = get("model") === get("measured_model") && !changed();
    return { name, shape: n, told: say, colour: view.theme[!own ? "faint" : known ? STYLE[name][0] : n % 2 ? "series6" : "series5"],
      line: known && own ? line(name) : null, series: series.map(([time, value]) => [time, value * scale]) };
  });
  const at = (name) => thousands(Math.ceil(figures[name]));
  const memory = costChart(view, { label: "Memory against T", base: 2, steps: [1, 2, 5, 10, 20], format: costs.bytes, stops: TIMES, ready: () => lines, what: () => ({
    lines: MEMORY.map(line), points: points("measured", MEMORY, 1, costs.bytes), context: state.config.context_length,
    level: { value: get("memory") * 2 ** 30, text: `${Number(get("memory").toPrecision(4))} GiB` },
    crossings: [["maps pass the weights at", "maps"], ["cache passes the weights at", "cache"]].map(([name, who]) => ({
      time: figures[name], value: figures.weights, text: `${who} > weights: T = ${at(name)}` })) }) });
  const work = costChart(view, { label: "Arithmetic for one token against T", base: 10, steps: [1, 2, 3, 6], format: costs.flops, stops: TIMES, ready: () => lines, what: () => ({
    lines: WORK.map(line), context: state.config.context_length, level: null,
    points: points("seconds", WORK, get("rate") * 1e9, (v) => costs.seconds(v / (get("rate") * 1e9))),
    crossings: [{ time: figures["attention passes the matrices at"], value: lines["with cache"](figures["attention passes the matrices at"]),
      text: `attention > matrices: T = ${at("attention passes the matrices at")}` }] }) });
  const legends = { memory: h("div", { class: "al-note ce-points" }), work: h("div", { class: "al-note ce-points" }) };

  // ---- the numbers ------------------------------------------------------------------------------------------------
  const row = (key) => {
    const parts = { sign: h("td", { class: "ce-swatch" }), value: h("td", { class: "ce-number", dataset: { line: key } }), grows: h("td", { class: "ce-number" }) };
    return { ...parts, box: h("tr", {}, parts.sign, h("th", { scope: "row" }, WORDS[key][0]), h("td", { class: "ce-formula" }, WORDS[key][1]), parts.value, parts.grows) };
  };
  const rows = Object.fromEntries([...MEMORY, ...WORK].map((key) => [key, row(key)]));
  const heading = h("th", { class: "ce-number" });
  const table = h("table", { class: "ce-table" }, h("thead", {}, h("tr", {}, h("th"), h("th"), h("th", { class: "ce-formula" }, "counts as"), heading, h("th", { class: "ce-number" }, "at 2 T"))),
    h("tbody", {}, MEMORY.map((key) => rows[key].box)), h("tbody", {}, WORK.map((key) => rows[key].box)));
  const said = { memory: h("p"), work: h("p"), fits: h("p") };

  view.root.append(
    h("h3", {}, "What a context costs"),
    h("p", {}, "Choose a model, then move T: by its slider, by dragging in a chart, or with the arrow keys in it. Both axes are logarithmic: a straight line is a power of T, and its slope the exponent."),
    h("div", { class: "al-buttons ce-presets" }, presets, dtype), sliders, summary,
    h("div", { class: "ce-charts" },
      h("div", {}, h("h4", {}, "Memory"), memory.box, legends.memory),
      h("div", {}, h("h4", {}, "Arithmetic for one token, one row"), work.box, legends.work)),
    h("div", { class: "ce-scroll" }, table),
    h("div", { class: "ce-said", "aria-live": "polite" }, said.memory, said.work, said.fits));
  view.watch(["d_model", "heads", "kv_heads"], (name) => { if (!loading) mend(name); });
  view.watch(["model", "layers", "time", "rows", "dtype", "memory", "rate", "measured", "seconds"]);

  // ---- drawing ----------------------------------------------------------------------------------------------------
  const times = (v) => (v >= 99.5 ? `× ${thousands(Math.round(v))}` : `× ${v.toPrecision(3)}`);
  function draw() {
    const theme = view.theme, time = get("time");
    state = { config: config(), rows: get("rows"), time, memory: get("memory"), itemsize: get("dtype") === "float32" ? 4 : 2 };
    lines = costs.lines(state);
    figures = costs.figures(state);
    const c = state.config, other = changed();
    for (const button of presets) button.setAttribute("aria-pressed", String(button.dataset.model === get("model") && !other));
    const parameters = costs.parameters(c), per = c.d_head ?? c.d_model / c.heads;
    setText(summary, [`${get("model")}${other ? ", changed" : ""}: ${costs.count(costs.sum(parameters))} parameters`,
      `${c.heads} heads × ${Number(per.toFixed(2))}${c.kv_heads && c.kv_heads !== c.heads ? `, ${c.kv_heads} for K and V` : ""}`,
      `feed-forward ${thousands(c.d_ff)}`, `vocabulary ${thousands(c.vocab_size)}`].join(" · "));
    summary.dataset.parameters = costs.sum(parameters);
    setText(heading, `T = ${thousands(time)}`);
    for (const [key, cells] of Object.entries(rows)) {
      const value = figures[key], format = MEMORY.includes(key) ? costs.bytes : costs.flops;
      setText(cells.value, format(value));
      cells.value.dataset.value = value;
      setText(cells.grows, times(lines[key](2 * time) / value));
      const { colour, dash, width } = line(key);
      if (cells.drawn !== colour) cells.sign.replaceChildren(memory.sign(theme, { colour, dash, width }));
      cells.drawn = colour;
    }
    const legend = (box, all) => box.replaceChildren(...all.map((one) => h("span", {}, memory.sign(theme, one), `measured: ${one.name} (${get("measured_model")})`)));
    legend(legends.memory, points("measured", MEMORY, 1, costs.bytes));
    legend(legends.work, points("seconds", WORK, 1, costs.seconds));
    const where = (name) => (figures[name] <= 32768 ? `at T = ${at(name)}` : "beyond this chart");
    const share = figures["attention maps"] / figures.weights;
    setText(said.memory, `The attention maps take ${costs.bytes(figures["attention maps"])}, ${share < 0.01 ? "under 0.01" : Number(share.toPrecision(2))} times the weights; `
      + `they pass the weights ${where("maps pass the weights at")}. Twice the context, four times the maps. A fused kernel never writes them.`);
    const gain = figures["without cache"] / figures["with cache"];
    setText(said.work, `Without the cache the next token costs ${times(gain).slice(2)} times as much as with it. In a cached step the matrices cost the same at any T; `
      + `attention passes them ${where("attention passes the matrices at")}.`);
    const fit = (name) => thousands(figures[name]);
    const weightsFit = figures.weights <= get("memory") * 2 ** 30;
    setText(said.fits, weightsFit
      ? `Beside the weights, ${Number(get("memory").toPrecision(4))} GiB hold the cache of ${fit("rows with cache")} rows of ${thousands(time)} tokens, or all the maps of ${fit("rows with maps")}: the longer the context, the smaller the batch.`
      : `The weights alone need ${costs.bytes(figures.weights)}, more than ${Number(get("memory").toPrecision(4))} GiB.`);
    for (const name of ["rows with cache", "rows with maps", "maps pass the weights at", "cache passes the weights at", "attention passes the matrices at"]) {
      said.fits.dataset[name.replace(/ (\w)/g, (_, letter) => letter.toUpperCase())] = figures[name];
    }
  }
  return view.start();
}
export default { render };
