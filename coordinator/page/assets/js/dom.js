// Elements from plain values. Strings only ever become text nodes and attributes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// el('button', {class: 'quiet', onclick: f}, 'Copy'): attributes by name, listeners as on<event>.
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// The bolt, the page's only ornament.
export function bolt(name = 'bolt') {
  return svg('svg', {class: name, viewBox: '0 0 24 24', 'aria-hidden': 'true'},
    svg('path', {d: 'M13.6 1.5 4.2 13.4h6.1l-1.5 9.1 10-12.6h-6.4z'}));
}
