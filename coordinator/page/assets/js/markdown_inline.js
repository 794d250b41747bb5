// The inside of a Markdown paragraph to a tree: {type: text | code | strong | em | del | link | break}. Knows
// no DOM. What does not close stays text, so half an answer reads well.

const MAX_DEPTH = 12;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const BARE_URL = /^https?:\/\/[^\s<>()[\]]*[^\s<>()[\].,;:!?'"*_]/;
const STYLES = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];

function isWord(character) {
  return character !== undefined && /[\p{L}\p{N}]/u.test(character);
}

// Only these go anywhere when clicked.
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// The end of a code span that opens at `at`, or -1.
function codeEnd(text, at) {
  const ticks = /^`+/.exec(text.slice(at))[0];
  for (let i = at + ticks.length; i < text.length;) {
    const next = text.indexOf('`', i);
    if (next < 0) return -1;
    const run = /^`+/.exec(text.slice(next))[0].length;
    if (run === ticks.length) return next + run;
    i = next + run;
  }
  return -1;
}

// Where `mark` closes what opened before `from`, or -1. Code and escapes in between do not count.
function closing(text, from, mark) {
  for (let i = from; i < text.length; i += 1) {
    if (text[i] === '\\') { i += 1; continue; }
    if (text[i] === '`') {
      const end = codeEnd(text, i);
      if (end > 0) i = end - 1;
      continue;
    }
    if (!text.startsWith(mark, i)) continue;
    const run = /^(.)\1*/.exec(text.slice(i))[0].length;
    const fits = mark.length === 1 ? run !== 2 : run >= 2;
    const word = mark[0] === '_' && isWord(text[i + mark.length]);
    if (i > from && fits && !/\s/.test(text[i - 1]) && !word) return i + (mark.length === 2 ? run - 2 : 0);
    i += run - 1;
  }
  return -1;
}

function bracketEnd(text, at) {
  let depth = 0;
  for (let i = at; i < text.length; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '[') depth += 1;
    else if (text[i] === ']' && (depth -= 1) === 0) return i;
  }
  return -1;
}

// [node, end] of what starts at `at`, or null where it is plain text. `hopeless`: marks known not to close.
function special(text, at, depth, hopeless) {
  const c = text[at];
  if (c === '\n') return [{type: 'break'}, at + 1];
  if (c === '\\' && PUNCTUATION.test(text[at + 1] ?? '')) return [{type: 'text', text: text[at + 1]}, at + 2];
  if (c === '`') {
    const end = codeEnd(text, at);
    const ticks = /^`+/.exec(text.slice(at))[0];
    if (end < 0) return [{type: 'text', text: ticks}, at + ticks.length];
    const inside = text.slice(at + ticks.length, end - ticks.length).replace(/\n/g, ' ');
    return [{type: 'code', text: inside.replace(/^ (.*[^ ].*) $/, '$1')}, end];
  }
  if (c === '[' || (c === '!' && text[at + 1] === '[')) return link(text, at, depth, hopeless);
  if (c === '<') {
    const match = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/.exec(text.slice(at));
    return match && safeUrl(match[1]) ? [linkTo(match[1], match[1]), at + match[0].length] : null;
  }
  if (c === 'h' && !isWord(text[at - 1])) {
    const match = BARE_URL.exec(text.slice(at, at + 2048));
    return match && safeUrl(match[0]) ? [linkTo(match[0], match[0]), at + match[0].length] : null;
  }
  return styled(text, at, depth, hopeless);
}

function linkTo(url, text) {
  return {type: 'link', url: safeUrl(url), children: [{type: 'text', text}]};
}

// A picture in an answer becomes a link: the page loads nothing from elsewhere.
function link(text, at, depth, hopeless) {
  if (hopeless.has('[')) return null;
  const open = text[at] === '!' ? at + 1 : at;
  const close = bracketEnd(text, open);
  if (close < 0) hopeless.add('[');
  if (close < 0 || text[close + 1] !== '(') return null;
  const match = /^\(\s*<?([^\s<>]*?)>?(?:\s+["'(][^"')]*["')])?\s*\)/.exec(text.slice(close + 1, close + 2100));
  const url = match && safeUrl(match[1]);
  if (!url) return null;
  const children = parse(text.slice(open + 1, close), depth + 1);
  return [{type: 'link', url, children}, close + 1 + match[0].length];
}

function styled(text, at, depth, hopeless) {
  for (const [mark, type] of STYLES) {
    if (!text.startsWith(mark, at) || hopeless.has(mark)) continue;
    const from = at + mark.length;
    const opens = from < text.length && !/\s/.test(text[from]) && !(mark[0] === '_' && isWord(text[at - 1]));
    if (!opens) continue;
    const close = closing(text, from, mark);
    if (close < 0) {
      hopeless.add(mark);
      continue;
    }
    return [{type, children: parse(text.slice(from, close), depth + 1)}, close + mark.length];
  }
  return null;
}

function parse(text, depth) {
  const nodes = [];
  const hopeless = new Set();
  let plain = '';
  for (let at = 0; at < text.length;) {
    const found = depth < MAX_DEPTH && /[\n\\`[!<h*_~]/.test(text[at]) ? special(text, at, depth, hopeless) : null;
    if (!found) {
      plain += text[at];
      at += 1;
      continue;
    }
    if (plain) nodes.push({type: 'text', text: plain});
    plain = '';
    nodes.push(found[0]);
    at = found[1];
  }
  if (plain) nodes.push({type: 'text', text: plain});
  return nodes;
}

export function parseInline(text) {
  return parse(text, 0);
}
