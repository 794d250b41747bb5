// The open conversation as a file.

import {asJson, asMarkdown, titleOf} from './conversation.js';
import {el} from './dom.js';
import {loadSettings} from './settings.js';

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  el('a', {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function fileName(conversation, extension) {
  const words = titleOf(conversation).toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ['conversation'];
  return `${words.slice(0, 6).join('-')}.${extension}`;
}

export function exportJson(conversation, model) {
  download(fileName(conversation, 'json'), 'application/json', asJson(conversation, model, loadSettings()));
}

export function exportMarkdown(conversation, model) {
  download(fileName(conversation, 'md'), 'text/markdown', asMarkdown(conversation, model));
}
