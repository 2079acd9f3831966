// Everything on the page that is words and rows.

import { badge, byId, element, fillTable } from "./dom.js";
import { amount, basisOf, bytes, compact, count, figuresLike, percent, plain, seconds, secondsLike, when } from "./format.js";

const QUANTITIES = [
  ["time", "Time", "device, look-ups and heads"],
  ["energy", "Energy", "above idle; at rest beside it"],
  ["money", "Money", "price of the device and the disk"],
  ["carbon", "Carbon", "of the energy, and of the making"],
];
const SOURCES = [
  ["cache", "Cache"],
  ["shared_cache", "Shared cache"],
  ["in_flight", "In flight"],
  ["computed", "Computed"],
  ["failed", "Failed"],
];

export const shareSaved = (row) => {
  const alone = row.alternative?.time?.value ?? 0;
  return alone ? row.saved.time.value / alone : null;
};

const hitsOf = (row) => Number(row.cache_hits) + Number(row.shared_cache_hits) + Number(row.in_flight_hits);

// A figure in a table: its amount, and below it what it is. A test reads `data-value`.
function figureCell(figure, name, { write = amount, label, isSaved = false } = {}) {
  if (!figure) return { text: "not known", class: "unknown", "data-label": label };
  const tone = isSaved ? (figure.value < 0 ? "saved loss" : "saved") : "";
  return {
    text: write(figure),
    parts: [badge(basisOf(figure))],
    class: tone,
    title: `${figure.value} ${figure.unit}: ${figure.source}`,
    "data-label": label,
    "data-figure": name,
    "data-value": figure.value,
  };
}

export function showClaim(told) {
  const { total } = told;
  const share = shareSaved(total);
  const big = document.querySelector(".big");
  const isLoss = share !== null && share < 0;
  big.textContent = share === null ? "–" : percent(Math.abs(share), Math.abs(share) >= 0.9995 ? 2 : 1);
  big.classList.toggle("loss", isLoss);
  big.dataset.value = share ?? "";
  byId("claim-words").textContent = isLoss
    ? "more device time than every task alone would have taken"
    : "of the device time saved by understanding content once";
  byId("sentence").replaceChildren(
    "Tasks asked ",
    element("b", {}, count(Number(total.contents_asked))),
    Number(total.contents_asked) === 1 ? " time" : " times",
    " for ",
    element("b", {}, count(total.contents_unique.value)),
    " different contents; ",
    element("b", {}, count(Number(total.encodes))),
    " were computed. That took ",
    element("b", {}, seconds(total.shared.time.value)),
    " ",
    badge(basisOf(total.shared.time)),
    " instead of ",
    element("b", {}, seconds(total.alternative.time.value)),
    " ",
    badge(basisOf(total.alternative.time)),
    ".",
  );
  const most = Math.max(total.shared.time.value, total.alternative.time.value) || 1;
  for (const [road, id] of [["shared", "bar-shared"], ["alternative", "bar-alone"]]) {
    const { value } = total[road].time;
    byId(id).style.width = `${(100 * value) / most}%`;
    byId(`${id}-value`).textContent = seconds(value);
  }
}

export function showFacts({ total }) {
  const asked = Number(total.contents_asked);
  const encodes = Number(total.encodes);
  const measured = (value) => ({ value, basis: "BASIS_MEASURED" });
  const facts = [
    ["Asked for", "contents_asked", compact(asked), measured(asked)],
    ["Computed", "encodes", compact(encodes), measured(encodes)],
    ["Asks that cost no encode", "hit_rate", asked ? percent(hitsOf(total) / asked) : "–", measured(asked ? hitsOf(total) / asked : 0)],
    ["Answers for each encode", "answers_per_encode", encodes ? plain(asked / encodes) : "–", measured(encodes ? asked / encodes : 0)],
    ["Energy saved", "saved.energy", total.saved.energy && amount(total.saved.energy), total.saved.energy, "no meter or power model"],
    ["Money saved", "saved.money", total.saved.money && amount(total.saved.money), total.saved.money, "no price is set"],
    ["Carbon saved", "saved.carbon", total.saved.carbon && amount(total.saved.carbon), total.saved.carbon, "no region is set"],
    ["Carbon for one answer", "sci", total.sci && amount(total.sci), total.sci, "no region is set"],
  ];
  byId("facts").replaceChildren(
    ...facts.map(([label, name, text, figure, unknown]) =>
      element(
        "div",
        {},
        element("dt", {}, label),
        figure
          ? element("dd", { "data-figure": name, "data-value": figure.value, title: figure.source }, text)
          : element("dd", { class: "unknown" }, `not known: ${unknown}`),
        figure ? element("dd", { class: `badge ${basisOf(figure)}` }, basisOf(figure)) : undefined,
      ),
    ),
  );
}

