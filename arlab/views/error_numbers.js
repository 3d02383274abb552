// What the models wrote after every error, and what follows from it: the counterpart of error_propagation.py's properties.
const errorNumbers = (() => {
  const NOTHING = 65535; // stands where a model has written its end symbol before
  const sixteen = (view) => new Uint16Array(view?.byteLength ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : 0);

  // p: the position of the error, c: the column of its symbol among the choices (the last column: no error), t: a position.
  const read = ({ names, answer, choices, tokens, wanted }) => {
    const wrote = sixteen(tokens), asked = sixteen(wanted), time = answer.length, width = choices.length + 1, none = choices.length;
    const token = (m, p, c, t) => wrote[((m * time + p) * width + c) * time + t];
    const right = (p, c, t) => (asked.length ? asked[(p * width + c) * time + t] : answer[t]);
    const hit = (m, p, c, t) => token(m, p, c, t) === right(p, c, t);
    const wrong = (p, c) => c !== none && choices[c] !== answer[p];
    const column = (p, symbol) => (symbol === null || symbol === undefined || symbol === answer[p] ? none : choices.indexOf(symbol));

    // After one error: how many symbols, how many right, after how many the first is right, and from where on all are.
    const after = (m, p, c) => {
      const found = { of: time - 1 - p, right: 0, first: null, stays: null };
      for (let t = p + 1; t < time; t++) {
        if (!hit(m, p, c, t)) { found.stays = null; continue; }
        found.right++;
        found.first ??= t - p;
        found.stays ??= t - p;
      }
      return found;
    };
    // Over all errors (or all places without one): the share right at each distance, and over all symbols after them.
    const counts = (error) => (p, c) => (error ? wrong(p, c) : c === none);
    const byDistance = (m, error) => Array.from({ length: time - 1 }, (_, k) => {
      let n = 0, good = 0;
      for (let p = 0; p < time - 1 - k; p++) for (let c = 0; c < width; c++) if (counts(error)(p, c)) { n++; good += hit(m, p, c, p + k + 1); }
      return n ? good / n : null;
    });
    const mean = (m, error) => {
      let n = 0, good = 0;
      for (let p = 0; p < time - 1; p++) for (let c = 0; c < width; c++) if (counts(error)(p, c)) { const one = after(m, p, c); n += one.of; good += one.right; }
      return n ? good / n : null;
    };
    const errors = () => { // how many errors there are that something comes after
      let n = 0;
      for (let p = 0; p < time - 1; p++) for (let c = 0; c < none; c++) n += wrong(p, c);
      return n;
    };
    const models = names.map((name, m) => ({ name, byDistance: byDistance(m, true), without: byDistance(m, false), mean: mean(m, true), meanWithout: mean(m, false) }));
    return { names, answer, choices, time, none, token, right, hit, wrong, column, after, models, errors: errors(), depends: asked.length > 0 };
  };
  return { NOTHING, read };
})();
