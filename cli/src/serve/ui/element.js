// Elements. Texts become text nodes: nothing here reads a text as markup.

/** An element with attributes, listeners (`onclick`) and children. */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for drawings. */
export function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

export const byId = (id) => document.getElementById(id);

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A probability for people. */
export function percent(value) {
  if (value >= 0.9995 || value < 0.0005) return `${Math.round(value * 100)} %`;
  return `${(value * 100).toFixed(value < 0.1 || value > 0.99 ? 1 : 0)} %`;
}

/** Calls a function once a picture is drawn next, however often it is asked. */
export function onceAFrame(draw) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      draw();
    });
  };
}

/** A bar with its name and number; `mark` is a threshold on it. */
export function bar(name, value, { kind = "", mark = null, label = percent(value), part = value } = {}) {
  const fillBar = element("span", { class: `bar-fill ${kind}` });
  fillBar.style.width = `${Math.max(0, Math.min(1, part)) * 100}%`;
  const track = element("span", { class: "bar-track", "aria-hidden": "true" }, fillBar);
  if (mark !== null) {
    const tick = element("span", { class: "bar-mark", title: `counts from ${percent(mark)} on` });
    tick.style.left = `${mark * 100}%`;
    track.append(tick);
  }
  return element("li", { class: "bar" }, element("span", { class: "bar-name" }, name), track, element("span", { class: "bar-value" }, label));
}
