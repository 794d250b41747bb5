// Where a question is made: text, and pictures by file, paste or drag.

import {el} from './dom.js';
import {ACCEPT, readPicture} from './picture.js';
import {summary} from './picture_view.js';

export class Composer {
  // onSend({text, pictures}), onStop(), onError(message).
  constructor(form, {onSend, onStop, onError}) {
    this.form = form;
    this.text = form.querySelector('textarea');
    this.file = form.querySelector('input[type=file]');
    this.tray = form.querySelector('.tray');
    this.send = form.querySelector('.send');
    this.stop = form.querySelector('.stop');
    this.attach = form.querySelector('.attach');
    this.pictures = [];
    this.busy = false;
    this.reading = 0;
    this.onSend = onSend;
    this.onError = onError;
    this.file.accept = ACCEPT;
    form.addEventListener('submit', (event) => { event.preventDefault(); this.submit(); });
    this.stop.addEventListener('click', onStop);
    this.attach.addEventListener('click', () => this.file.click());
    this.file.addEventListener('change', () => { this.take([...this.file.files]); this.file.value = ''; });
    this.text.addEventListener('input', () => this.refresh());
    this.text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.text.addEventListener('paste', (event) => {
      const files = [...event.clipboardData.files];
      if (files.length === 0) return;
      event.preventDefault();
      this.take(files);
    });
    this.listenForDrops();
    this.refresh();
  }

  listenForDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
    const mark = (on) => document.body.classList.toggle('dropping', on);
    window.addEventListener('dragover', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(true);
    });
    window.addEventListener('dragleave', (event) => { if (event.relatedTarget === null) mark(false); });
    window.addEventListener('drop', (event) => {
      mark(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.take([...event.dataTransfer.files]);
    });
  }

  // A model without eyes gets no pictures.
  allowPictures(allowed) {
    this.sees = allowed;
    this.attach.hidden = !allowed;
  }

  async take(files) {
    if (this.sees === false) {
      this.onError('This model sees no pictures.');
      return;
    }
    this.reading += 1;
    this.refresh();
    for (const file of files) {
      try {
        this.pictures.push(await readPicture(file));
        this.showTray();
      } catch (error) {
        this.onError(error.message);
      }
    }
    this.reading -= 1;
    this.refresh();
  }

  showTray() {
    this.tray.replaceChildren(...this.pictures.map((picture) => el('li', {},
      el('img', {src: picture.url, alt: ''}),
      el('span', {}, el('b', {}, picture.name), summary(picture)),
      el('button', {type: 'button', class: 'quiet', 'aria-label': `Remove ${picture.name}`, onclick: () => {
        this.pictures = this.pictures.filter((other) => other !== picture);
        this.showTray();
        this.refresh();
        this.text.focus();
      }}, 'Remove'))));
    this.tray.hidden = this.pictures.length === 0;
  }

  refresh() {
    this.text.style.height = 'auto';
    this.text.style.height = `${Math.min(this.text.scrollHeight, 240)}px`;
    const something = this.text.value.trim() !== '' || this.pictures.length > 0;
    this.send.disabled = !something || this.reading > 0;
    this.send.hidden = this.busy;
    this.stop.hidden = !this.busy;
  }

  setBusy(busy) {
    this.busy = busy;
    this.refresh();
  }

  fill(text, pictures) {
    this.text.value = text;
    this.pictures = [...pictures];
    this.showTray();
    this.refresh();
    this.text.focus();
  }

  submit() {
    if (this.busy || this.send.disabled) return;
    const message = {text: this.text.value.trim(), pictures: this.pictures};
    this.fill('', []);
    this.onSend(message);
  }
}
