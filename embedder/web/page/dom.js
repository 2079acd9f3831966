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

// Roles are said outright, since a table that is laid out as blocks on a phone loses its own.
// Replaces a table's rows: columns are {label, of(row)}, and `of` gives text, an element, or {text, class, figure}.
export function fillTable(table, { caption, columns, rows, foot }) {
  const head = element("tr", { role: "row" }, ...columns.map(({ label }) => (label ? element("th", { scope: "col", role: "columnheader" }, label) : element("td", { role: "cell" }))));
  const line = (row) => element("tr", { role: "row" }, ...columns.map((column, place) => cell(column.of(row), place === 0)));
  table.replaceChildren(
    element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, head),
    element("tbody", { role: "rowgroup" }, ...rows.map(line)),
    ...(foot ? [element("tfoot", { role: "rowgroup" }, line(foot))] : []),
  );
}

function cell(content, isHead) {
  const tag = isHead ? "th" : "td";
  const own = isHead ? { scope: "row", role: "rowheader" } : { role: "cell" };
  if (content instanceof Node || typeof content === "string") return element(tag, own, content);
  const { text, parts = [], ...attributes } = content;
  return element(tag, { ...own, ...attributes }, text, ...parts);
}
