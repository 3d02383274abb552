// Maps of (layers, heads, targets, sources) weights, and how they agree with a gold alignment: alignment_score in Python.
class Alignment {
  constructor(weights, [layers, heads, targets, sources], gold) {
    Object.assign(this, { weights, layers, heads, targets, sources, gold });
  }

  // One map, targets x sources; head "mean" is the mean over the heads, added in order as in Python.
  map(layer, head) {
    const size = this.targets * this.sources, start = layer * this.heads * size;
    if (head !== "mean") return Float64Array.from(this.weights.subarray(start + head * size, start + (head + 1) * size));
    const sum = new Float64Array(size);
    for (let n = 0; n < this.heads; n++) for (let i = 0; i < size; i++) sum[i] += this.weights[start + n * size + i];
    return sum.map((w) => w / this.heads);
  }

  // The place of the largest weight of a row, the first of equals; -1 in a row of zeros.
  heaviest(map, row) {
    let best = -1, most = 0;
    for (let j = 0; j < this.sources; j++) if (map[row * this.sources + j] > most) most = map[row * this.sources + (best = j)];
    return best;
  }

  hit(map, row) {
    const span = this.gold[row], at = this.heaviest(map, row);
    return Boolean(span) && span[0] <= at && at < span[1];
  }

  score(map) {
    let inside = 0, mass = 0, counted = 0;
    for (let row = 0; row < this.targets; row++) {
      const span = this.gold[row];
      if (!span) continue;
      counted++;
      if (this.hit(map, row)) inside++;
      for (let j = span[0]; j < span[1]; j++) mass += map[row * this.sources + j];
    }
    return { inside, mass: mass / counted, counted };
  }

  // The head with the most target tokens inside, the first of equals.
  best() {
    let best = null;
    for (let layer = 0; layer < this.layers; layer++) for (let head = 0; head < this.heads; head++) {
      const score = this.score(this.map(layer, head));
      if (best === null || score.inside > best.inside) best = { layer, head, ...score };
    }
    return best;
  }

  // The gold spans as blocks: neighbouring rows with one span are one block. [{ from, to, start, end }], ends excluded
  blocks() {
    const found = [];
    this.gold.forEach((span, row) => {
      if (!span) return;
      const last = found.at(-1);
      if (last && last.to === row && last.start === span[0] && last.end === span[1]) last.to = row + 1;
      else found.push({ from: row, to: row + 1, start: span[0], end: span[1] });
    });
    return found;
  }
}
