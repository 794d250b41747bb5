// The conversation on the page. Follows the answer's end while the reader is there, and leaves the scroll alone
// once they have gone up.

import {AnswerView, userView} from './message_view.js';

const NEAR = 80;  // pixels from the end that count as there

export class Transcript {
  // actions: {onEdit(index), onRetry(index)}, for the message at that place of the conversation.
  constructor(list, scroller, actions) {
    this.list = list;
    this.scroller = scroller;
    this.actions = actions;
    this.following = true;
    scroller.addEventListener('scroll', () => {
      const left = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
      this.following = left < NEAR;
    }, {passive: true});
  }

  show(conversation) {
    this.list.replaceChildren();
    conversation.messages.forEach((message, index) => {
      const view = this.add(message, index);
      view?.end();
    });
    this.follow(true);
  }

  // The view of an answer, null for a question.
  add(message, index) {
    if (message.role === 'user') {
      this.list.append(userView(message, {onEdit: () => this.actions.onEdit(index)}));
      this.follow(true);
      return null;
    }
    const view = new AnswerView(message, {onRetry: () => this.actions.onRetry(index)});
    this.list.append(view.node);
    this.follow(true);
    return view;
  }

  follow(always = false) {
    if (always) this.following = true;
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
