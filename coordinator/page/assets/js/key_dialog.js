// Asks for the server's API key. It is kept for this tab only.

import {byId} from './dom.js';

// Resolves to the key, or to null when the visitor closes the dialog.
export function askForKey(wrong) {
  const dialog = byId('key-dialog');
  const input = byId('key-input');
  byId('key-wrong').hidden = !wrong;
  input.value = '';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'use' && input.value.trim() ? input.value.trim() : null);
    }, {once: true});
  });
}