const ROADS = [
  ["Shared road", "shared"],
  ["Held meanwhile", "overhead"],
  ["Every task alone", "alternative"],
  ["Saved", "saved"],
];

export function showRoads({ total }) {
  const cell = (road, key, label) => {
    const write = figuresLike(ROADS.map(([, each]) => total[each][key]));
    return figureCell(total[road][key], `${road}.${key}`, { write: ({ value }) => write(value), label, isSaved: road === "saved" });
  };
  fillTable(byId("table-roads"), {
    caption: "Time, energy, money and carbon of both roads",
    columns: [
      { label: "", of: ([, label, hint]) => ({ text: label, parts: [element("span", { class: "what" }, hint)] }) },
      ...ROADS.map(([label, road]) => ({ label, of: ([key]) => cell(road, key, label) })),
    ],
    rows: QUANTITIES,
  });
}

export function showGroups(id, caption, rows, total) {
  const largest = Math.max(...rows.map((row) => row.saved.time.value), 0) || 1;
  const write = secondsLike(rows.map((row) => row.saved.time.value));
  const saved = (row) => {
    const share = shareSaved(row);
    const bar = element("span", { class: "share", "aria-hidden": "true" }, element("span"));
    bar.firstChild.style.width = `${(100 * Math.max(0, row.saved.time.value)) / largest}%`;
    return {
      text: write(row.saved.time.value),
      parts: row === total ? [] : [bar],
      class: row.saved.time.value < 0 ? "saved loss" : "saved",
      title: share === null ? undefined : `${percent(share)} of what it would have cost alone`,
      "data-figure": `${id}:${row.group}`,
      "data-value": row.saved.time.value,
    };
  };
  const hits = (row) => (Number(row.contents_asked) ? percent(hitsOf(row) / Number(row.contents_asked)) : "–");
  fillTable(byId(id), {
    caption,
    columns: [
      { label: "", of: (row) => (row === total ? "Total" : row.group || "(vectors alone)") },
      { label: "Saved (estimated)", of: saved },
      { label: "Asked", of: (row) => count(Number(row.contents_asked)) },
      { label: "Hits", of: hits },
      { label: "Computed", of: (row) => count(Number(row.encodes)) },
    ],
    rows,
    foot: total,
  });
}

export function showSeries({ series }) {
  const at = { label: "From", of: (point) => when(point.time, series.step_s) };
  fillTable(byId("table-time"), {
    caption: "Device time by step of time",
    columns: [
      at,
      { label: "Shared (measured)", of: (point) => seconds(point.shared_s) },
      { label: "Alone (estimated)", of: (point) => seconds(point.alternative_s) },
      { label: "Saved (estimated)", of: (point) => seconds(point.alternative_s - point.shared_s) },
    ],
    rows: series.points,
  });
  fillTable(byId("table-source"), {
    caption: "Contents by source and step of time, measured",
    columns: [at, ...SOURCES.map(([key, label]) => ({ label, of: (point) => count(point[key]) }))],
    rows: series.points,
  });
}

export function showHitRate({ total }) {
  const asked = Number(total.contents_asked);
  byId("hit-rate-words").replaceChildren(
    `${percent(asked ? hitsOf(total) / asked : 0)} needed no computation of their own: held by the cache, or being computed already. `,
    badge("measured"),
  );
}

export function showBreakEven({ formula, sensitivity }) {
  const even = formula.break_even_tasks;
  const uncached = formula.break_even_tasks_uncached;
  byId("even-words").replaceChildren(
    even === undefined
      ? "At these costs sharing does not win with any number of tasks. "
      : `Sharing wins from ${even <= 1 ? "the first task on" : `${plain(even)} tasks a content on`} at today’s hit rate (${percent(formula.hit_rate)} of the look-ups), ` +
          `from ${plain(uncached)} ${uncached === 1 ? "task" : "tasks"} for each content if nothing were cached. Today there are ${plain(formula.tasks)}. `,
    badge("estimated"),
  );
  const rates = [...new Set(sensitivity.map((point) => point.hit_rate))];
  const tasks = [...new Set(sensitivity.map((point) => point.tasks))];
  const at = new Map(sensitivity.map((point) => [`${point.hit_rate}/${point.tasks}`, point.saved_share]));
  fillTable(byId("table-even"), {
    caption: "Share saved, by hit rate and tasks for each content, estimated",
    columns: [
      { label: "Hit rate", of: (rate) => percent(rate, 0) },
      ...tasks.map((task) => ({
        label: task === 1 ? "1 task" : `${task} tasks`,
        of: (rate) => {
          const share = at.get(`${rate}/${task}`);
          return { text: percent(share, 0), class: share < 0 ? "loss" : "" };
        },
      })),
    ],
    rows: rates,
  });
}

