// Watches whether the server can generate, and says so where it cannot.

import {readiness} from './api.js';

const WELL = 3000;    // ms between looks
const UNWELL = 1000;

export class Health extends EventTarget {
  // banner: {show(title, text), hide()}. Event "back": the server is ready again.
  constructor(status, banner) {
    super();
    this.status = status;
    this.banner = banner;
    this.ready = null;
    this.timer = 0;
    document.addEventListener('visibilitychange', () => this.look());
  }

  async look() {
    clearTimeout(this.timer);
    if (document.visibilityState === 'hidden') return;
    const state = await readiness();
    if (state.ready) this.well();
    else this.unwell(state);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), state.ready ? WELL : UNWELL);
  }

  say(state, words) {
    if (this.status.textContent === words) return;  // screen readers hear changes only
    this.status.textContent = words;
    this.status.dataset.state = state;
  }

  well() {
    this.banner.hide();
    this.say('good', 'ready');
    if (this.ready === false) this.dispatchEvent(new Event('back'));
    this.ready = true;
  }

  unwell({reachable, message}) {
    this.ready = false;
    this.say(reachable ? 'waits' : 'lost', reachable ? 'not ready' : 'out of reach');
    const text = message.replace(/^not ready: /, '');
    this.banner.show(reachable ? 'The server cannot answer now' : 'The server cannot be reached',
      reachable ? text : 'Trying again every second.');
  }
}
