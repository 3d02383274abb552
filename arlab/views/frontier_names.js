// Room for the names of points. A name stands beside its point where there is room. The names of a crowd stand in a column
// to its left or right, each with a line to its point that crosses no other. What finds no room stays without a name.
const frontierNames = (() => {
  const meet = (a, b) => a.x < b.x + b.wide && b.x < a.x + a.wide && a.y < b.y + b.tall && b.y < a.y + a.tall;
  const side = (p, q, r) => Math.sign((q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x));
  const cross = ([p, q], [r, s]) => side(p, q, r) * side(p, q, s) < 0 && side(r, s, p) * side(r, s, q) < 0;
  const through = (leader, { x, y, wide, tall }) => cross(leader, [{ x: x - 3, y }, { x: x + wide + 3, y: y + tall }])
    || cross(leader, [{ x: x + wide + 3, y }, { x: x - 3, y: y + tall }]);
  const away = ([p, q], { x, y }) => { // how far a line passes from a place
    const dx = q.x - p.x, dy = q.y - p.y, t = Math.max(0, Math.min(1, ((x - p.x) * dx + (y - p.y) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(p.x + t * dx - x, p.y + t * dy - y);
  };
  const AROUND = [[1, 0], [-1, 0], [0, -1], [0, 1], [0.8, -0.8], [0.8, 0.8], [-0.8, -0.8], [-0.8, 0.8],
    [0.4, -1], [-0.4, -1], [0.4, 1], [-0.4, 1]];
  const TALL = 16; // of a name
  const FINE = 4, ACROSS = 12, OUT = 20, LONG = 200; // of a column: steps down and across, from its crowd, and its longest line
  const REACH = [50, 120, Infinity]; // so near are the points of one crowd; farther, when crowds stand in each other's way

  // Columns for the names `crowd` (places in `names`), left and right of it: the shortest lines that cross none of
  // `leaders`. Gives a Map of places with their own leaders, or null. boxes: names that stand already; a line
  // crosses none that has a leader, and others, beside their points, only where it cannot be helped. alone: see `place`.
  const columns = (crowd, names, box, alone, { boxes, leaders }) => {
    const order = [...crowd].sort((a, b) => names[a].x - names[b].x), count = alone(crowd[0], 1, box.left).length;
    const known = new Map();
    const price = (i, turn, edge) => { // of each height in this column
      const key = [i, turn, edge].join();
      if (!known.has(key)) {
        known.set(key, alone(i, turn, edge).map(({ one, cost }) => {
          if (cost === Infinity || boxes.some((other) => meet(one, other) || (other.leader && through(one.leader, other)))
            || leaders.some((other) => through(other, one) || cross(other, one.leader))) return Infinity;
          return cost + 150 * boxes.filter((other) => through(one.leader, other)).length;
        }));
      }
      return known.get(key);
    };
    const column = (some, turn, edge) => { // down by the heights of their points, then exchanged until no two lines cross
      const down = [...some].sort((a, b) => names[a].y - names[b].y || turn * (names[b].x - names[a].x)), apart = TALL / FINE, from = [];
      let least = new Array(count).fill(0);
      for (const i of down) {
        const prices = price(i, turn, edge), now = [], back = [];
        let best = from.length ? -1 : 0;
        prices.forEach((cost, t) => {
          const above = t - apart;
          if (from.length && above >= 0 && (best < 0 || least[above] < least[best])) best = above;
          back[t] = best;
          now[t] = cost + (best < 0 ? Infinity : from.length ? least[best] : 0);
        });
        from.push(back);
        least = now;
      }
      let t = least.indexOf(Math.min(...least));
      if (least[t] === Infinity) return null;
      const heights = [];
      for (let n = down.length - 1; n >= 0; n--) { heights[n] = t; t = from[n][t]; }
      const lines = () => down.map((i, n) => alone(i, turn, edge)[heights[n]].one);
      for (let sweep = 0; sweep < 2 * down.length; sweep++) {
        const drawn = lines().map(({ leader }) => leader);
        const pair = down.flatMap((_, n) => down.map((_, m) => [n, m])).find(([n, m]) => n < m && cross(drawn[n], drawn[m]));
        if (!pair) break;
        [down[pair[0]], down[pair[1]]] = [down[pair[1]], down[pair[0]]];
      }
      const cost = down.reduce((sum, i, n) => sum + price(i, turn, edge)[heights[n]], 0);
      return cost === Infinity ? null : { cost, places: lines().map((one, n) => [down[n], one]) };
    };
    const bestColumn = (some, turn) => {
      if (!some.length) return { cost: 0, places: [] };
      const edges = some.map((i) => names[i].x), start = turn > 0 ? Math.max(...edges) + OUT : Math.min(...edges) - OUT;
      let best = null;
      const far = Math.min(...edges.map((x) => turn * x)) + LONG, first = (turn > 0 ? Math.ceil : Math.floor)(start / ACROSS) * ACROSS;
      for (let edge = first; edge > box.left && edge < box.right && turn * edge < far; edge += turn * ACROSS) {
        const one = column(some, turn, edge);
        if (one && (!best || one.cost < best.cost)) best = one;
      }
      return best;
    };
    let best = null;
    for (let cut = 0; cut <= order.length; cut++) {
      const left = bestColumn(order.slice(0, cut), -1), right = left && bestColumn(order.slice(cut), 1);
      if (right && (!best || left.cost + right.cost < best.cost)) best = { cost: left.cost + right.cost, places: [...left.places, ...right.places] };
    }
    return best && new Map(best.places);
  };

  // names: [{ x, y, wide, first }], the points they belong to, how long they are, and which are named before others.
  // lines: rectangles that are to stay free. Gives for each { x, y, wide, tall, leader }, inside `box`; hidden: no room.
  const place = (names, box, lines = []) => {
    const fixed = [...names.map(({ x, y }) => ({ x: x - 7, y: y - 7, wide: 14, tall: 14 })), ...lines];
    const inside = (low, v, high) => Math.max(low, Math.min(high, v));
    const around = names.map(({ x, y, wide }, name) => AROUND.map(([dx, dy]) => ({ name, wide, tall: TALL, leader: null,
      x: inside(box.left, x + dx * 10 - (dx > 0 ? 0 : dx < 0 ? wide : wide / 2), box.right - wide),
      y: inside(box.top, y + dy * 10 - (dy > 0 ? 0 : dy < 0 ? TALL : TALL / 2), box.bottom - TALL) })));
    const free = around.map((some) => some.filter((one) => !fixed.some((other) => meet(one, other))));
    // A name in a column whose edge is at `edge`, at each height: where, and what its line costs, were it the only one.
    const told = new Map(), count = Math.floor((box.bottom - TALL - box.top) / FINE) + 1;
    const alone = (i, turn, edge) => {
      const key = [i, turn, edge].join(), { wide, first } = names[i], x = turn > 0 ? edge : edge - wide;
      if (!told.has(key)) {
        told.set(key, Array.from({ length: count }, (_, t) => {
          const y = box.top + t * FINE, leader = [names[i], { x: edge - 2 * turn, y: y + TALL / 2 }];
          const one = { x, y, wide, tall: TALL, turn, leader }, long = Math.hypot(leader[1].x - names[i].x, leader[1].y - names[i].y);
          if (long > LONG || x < box.left || x + wide > box.right || fixed.some((other) => meet(one, other))) return { one, cost: Infinity };
          // Over another point the line would seem to be that one's: only what is to be named first may do so.
          const over = names.map((other) => ({ far: Math.hypot(other.x - names[i].x, other.y - names[i].y), away: away(leader, other) }))
            .reduce((sum, other) => sum + (other.far < 7 || other.away > 7 ? 0 : other.far < 18 ? 30 : first ? 200 : Infinity), 0);
          return { one, cost: long + over };
        }));
      }
      return told.get(key);
    };
    // Beside their points: those with the least choice first, each where it takes the least choice from the others.
    const found = names.map(() => null), open = new Set(names.keys());
    const left = (i) => free[i].filter((one) => !found.some((other) => other && meet(one, other)));
    for (;;) {
      const some = [...open].map((i) => ({ i, choice: left(i) })).filter(({ choice }) => choice.length);
      if (!some.length) break;
      const { i, choice } = some.reduce((a, b) => (b.choice.length < a.choice.length ? b : a));
      const harm = choice.map((one, n) => some.reduce((sum, other) => sum + (other.i === i ? 0
        : other.choice.filter((two) => meet(one, two)).length / other.choice.length), n / 10));
      found[i] = choice[harm.indexOf(Math.min(...harm))];
      open.delete(i);
    }
    // The crowds, one after the other. A name beside its point that a line would cross goes into the column as well.
    const hidden = new Set();
    const settle = (reach) => {
      const waiting = new Set([...open].filter((i) => !hidden.has(i))), set = new Map();
      while (waiting.size) {
        const [first] = waiting, crowd = [first];
        waiting.delete(first);
        for (const i of crowd) {
          for (const j of [...waiting]) {
            if (Math.hypot(names[i].x - names[j].x, names[i].y - names[j].y) > reach) continue;
            crowd.push(j);
            waiting.delete(j);
          }
        }
        const boxes = [...found.filter(Boolean), ...set.values()];
        const places = columns(crowd, names, box, alone, { boxes, leaders: [...set.values()].map(({ leader }) => leader) });
        if (!places) return null;
        for (const [i, one] of places) set.set(i, one);
      }
      const crossed = found.findIndex((one) => one && [...set.values()].some(({ leader }) => through(leader, one)));
      return { set, crossed };
    };
    const densest = () => { // of those that still wait; what is to be named first goes last
      const waiting = [...open].filter((i) => !hidden.has(i)), some = waiting.filter((i) => !names[i].first);
      const crush = (i) => waiting.reduce((sum, j) => sum + 1 / (20 + Math.hypot(names[i].x - names[j].x, names[i].y - names[j].y)), 0);
      return (some.length ? some : waiting).reduce((a, b) => (crush(b) > crush(a) ? b : a));
    };
    // What was left out once to make room may find some yet, now that all others stand.
    const fill = (set) => {
      for (const i of [...hidden].sort((a, b) => Boolean(names[b].first) - Boolean(names[a].first) || a - b)) {
        const placed = [...set.values()], leaders = placed.map(({ leader }) => leader);
        found[i] = left(i).find((one) => !placed.some((other) => meet(one, other) || through(other.leader, one))) ?? null;
        if (found[i]) continue;
        const named = found.filter(Boolean), one = columns([i], names, box, alone, { boxes: [...named, ...placed], leaders })?.get(i);
        if (one && !named.some((other) => through(one.leader, other))) set.set(i, one);
      }
    };
    for (;;) {
      const done = REACH.reduce((one, reach) => one ?? settle(reach), null);
      if (!done) { hidden.add(densest()); continue; }
      const { set, crossed } = done;
      if (crossed >= 0) { open.add(crossed); found[crossed] = null; continue; }
      fill(set);
      return names.map((_, i) => found[i] ?? set.get(i) ?? { ...(free[i][0] ?? around[i][0]), hidden: true });
    }
  };

  return { place };
})();
