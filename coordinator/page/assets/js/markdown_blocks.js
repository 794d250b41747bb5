// Markdown to a list of blocks: {type: paragraph | heading | code | quote | list | table | rule, source}. Knows no
// DOM. `source` is the block's own text: equal sources are equal blocks.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( {1,4})(?! )(.*)|\s*|( ).*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const MAX_DEPTH = 12;

function item(line) {
  const match = ITEM.exec(line);
  if (!match) return null;
  const mark = match[2];
  return {
    indent: match[1].length,
    content: match[1].length + mark.length + (match[3]?.length ?? 1),
    ordered: /\d/.test(mark),
    start: Number.parseInt(mark, 10),
  };
}

function startsBlock(line) {
  const list = item(line);
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) ||
    (list !== null && /\S\s+\S/.test(line) && (!list.ordered || list.start === 1));
}

// Each reader takes the lines from `at` and returns [block, next line], or null.
function code(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const close = new RegExp(`^ {0,3}${open[1][0]}{${open[1].length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join('\n');
  return [{type: 'code', language: open[2].trim().split(/\s/)[0], text}, Math.min(end + 1, lines.length)];
}

function heading(lines, at) {
  const match = HEADING.exec(lines[at]);
  return match && [{type: 'heading', level: match[1].length, text: match[2]}, at + 1];
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? [{type: 'rule'}, at + 1] : null;
}

function quote(lines, at, depth) {
  if (!QUOTE.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ''));
  return [{type: 'quote', blocks: parse(inside, depth + 1)}, end];
}

function cells(line) {
  const inside = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));
}

function table(lines, at) {
  const next = lines[at + 1];
  if (!lines[at].includes('|') || next === undefined || !next.includes('-') || !TABLE_RULE.test(next)) return null;
  const head = cells(lines[at]);
  const rules = cells(next);
  if (rules.length !== head.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|')) end += 1;
  const align = rules.map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'right') : 'left'));
  const rows = lines.slice(at + 2, end).map((line) => head.map((_, i) => cells(line)[i] ?? ''));
  return [{type: 'table', head, align, rows}, end];
}

// The lines of an item: its own, and those below that are indented under it.
function itemEnd(lines, at, first) {
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    if (line.trim() === '') continue;
    if (/^ */.exec(line)[0].length >= Math.min(first.content, first.indent + 2)) continue;
    const lazy = lines[end - 1].trim() !== '' && !startsBlock(line) && !item(line);
    if (!lazy) break;
  }
  while (end > at + 1 && lines[end - 1].trim() === '') end -= 1;
  return end;
}

function list(lines, at, depth) {
  const first = item(lines[at]);
  if (!first || RULE.test(lines[at])) return null;
  const items = [];
  let loose = false;
  let end = at;
  for (let next = at; next < lines.length;) {
    const current = item(lines[next]);
    if (!current || current.ordered !== first.ordered || RULE.test(lines[next])) break;
    end = itemEnd(lines, next, current);
    const own = [lines[next].slice(current.content), ...lines.slice(next + 1, end).map((line) =>
      line.slice(Math.min(current.content, /^ */.exec(line)[0].length)))];
    items.push(parse(own, depth + 1));
    next = end;
    while (next < lines.length && lines[next].trim() === '') next += 1;
    if (next > end && next < lines.length && item(lines[next])) loose = true;
  }
  return [{type: 'list', ordered: first.ordered, start: first.start, loose, items}, end];
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== '' && !startsBlock(lines[end])) end += 1;
  return [{type: 'paragraph', text: lines.slice(at, end).map((line) => line.trim()).join('\n')}, end];
}

const READERS = [code, heading, rule, quote, table, list];

function parse(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (lines[at].trim() === '') {
      at += 1;
      continue;
    }
    let found = null;
    for (const reader of depth < MAX_DEPTH ? READERS : []) found ??= reader(lines, at, depth);
    const [block, next] = found ?? paragraph(lines, at);
    blocks.push({...block, source: lines.slice(at, next).join('\n')});
    at = next;
  }
  return blocks;
}

export function parseBlocks(text) {
  return parse(text.replace(/\r\n?/g, '\n').replace(/\t/g, '    ').split('\n'), 0);
}
