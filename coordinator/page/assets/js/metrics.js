// The server's Prometheus text: {name: value}, series of one name added up.
export function parseMetrics(text) {
  const values = {};
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/.exec(line);
    if (match && !line.startsWith('#')) values[match[1]] = (values[match[1]] ?? 0) + Number(match[2]);
  }
  return values;
}

// Rates of counters between two looks, in units per second.
export class Rates {
  constructor() {
    this.before = null;
  }

  next(values, now) {
    const before = this.before;
    this.before = {values, now};
    if (!before || now <= before.now) return () => 0;
    const seconds = (now - before.now) / 1000;
    // A counter that went down is a new server's.
    return (name) => Math.max(0, ((values[name] ?? 0) - (before.values[name] ?? 0)) / seconds);
  }
}
