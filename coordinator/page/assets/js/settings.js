// What goes with every question besides the conversation. Kept in localStorage; a field that is empty is not
// sent, and the server's own default holds.

const NAME = 'fulger.settings';

// The fields of the request, as the settings form shows them.
export const FIELDS = [
  {name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, hint: '0: always the likeliest token'},
  {name: 'top_p', label: 'Top p', min: 0.01, max: 1, step: 0.01, hint: 'of the probability, likeliest first'},
  {name: 'top_k', label: 'Top k', min: 0, step: 1, whole: true, hint: 'likeliest tokens; 0: all'},
  {name: 'min_p', label: 'Min p', min: 0, max: 1, step: 0.01, hint: 'relative to the likeliest'},
  {name: 'max_tokens', label: 'Longest answer', min: 1, step: 1, whole: true, hint: 'tokens; empty: what the context holds'},
  {name: 'seed', label: 'Seed', min: 0, step: 1, whole: true, hint: 'the same seed, the same answer'},
  {name: 'repetition_penalty', label: 'Repetition penalty', min: 0.1, max: 10, step: 0.05, hint: '1: none'},
  {name: 'presence_penalty', label: 'Presence penalty', min: -2, max: 2, step: 0.1, hint: '0: none'},
  {name: 'frequency_penalty', label: 'Frequency penalty', min: -2, max: 2, step: 0.1, hint: '0: none'},
];

export function loadSettings() {
  const empty = {system: '', stop: ''};
  try {
    return {...empty, ...JSON.parse(localStorage.getItem(NAME) ?? '{}')};
  } catch {
    return empty;
  }
}

export function saveSettings(settings) {
  localStorage.setItem(NAME, JSON.stringify(settings));
}

// Only what is a number and was set.
export function sampling(settings) {
  const fields = {};
  for (const {name, whole} of FIELDS) {
    const value = Number(settings[name]);
    if (settings[name] === undefined || settings[name] === '' || !Number.isFinite(value)) continue;
    fields[name] = whole ? Math.trunc(value) : value;
  }
  const stop = settings.stop.split('\n').filter((text) => text !== '');
  return stop.length > 0 ? {...fields, stop} : fields;
}
