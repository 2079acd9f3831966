// Numbers into words that people read at a glance; three significant digits, and the exact value beside them for who asks.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function significant(value, digits = 3) {
  return new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
}

function scaled(value, units, zero) {
  if (!value) return `0 ${zero}`;
  const size = Math.abs(value);
  const [factor, unit] = units.find(([from]) => size >= from) ?? units[units.length - 1];
  return `${significant(value / factor)} ${unit}`;
}

export const count = (value) => grouped.format(value);

export const compact = (value) =>
  Math.abs(value) < 100_000 ? grouped.format(value) : new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);

export const plain = (value) => significant(value);

export const percent = (share, digits = 1) =>
  new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(share);

// From twice a unit on: "90 min" says more than "1.5 h".
const TIMES = [[86_400, "d", 2], [3_600, "h", 2], [60, "min", 2], [1, "s", 1], [1e-3, "ms", 1], [1e-6, "µs", 1]];

export function seconds(value) {
  if (!value) return "0 s";
  const [factor, unit] = TIMES.find(([size, , from]) => Math.abs(value) >= size * from) ?? TIMES[TIMES.length - 1];
  return `${significant(value / factor)} ${unit}`;
}

const joules = (value) => scaled(value, [[3.6e6, "kWh"], [3_600, "Wh"], [1, "J"], [1e-3, "mJ"]], "J");

const grams = (value) => scaled(value, [[1e6, "t CO₂e"], [1e3, "kg CO₂e"], [1, "g CO₂e"], [1e-3, "mg CO₂e"], [1e-6, "µg CO₂e"]], "g CO₂e");

function dollars(value) {
  const size = Math.abs(value);
  if (size && size < 0.01) return `${value < 0 ? "−" : ""}$${significant(size, 2)}`;
  return new Intl.NumberFormat("en", { style: "currency", currency: "USD" }).format(value);
}

const byUnit = { s: seconds, J: joules, USD: dollars, gCO2e: grams };

export const amount = (figure) => (byUnit[figure.unit] ?? ((value) => `${plain(value)} ${figure.unit}`))(figure.value);

export const bytes = (value) => scaled(value, [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]], "B");

export function when(unix, stepSeconds) {
  const date = new Date(unix * 1000);
  const options = stepSeconds >= 86_400 ? { month: "short", day: "numeric" } : stepSeconds >= 3_600 ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat("en", { ...options, hour12: false }).format(date);
}

export const basisOf = (figure) => (figure?.basis ?? "").replace("BASIS_", "").toLowerCase();
