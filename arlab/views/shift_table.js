// The table of one training row: what goes in, what is to come out, and what is cut off or filled up.
const shiftTable = (() => {
  const IGNORE = -100;
  // ids -> { inputs, targets, cut, filled }: as arlab.text.batches.padded makes them, then filled to `length` (0: as it is).
  const pairs = (ids, { bos, eos, pad, length }) => {
    const whole = [...(bos === null ? [] : [bos]), ...ids, ...(eos === null ? [] : [eos])];
    const kept = length ? whole.slice(0, length + 1) : whole;
    const inputs = kept.slice(0, -1), targets = kept.slice(1);
    const filled = Math.max(0, length - inputs.length);
    for (let n = 0; n < filled; n++) { inputs.push(pad); targets.push(IGNORE); }
    return { inputs, targets, cut: whole.length - kept.length, filled };
  };
  return { IGNORE, pairs };
})();
