// One message of the conversation.

import {bolt, el} from './dom.js';
import {number, rate, seconds} from './format.js';
import {MarkdownView, copyButton} from './markdown_view.js';
import {pictureView} from './picture_view.js';

const ENDS = {
  length: 'ended at the longest answer',
  stopped: 'stopped',
  tool_calls: 'asks for a tool',
  content_filter: 'filtered',
};

// The figures under an answer, as [label, value].
function figures({firstToken, rate: perSecond, tokens, prompt, pictures, cached}) {
  const list = [];
  if (firstToken !== null) list.push(['first token', seconds(firstToken)]);
  if (perSecond !== null) list.push(['tokens/s', rate(perSecond)]);
  list.push(['tokens', number(tokens)]);
  if (prompt !== null) list.push(['prompt', number(prompt)]);
  if (pictures > 0) list.push(['of pictures', number(pictures)]);
  if (prompt !== null) list.push(['cached', number(cached)]);
  return list;
}

export function userView(message, {onEdit}) {
  return el('li', {class: 'message user'},
    el('article', {'aria-label': 'You'},
      message.pictures.length > 0 && el('div', {class: 'pictures'}, message.pictures.map(pictureView)),
      message.text && el('div', {class: 'text'}, message.text)),
    el('div', {class: 'actions'}, el('button', {type: 'button', class: 'quiet', onclick: onEdit}, 'Edit')));
}

// An answer that may be growing: update() shows its present text, end() its figures and its buttons.
export class AnswerView {
  constructor(message, {onRetry}) {
    this.message = message;
    this.onRetry = onRetry;
    this.markdown = new MarkdownView();
    this.foot = el('div', {class: 'foot'});
    this.article = el('article', {'aria-label': 'Answer', 'aria-busy': 'true'}, this.markdown.node, bolt('bolt cursor'), this.foot);
    this.node = el('li', {class: 'message answer growing'}, this.article);
    this.update();
  }

  update() {
    if (!this.node.classList.contains('growing')) return;  // a frame that was asked for before the end
    this.markdown.update(this.message.text);
    if (this.message.stats) this.showFigures();
  }

  showFigures() {
    const list = figures(this.message.stats);
    this.foot.replaceChildren(el('dl', {class: 'figures'},
      list.map(([label, value]) => el('div', {}, el('dt', {}, label), el('dd', {}, value)))));
  }

  end() {
    const {finish, error, stats, text} = this.message;
    this.update();
    this.node.classList.remove('growing');
    this.article.setAttribute('aria-busy', 'false');
    if (stats?.tokens > 0) this.showFigures();
    else this.foot.replaceChildren();
    const note = finish === null ? 'cut off when the page was left' : ENDS[finish];
    if (note) this.foot.append(el('p', {class: 'note'}, note));
    if (error) this.foot.append(el('p', {class: 'error'}, error));
    this.foot.append(el('div', {class: 'actions'},
      text && copyButton(() => this.message.text),
      el('button', {type: 'button', class: 'quiet', onclick: this.onRetry}, error ? 'Try again' : 'Answer again')));
  }
}
