// The source of a translation as a text box: Enter or the button asks the kernel to decode it anew.
const sourceBox = (view, { button = "Decode", title = "Let the model read this source" } = {}) => {
  const { h } = arlab;
  if (!view.get("_editable")) return null;
  const field = h("input", { type: "text", "aria-label": "Source", "data-lm-suppress-shortcuts": "true", spellcheck: "false", dir: "auto",
    autocomplete: "off", value: view.get("source_text"),
    onkeydown: (event) => { if (event.key === "Enter" && !event.isComposing) { event.stopPropagation(); run(); } } });
  const offline = "A saved page has no kernel: open the notebook to read another source";
  const go = view.button(button, () => run(), { class: "al-button al-primary", disabled: !view.live, title: view.live ? title : offline });
  field.disabled = !view.live;
  const run = async () => {
    if (!view.live || go.disabled) return;
    go.disabled = true;
    await view.ask("source", { text: field.value });
    go.disabled = false;
  };
  view.watch(["source_text"], () => { field.value = view.get("source_text"); });
  return h("div", { class: "sb-box" }, field, go);
};
