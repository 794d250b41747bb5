// Numbers as people read them.

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function number(value) {
  return Math.round(value).toLocaleString('en-US');
}

export function seconds(value) {
  if (value < 0.00095) return 'under 1 ms';
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`;
}

export function rate(value) {
  return value >= 100 ? number(value) : value.toFixed(1);
}

// [begin, end) as "0..3", or "none".
export function span([begin, end]) {
  if (end <= begin) return 'none';
  return end === begin + 1 ? `${begin}` : `${begin}..${end - 1}`;
}

export function plural(count, word) {
  return `${number(count)} ${word}${count === 1 ? '' : 's'}`;
}
