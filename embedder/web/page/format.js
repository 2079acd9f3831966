// Numbers into words that people read at a glance; three significant digits, and the exact value beside them for who asks.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function significant(value, digits = 3) {
  return new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
}

// Units from the largest on: [how much one is, its name, from how many of it on it is used].
const SECONDS = [[86_400, "d", 2], [3_600, "h", 2], [60, "min", 2], [1, "s", 1], [1e-3, "ms", 1], [1e-6, "µs", 0]];
const JOULES = [[3.6e6, "kWh", 1], [3_600, "Wh", 1], [1, "J", 1], [1e-3, "mJ", 0]];
const GRAMS = [[1e6, "t CO₂e", 1], [1e3, "kg CO₂e", 1], [1, "g CO₂e", 1], [1e-3, "mg CO₂e", 1], [1e-6, "µg CO₂e", 0]];
const DOLLARS = [[1, "$", 1], [1e-2, "¢", 0]];
const BYTES = [[2 ** 40, "TiB", 1], [2 ** 30, "GiB", 1], [2 ** 20, "MiB", 1], [2 ** 10, "KiB", 1], [1, "B", 0]];
const BY_UNIT = { s: SECONDS, J: JOULES, USD: DOLLARS, gCO2e: GRAMS };

const unitFor = (units, size) => units.find(([one, , from]) => size >= one * from) ?? units[units.length - 1];

function inUnit(value, [one, name]) {
  if (name === "$" && value && Math.abs(value) < 0.005) return value < 0 ? "> −$0.01" : "< $0.01";
  if (name === "$") return new Intl.NumberFormat("en", { style: "currency", currency: "USD" }).format(value);
  const amount = value / one;
  // Beside a sum, a hundredth of its unit is nothing; the exact value stands in the cell's title.
  if (amount && Math.abs(amount) < 0.001) return amount < 0 ? `> −0.001 ${name}` : `< 0.001 ${name}`;
  return `${significant(amount)} ${name}`;
}

export const count = (value) => grouped.format(value);

export const compact = (value) =>
  Math.abs(value) < 100_000 ? grouped.format(value) : new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);

export const plain = (value) => significant(value);

export const percent = (share, digits = 1) =>
  new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(share);

// Returns what writes values in one unit: that of the largest of them, so that they can be compared.
function alike(units, values) {
  const unit = unitFor(units, Math.max(...values.map(Math.abs), 0));
  return (value) => inUnit(value, unit);
}

export const secondsLike = (values) => alike(SECONDS, values);

// An axis in one unit, on which round numbers are round: `of` puts a value on it, `write` writes one that is on it.
function axisIn(units, values) {
  const [one, name] = unitFor(units, Math.max(...values.map(Math.abs), 0));
  return { of: (value) => value / one, write: (value) => `${significant(value)} ${name}` };
}

export const secondsAxis = (values) => axisIn(SECONDS, values);
export const gramsAxis = (values) => axisIn(GRAMS, values);

export function figuresLike(figures) {
  const known = figures.filter(Boolean);
  const units = BY_UNIT[known[0]?.unit];
  return alike(units ?? [[1, known[0]?.unit ?? "", 0]], known.map((figure) => figure.value));
}

export const seconds = (value) => inUnit(value, value ? unitFor(SECONDS, Math.abs(value)) : SECONDS[3]);

export const amount = (figure) => figuresLike([figure])(figure.value);

export const bytes = (value) => inUnit(value, unitFor(BYTES, value));

export function when(unix, stepSeconds) {
  const date = new Date(unix * 1000);
  const options = stepSeconds >= 86_400 ? { month: "short", day: "numeric" } : stepSeconds >= 3_600 ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat("en", { ...options, hour12: false }).format(date);
}

export const basisOf = (figure) => (figure?.basis ?? "").replace("BASIS_", "").toLowerCase();
