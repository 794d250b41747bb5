// A picture as the model gets it: laid on its canvas, cut into tiles, the thumbnail beside it.

import {el, svg} from './dom.js';
import {number, plural} from './format.js';

export function summary(picture) {
  const size = `${picture.width} × ${picture.height}`;
  const grid = picture.grid;
  if (!grid) return size;
  return `${size} → ${grid.cols} × ${grid.rows} tile${grid.cols * grid.rows === 1 ? '' : 's'} + thumbnail, `
    + plural(grid.tokens.total, 'token');
}

// Lines between tiles over the canvas, in its own pixels.
function lines({canvas, tile_size: tile, rows, cols}) {
  const inner = [];
  for (let c = 1; c < cols; c += 1) inner.push(`M${c * tile} 0V${canvas.height}`);
  for (let r = 1; r < rows; r += 1) inner.push(`M0 ${r * tile}H${canvas.width}`);
  return inner.join('');
}

function canvasView(picture) {
  const {canvas, placed, kept, patch_size: patch} = picture.grid;
  const seam = lines(picture.grid);
  return svg('svg', {class: 'cut', viewBox: `0 0 ${canvas.width} ${canvas.height}`, role: 'img', 'aria-label': summary(picture)},
    svg('rect', {class: 'padding', width: canvas.width, height: canvas.height}),
    svg('image', {href: picture.url, x: placed.left, y: placed.top, width: placed.width, height: placed.height,
      preserveAspectRatio: 'none'}),
    svg('rect', {class: 'kept', x: kept.left * patch, y: kept.top * patch, width: kept.cols * patch, height: kept.rows * patch}),
    svg('path', {class: 'seam under', d: seam}),
    svg('path', {class: 'seam', d: seam}));
}

function thumbnailView(picture) {
  const side = picture.grid.tile_size;
  return svg('svg', {class: 'cut thumbnail', viewBox: `0 0 ${side} ${side}`, role: 'img', 'aria-label': 'The thumbnail'},
    svg('image', {href: picture.url, width: side, height: side, preserveAspectRatio: 'none'}));
}

function arithmetic({tokens, kept, tile_size: tile, patch_size: patch, canvas}) {
  const side = tile / patch;
  const row = (what, how, count) => el('tr', {}, el('th', {scope: 'row'}, what), el('td', {}, how),
    el('td', {class: 'right'}, number(count)));
  return el('table', {class: 'arithmetic'}, el('caption', {}, 'Tokens'), el('tbody', {},
    row('thumbnail', `${side} × ${side} patches`, tokens.thumbnail),
    row('tiles', `${kept.cols} × ${kept.rows} patches of the ${canvas.width} × ${canvas.height} canvas`, tokens.tiles),
    row('row ends', 'one after each row', tokens.newlines),
    row('together', '', tokens.total)));
}

function openDialog(picture) {
  const close = el('button', {type: 'button', class: 'quiet', onclick: () => dialog.close()}, 'Close');
  const dialog = el('dialog', {class: 'picture', 'aria-label': `How ${picture.name} was cut`},
    el('header', {}, el('h2', {}, picture.name), close),
    el('div', {class: 'views'}, canvasView(picture), thumbnailView(picture)),
    el('p', {class: 'note'}, `${picture.width} × ${picture.height}, resized to ${picture.grid.placed.width} × `
      + `${picture.grid.placed.height} on a canvas of ${picture.grid.rows * picture.grid.cols} tiles of `
      + `${picture.grid.tile_size} pixels. The outline is what is kept after the padding is cut off again.`),
    arithmetic(picture.grid));
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
}

// The picture with its cut drawn over it; opens the whole arithmetic.
export function pictureView(picture) {
  if (!picture.grid) {
    return el('figure', {class: 'picture'}, el('img', {src: picture.url, alt: picture.name}),
      el('figcaption', {}, summary(picture)));
  }
  return el('figure', {class: 'picture'},
    el('button', {type: 'button', class: 'bare', 'aria-label': `${picture.name}: ${summary(picture)}. Show how it was cut`,
      onclick: () => openDialog(picture)}, canvasView(picture)),
    el('figcaption', {}, summary(picture)));
}
