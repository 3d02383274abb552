// Colours of a view: is the page dark, and which colours follow from it. Placed before core.js.
const arlabTheme = (() => {
  const probe = document.createElement("canvas").getContext("2d");
  const rgb = (colour) => { // any CSS colour as [r, g, b], or null
    probe.fillStyle = "#010203";
    probe.fillStyle = colour;
    const text = probe.fillStyle;
    if (text === "#010203") return null;
    if (text[0] === "#") return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
    return text.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const isDark = (colour) => {
    const c = rgb(colour);
    return c ? 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2] < 128 : null;
  };
  const darkQuery = globalThis.matchMedia("(prefers-color-scheme: dark)");
  const pageIsDark = (root) => {
    const body = document.body.dataset;
    if (body.jpThemeLight) return body.jpThemeLight === "false"; // JupyterLab, Notebook 7
    const kind = body.vscodeThemeKind ?? document.body.className; // VS Code
    if (kind.includes("vscode-")) return kind.includes("vscode-dark") || kind.includes("vscode-high-contrast");
    const colab = document.documentElement.getAttribute("theme"); // Colab
    if (colab) return colab === "dark";
    const surface = getComputedStyle(root).getPropertyValue("--jp-layout-color0").trim();
    return (surface ? isDark(surface) : null) ?? darkQuery.matches;
  };
  const COLOURS = ["surface", "raised", "line", "ink", "soft", "faint", "kept", "kept-soft", "cut", "accent",
    "good", "series1", "series2", "series3", "series4", "series5", "series6"];
  // Colour ramps as 256 CSS colours: sequential (0 = the surface) and diverging (128 = the surface).
  const mix = (a, b, t) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(",")})`;
  const ramp = (stops) => Array.from({ length: 256 }, (_, i) => {
    const x = (i / 255) * (stops.length - 1), j = Math.min(Math.floor(x), stops.length - 2);
    return mix(stops[j], stops[j + 1], x - j);
  });
  const readTheme = (root) => {
    const dark = pageIsDark(root);
    root.dataset.theme = dark ? "dark" : "light";
    const outer = getComputedStyle(root).getPropertyValue("--jp-layout-color0").trim();
    if (outer && isDark(outer) === dark) root.style.setProperty("--al-surface", outer);
    else root.style.removeProperty("--al-surface");
    const style = getComputedStyle(root);
    const theme = { dark, font: style.fontFamily, mono: style.getPropertyValue("--al-mono") || "monospace" };
    for (const name of COLOURS) theme[name.replace("-s", "S")] = style.getPropertyValue(`--al-${name}`).trim();
    const base = rgb(theme.surface) ?? (dark ? [17, 17, 17] : [255, 255, 255]);
    theme.sequential = ramp(dark ? [base, [0, 82, 130], [70, 170, 230], [214, 239, 255]]
      : [base, [150, 202, 232], [0, 114, 178], [3, 37, 76]]);
    theme.diverging = ramp(dark ? [[120, 200, 255], [0, 96, 150], base, [170, 70, 0], [255, 176, 110]]
      : [[0, 70, 130], [110, 180, 220], base, [240, 160, 110], [160, 60, 0]]);
    return theme;
  };

  return { rgb, mix, darkQuery, readTheme };
})();
