// Trees drawn from left to right: where each node stands, the curve to its parent, and the keys that walk along it.
const trees = (() => {
  // The children of each node. parents[i] is the parent of node i, -1 for the root; a parent comes before its children.
  const childrenOf = (parents) => {
    const children = parents.map(() => []);
    parents.forEach((parent, i) => { if (parent >= 0) children[parent].push(i); });
    return children;
  };
  const depthsOf = (parents) => {
    const depth = [];
    parents.forEach((parent, i) => depth.push(parent < 0 ? 0 : depth[parent] + 1));
    return depth;
  };
  // All nodes from the root to node i, both included.
  const lineage = (parents, i) => {
    const line = [];
    for (let at = i; at >= 0; at = parents[at]) line.unshift(at);
    return line;
  };

  // Places in pixels. shown(i): is node i drawn (its parent must be, too). wide[i]: width of its box. row: height of a line.
  // width: the room there is; the columns spread over it, their gaps between `gap` and `most`.
  // -> { x: left edge, y: middle, ends: shown nodes without shown children from top to bottom, width, height, columns }
  const layout = ({ parents, shown = () => true, wide, row, gap, most = 120, width = 0 }) => {
    const children = childrenOf(parents), depth = depthsOf(parents), ends = [];
    const drawn = parents.map((_, i) => i).filter(shown);
    const columns = [];
    for (const i of drawn) columns[depth[i]] = Math.max(columns[depth[i]] ?? 0, wide[i]);
    const boxes = columns.reduce((a, b) => a + b, 0), gaps = Math.max(1, columns.length - 1);
    const space = Math.max(gap, Math.min(most, (width - boxes) / gaps));
    const left = columns.map((_, d) => columns.slice(0, d).reduce((a, b) => a + b + space, 0));
    const x = [], y = [];
    const place = (i) => {
      x[i] = left[depth[i]];
      const below = children[i].filter(shown);
      if (!below.length) y[i] = (ends.push(i) - 0.5) * row;
      else {
        below.forEach(place);
        y[i] = (y[below[0]] + y[below.at(-1)]) / 2;
      }
    };
    place(drawn[0]);
    return { x, y, depth, ends, columns, space, width: boxes + space * (columns.length - 1), height: ends.length * row };
  };

  // The curve from a parent's right edge to a child's left edge; it arrives level, so that a label can stand on its end.
  const curve = (x0, y0, x1, y1, bend = 0.5) => {
    const middle = x0 + (x1 - x0) * bend;
    return `M${x0} ${y0}C${middle} ${y0} ${x0 + (x1 - x0) * 0.2} ${y1} ${middle} ${y1}L${x1} ${y1}`;
  };

  // Arrow keys: left and right along the branches, up and down within a column; Home to the root, End as far as right goes.
  // place(): the latest layout. right(i): the child that the right arrow takes, or undefined.
  const keys = (element, { parents, place, current, move, right }) => {
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const at = current(), { y, depth } = place();
      const column = Object.keys(y).map(Number).filter((i) => depth[i] === depth[at]).sort((a, b) => y[a] - y[b]);
      const furthest = (i) => (right(i) === undefined ? i : furthest(right(i)));
      const to = {
        ArrowLeft: () => parents[at], ArrowRight: () => right(at),
        ArrowUp: () => column[column.indexOf(at) - 1], ArrowDown: () => column[column.indexOf(at) + 1],
        Home: () => 0, End: () => furthest(at),
      }[event.key];
      if (!to) return;
      event.preventDefault();
      event.stopPropagation();
      const next = to();
      if (next !== undefined && next >= 0) move(next);
    });
  };

  // Scrolls `box` so that a place (in pixels of its content) can be seen, with some room around it.
  const reveal = (box, x, y, room = 60) => {
    const to = (at, from, size) => (at < from + room ? Math.max(0, at - room) : at > from + size - room ? at + room - size : from);
    box.scrollTop = to(y, box.scrollTop, box.clientHeight);
    box.scrollLeft = to(x, box.scrollLeft, box.clientWidth);
  };

  return { childrenOf, depthsOf, lineage, layout, curve, keys, reveal };
})();
