// The conversation that is open: questions go out, answers come in, all of it is kept.

import {generate} from './answer.js';
import {apiMessages, newConversation} from './conversation.js';
import {loadSettings, sampling} from './settings.js';
import * as store from './store.js';

const SAVE_EVERY = 1500;  // ms, while an answer grows

export class Chat extends EventTarget {
  // onError(message) for what is not part of the conversation. Events: "change" (messages came or went),
  // "busy", "idle" with detail {message}.
  constructor({transcript, model, onError}) {
    super();
    this.transcript = transcript;
    this.model = model;
    this.onError = onError;
    this.conversation = newConversation();
    this.abort = null;
    this.saved = 0;
  }

  get busy() {
    return this.abort !== null;
  }

  open(conversation) {
    this.stop();
    this.conversation = conversation ?? newConversation();
    store.setCurrent(this.conversation.id);
    this.show();
  }

  show() {
    this.transcript.show(this.conversation);
    this.dispatchEvent(new Event('change'));
  }

  async save(conversation) {
    this.saved = performance.now();
    try {
      await store.save(conversation);
    } catch (error) {
      this.onError(`This conversation cannot be kept in the browser: ${error.message}`);
    }
  }

  ask({text, pictures}) {
    this.push({role: 'user', text, pictures});
    return this.answer();
  }

  push(message) {
    this.conversation.messages.push(message);
    const view = this.transcript.add(message, this.conversation.messages.length - 1);
    this.dispatchEvent(new Event('change'));
    return view;
  }

  // Forgets the message at `index` and all after it; returns it.
  cut(index) {
    this.stop();
    const [message] = this.conversation.messages.splice(index);
    this.show();
    return message;
  }

  async retry(index) {
    this.cut(index);
    await this.answer();
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }

  async answer() {
    const conversation = this.conversation;
    const settings = loadSettings();
    const request = {model: this.model(), messages: apiMessages(conversation, settings.system), ...sampling(settings)};
    const message = {role: 'assistant', text: '', finish: null, stats: null};
    const view = this.push(message);
    const abort = new AbortController();
    this.abort = abort;
    this.dispatchEvent(new Event('busy'));
    store.setCurrent(conversation.id);
    await this.save(conversation);
    let drawn = true;  // the page draws at its own pace, however fast tokens come
    const draw = () => {
      drawn = true;
      view.update();
      this.transcript.follow();
    };
    const onText = (text, stats) => {
      Object.assign(message, {text, stats});
      if (drawn) requestAnimationFrame(draw);
      drawn = false;
      if (performance.now() - this.saved > SAVE_EVERY) this.save(conversation);
    };
    Object.assign(message, await generate(request, {signal: abort.signal, onText}));
    view.end();
    this.transcript.follow();
    if (this.abort === abort) this.abort = null;
    if (conversation.messages.includes(message)) await this.save(conversation);  // else it was taken back
    if (!this.busy) this.dispatchEvent(new CustomEvent('idle', {detail: {message}}));
  }
}
