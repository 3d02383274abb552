// A sum on paper: its digits, its carries, and what a digit of the answer needs to know. Pure functions.
const orderSum = (() => {
  const PLACES = ["ones", "tens", "hundreds", "thousands"];
  const SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const placeName = (place) => PLACES[place] ?? `10${SUPER[place]}`;
  const digit = (n, place) => Math.floor(n / 10 ** place) % 10;
  // 1 where a carry comes into the place. Places from 0, the ones.
  const carryInto = (a, b, place) => Number((a % 10 ** place) + (b % 10 ** place) >= 10 ** place);
  // The places whose digits decide the answer's digit: its own, and those to the right as far as the carry is open.
  // A pair that makes 9 hands on what comes in; any other pair decides by itself. `known(place)`: whether the answer's
  // digit at that place stands already, and is right: then the pair there says with it what was carried.
  const needs = (a, b, place, known) => {
    const found = [place];
    for (let at = place - 1; at >= 0; at--) {
      found.push(at);
      if (known(at) || digit(a, at) + digit(b, at) !== 9) break;
    }
    return found;
  };
  // What stands in a lane after so many passes: place -> { symbol, p, digits, step, turn }. turn counts what was written.
  const after = (lane, passes) => {
    const standing = new Map();
    (lane.steps ?? []).slice(0, passes).forEach((writes, step) => {
      for (const place of lane.erased[step]) standing.delete(place);
      for (const write of writes) standing.set(write.place, { ...write, step });
    });
    return standing;
  };
  const ordinal = (n) => `${n}${n % 100 > 10 && n % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th"}`;
  // Two operands below 10^digits whose carry, born in the ones, travels through every place. Chance is in [0, 1).
  const longCarry = (digits, chance = Math.random) => {
    const ones = 1 + Math.floor(chance() * 9); // 1 to 9, and its partner makes 10 or more
    let a = ones, b = 10 - ones + Math.floor(chance() * ones);
    for (let place = 1; place < digits; place++) {
      const one = Math.floor(chance() * 10);
      a += one * 10 ** place;
      b += (9 - one) * 10 ** place;
    }
    return [a, b];
  };
  return { placeName, digit, carryInto, needs, after, ordinal, longCarry };
})();
