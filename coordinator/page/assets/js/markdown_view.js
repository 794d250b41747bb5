// Markdown as DOM nodes. While an answer grows only its last block is made anew, so what a reader has selected
// above stays selected.

import {el} from './dom.js';
import {parseBlocks} from './markdown_blocks.js';
import {parseInline} from './markdown_inline.js';

function inline(nodes) {
  return nodes.map((node) => {
    switch (node.type) {
      case 'text': return node.text;
      case 'break': return el('br');
      case 'code': return el('code', {}, node.text);
      case 'link':
        return el('a', {href: node.url, target: '_blank', rel: 'noopener noreferrer'}, inline(node.children));
      default: return el(node.type, {}, inline(node.children));
    }
  });
}

function line(text) {
  return inline(parseInline(text));
}

// Browsers give the clipboard to pages over TLS or from this machine only; elsewhere a selection is copied.
async function toClipboard(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = el('textarea', {class: 'unseen'});
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

async function copy(text, button) {
  await toClipboard(text);
  const label = button.textContent;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = label; }, 1500);
}

export function copyButton(text) {
  return el('button', {type: 'button', class: 'quiet', onclick: (event) => copy(text(), event.target)}, 'Copy');
}

function code(block) {
  return el('figure', {class: 'code'},
    el('figcaption', {}, el('span', {}, block.language || 'text'), copyButton(() => block.text)),
    // Focusable: keyboards scroll it.
    el('pre', {tabindex: 0}, el('code', {}, block.text)));
}

function table(block) {
  const row = (tag, values) => el('tr', {}, values.map((text, i) => el(tag, {class: block.align[i]}, line(text))));
  return el('div', {class: 'table', tabindex: 0},
    el('table', {}, el('thead', {}, row('th', block.head)), el('tbody', {}, block.rows.map((r) => row('td', r)))));
}

function list(block) {
  return el(block.ordered ? 'ol' : 'ul', {start: block.ordered && block.start !== 1 ? block.start : null},
    block.items.map((blocks) => el('li', {}, blocks.map((b) =>
      (b.type === 'paragraph' && !block.loose ? el('span', {class: 'tight'}, line(b.text)) : render(b))))));
}

function render(block) {
  switch (block.type) {
    case 'heading': return el(`h${Math.min(block.level + 2, 6)}`, {}, line(block.text));  // the page has h1, h2
    case 'code': return code(block);
    case 'quote': return el('blockquote', {}, block.blocks.map(render));
    case 'list': return list(block);
    case 'table': return table(block);
    case 'rule': return el('hr');
    default: return el('p', {}, line(block.text));
  }
}

export class MarkdownView {
  constructor() {
    this.node = el('div', {class: 'markdown'});
    this.shown = [];  // {source, node}
  }

  update(text) {
    const blocks = parseBlocks(text);
    let same = 0;
    while (same < blocks.length && this.shown[same]?.source === blocks[same].source) same += 1;
    for (const old of this.shown.splice(same)) old.node.remove();
    for (const block of blocks.slice(same)) {
      const node = render(block);
      this.shown.push({source: block.source, node});
      this.node.append(node);
    }
  }
}