export const CARBON_PARTS = [
  ["Shared road", "shared"],
  ["Held meanwhile", "overhead"],
  ["Every task alone", "alternative"],
];

export function showCarbon({ total }) {
  const known = CARBON_PARTS.some(([, road]) => total[road].operational_carbon || total[road].embodied_carbon);
  const { energy } = total.alternative;
  byId("carbon-words").textContent = known
    ? "Of the energy used, and of the making of the device over the time it worked. Totals, so that more use shows as more carbon."
    : `Not known${energy ? "" : ", and neither is the energy"}: name a region and a device in the savings file (--savings-file).`;
  byId("chart-carbon").hidden = !known;
  byId("carbon-details").hidden = !known;
  fillTable(byId("table-carbon"), {
    caption: "Carbon by part",
    columns: [
      { label: "", of: ([label]) => label },
      { label: "Of the energy", of: ([, road]) => figureCell(total[road].operational_carbon, `${road}.operational`) },
      { label: "Of the making", of: ([, road]) => figureCell(total[road].embodied_carbon, `${road}.embodied`) },
      { label: "Both", of: ([, road]) => figureCell(total[road].carbon, `${road}.carbon.sum`) },
    ],
    rows: CARBON_PARTS,
  });
}

export function showTimes({ times }) {
  const of = (key) => (row) => (row[key] === null ? "–" : seconds(row[key]));
  fillTable(byId("table-times"), {
    caption: "Where a call’s time goes, estimated from buckets of measured times",
    columns: [
      { label: "Part", of: (row) => row.part },
      { label: "Times", of: (row) => count(row.count) },
      { label: "Half within", of: of("p50_s") },
      { label: "95% within", of: of("p95_s") },
      { label: "99% within", of: of("p99_s") },
    ],
    rows: times,
  });
}

export function showKnowledge({ total, formula, notes, assumptions, rates, unclean_stops: stops }) {
  const agrees = formula.difference <= 0.001;
  byId("agreement").textContent =
    `The ledger’s sums give ${seconds(formula.ledger_saved_s)} saved, the formula ${seconds(formula.formula_saved_s)}: ` +
    (agrees ? "they agree within 0.1%." : `they differ by ${percent(formula.difference, 2)}, and the smaller counts.`);
  const name = (text) => text.padEnd(12);
  byId("formula").textContent = [
    `shared = contents × [(1 − h) × C_encode + C_lookup]`,
    `         + Σ heads asked × C_head`,
    `alone  = Σ heads asked × C_special`,
    ``,
    `${name("contents")}${count(Number(formula.contents))}`,
    `${name("h")}${percent(formula.hit_rate, 2)}`,
    `${name("C_encode")}${seconds(formula.encode_time.value)}`,
    `${name("C_lookup")}${seconds(formula.lookup_time.value)}`,
    `${name("shared")}${seconds(formula.shared_s)}`,
    `${name("alone")}${seconds(formula.alternative_s)}`,
    `${name("saved")}${seconds(formula.saved_s)}`,
  ].join("\n");
  const killed = (stops ?? []).length;
  const told = killed ? [...notes, `${killed} run${killed > 1 ? "s" : ""} of the service ended without a word: at most one second of counts each was lost.`] : notes;
  byId("notes").replaceChildren(...told.map((note) => element("p", {}, capital(note))));
  const sources = Object.entries(rates).map(([rate, figure]) =>
    element("li", {}, `${rate.replaceAll("_", " ")}: ${plain(figure.value)} ${figure.unit === "1" ? "" : figure.unit}, `, badge(basisOf(figure)), ` ${figure.source}`),
  );
  byId("assumptions").replaceChildren(...assumptions.map((line) => element("li", {}, capital(line))), ...sources);
}

export function showService({ service, span, start_time: start, end_time: end }) {
  byId("space").textContent = `${service.space} · ${service.model} · ${service.numerics} · ${service.device}`;
  const range = start ? `${minute(start)} to ${minute(end)} UTC, ` : "";
  byId("foot").textContent =
    `Counted from ${range}${service.heads} head${service.heads === 1 ? "" : "s"}, ${count(service.cache.entries)} vectors in ` +
    `${bytes(service.cache.bytes)} of ${bytes(service.cache.limit_bytes)}. Read ${new Date(service.now * 1000).toISOString().slice(11, 19)} UTC. ` +
    "The same figures: embedder-report.";
  document.documentElement.dataset.span = span.name;
}

const minute = (iso) => iso.slice(0, 16).replace("T", " ");

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
