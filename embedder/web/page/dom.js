// Elements without markup in strings: nothing that the service tells can become markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

export function badge(basis) {
  return element("span", { class: `badge ${basis}` }, basis);
}

// Replaces a table's rows: columns are {label, of(row)}, and `of` gives text, an element, or {text, class, figure}.
export function fillTable(table, { caption, columns, rows, foot }) {
  const head = element("tr", {}, ...columns.map(({ label }) => element("th", { scope: "col" }, label)));
  const line = (row) => element("tr", {}, ...columns.map((column, place) => cell(column.of(row), place === 0)));
  table.replaceChildren(
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, head),
    element("tbody", {}, ...rows.map(line)),
    ...(foot ? [element("tfoot", {}, line(foot))] : []),
  );
}

function cell(content, isHead) {
  const tag = isHead ? "th" : "td";
  const scope = isHead ? "row" : undefined;
  if (content instanceof Node || typeof content === "string") return element(tag, { scope }, content);
  const { text, parts = [], ...attributes } = content;
  return element(tag, { scope, ...attributes }, text, ...parts);
}
