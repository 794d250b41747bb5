// Files to pictures of a message: {name, type, size, width, height, url, grid}. `url` is a data URL, as the API
// wants it; `grid` says how the server cuts it (null where it could not be asked).

import {callJson} from './api.js';
import {bytes} from './format.js';

const TYPES = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];
const MAX_BYTES = 32 * 2 ** 20;  // the server's own limit
export const ACCEPT = TYPES.join(',');

function readUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

// Upright: the browser applies the rotation that the file asks for, as the server does.
async function measure(url, name) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw new Error(`${name} is no picture that can be shown: it is damaged, or of another kind than its name says.`);
  }
  return {width: image.naturalWidth, height: image.naturalHeight};
}

export async function gridOf(width, height) {
  return callJson(`v1/picture_grid?width=${width}&height=${height}`);
}

// Throws an Error whose message is for the visitor.
export async function readPicture(file) {
  const name = file.name || 'picture';
  if (!TYPES.includes(file.type)) {
    throw new Error(`${name} is ${file.type || 'of no known kind'}: pictures are PNG, JPEG, WebP or GIF.`);
  }
  if (file.size > MAX_BYTES) {
    throw new Error(`${name} has ${bytes(file.size)}: a picture may have at most ${bytes(MAX_BYTES)}.`);
  }
  const url = await readUrl(file);
  const size = await measure(url, name);
  const grid = await gridOf(size.width, size.height);
  return {name, type: file.type, size: file.size, ...size, url, grid};
}
