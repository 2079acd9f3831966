// Everything on the page that is drawn. A chart's words for those who do not see it stand in its aria-label, its numbers in the table below it.

import { byId } from "./dom.js";
import { compact, gramsAxis, plain, seconds, secondsAxis, when } from "./format.js";
import { CARBON_PARTS } from "./tables.js";

const drawn = new Map();
const still = matchMedia("(prefers-reduced-motion: reduce)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["ink", "muted", "line", "surface", "accent", "alone", "joined", "fresh", "bad"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function draw(id, label, option) {
  const host = byId(id);
  host.setAttribute("aria-label", label);
  if (host.hidden || !host.clientWidth) return;
  let chart = drawn.get(id);
  if (!chart) {
    chart = echarts.init(host);
    drawn.set(id, chart);
  }
  chart.resize();
  // A legend that wraps needs room above the drawing.
  if (host.clientWidth < 420 && option.legend.isLong) option.grid = { ...option.grid, top: option.grid.top + 22 };
  chart.setOption(option, { notMerge: true });
}

export function resizeCharts() {
  for (const chart of drawn.values()) chart.resize();
}

function base(ink) {
  const font = getComputedStyle(document.body).fontFamily;
  const axis = {
    axisLine: { lineStyle: { color: ink.line } },
    axisTick: { show: false },
    axisLabel: { color: ink.muted, fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: ink.line } },
    nameTextStyle: { color: ink.muted, fontSize: 11 },
  };
  // The first and the last label stay inside the drawing.
  const across = { ...axis, axisLabel: { ...axis.axisLabel, alignMinLabel: "left", alignMaxLabel: "right" }, splitLine: { show: false } };
  return {
    axis,
    across,
    option: {
      animation: !still.matches,
      animationDuration: 300,
      textStyle: { fontFamily: font, color: ink.ink },
      grid: { left: 8, right: 14, top: 34, bottom: 4, containLabel: true },
      legend: { top: 0, left: 0, icon: "roundRect", itemWidth: 12, itemHeight: 9, itemGap: 14, textStyle: { color: ink.muted, fontSize: 12 } },
      // richText draws the tooltip on the canvas: as HTML it would need inline styles, which the page's policy forbids.
      tooltip: {
        trigger: "axis",
        renderMode: "richText",
        confine: true,
        backgroundColor: ink.surface,
        borderColor: ink.line,
        textStyle: { color: ink.ink, fontSize: 12, fontFamily: font },
        axisPointer: { lineStyle: { color: ink.muted } },
      },
    },
  };
}

export function drawTime({ series, total }) {
  const ink = colours();
  const { axis, across, option } = base(ink);
  const { points, step_s: step } = series;
  const scale = secondsAxis(points.map((point) => Math.max(point.alternative_s, point.shared_s)));
  const legend = { ...option.legend, isLong: true };
  const lines = [
    ["Every task alone (estimated)", "alternative_s", ink.alone, { type: "dashed", width: 2 }, 0.16],
    ["Shared (measured)", "shared_s", ink.accent, { width: 2.5 }, 0.3],
  ];
  draw(
    "chart-time",
    `Device time over time: ${seconds(total.shared.time.value)} on the shared road, ${seconds(total.alternative.time.value)} had every task been alone. The table below has the steps.`,
    {
      ...option,
      legend,
      xAxis: { type: "category", data: points.map((point) => when(point.time, step)), boundaryGap: false, ...across },
      yAxis: { type: "value", ...axis, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: scale.write }, splitNumber: 4 },
      tooltip: { ...option.tooltip, valueFormatter: scale.write },
      series: lines.map(([name, key, color, lineStyle, opacity]) => ({
        name,
        type: "line",
        data: points.map((point) => scale.of(point[key])),
        showSymbol: points.length < 3,
        color,
        lineStyle: { color, ...lineStyle },
        areaStyle: { color, opacity },
      })),
    },
  );
}

export function drawSources({ series }) {
  const ink = colours();
  const { axis, across, option } = base(ink);
  const { points, step_s: step } = series;
  const parts = [
    ["Cache", "cache", ink.accent],
    ["Shared cache", "shared_cache", ink.muted],
    ["In flight", "in_flight", ink.joined],
    ["Computed", "computed", ink.fresh],
    ["Failed", "failed", ink.bad],
  ].filter(([, key]) => ["cache", "computed"].includes(key) || points.some((point) => point[key]));
  const sums = parts.map(([name, key]) => `${name} ${compact(points.reduce((sum, point) => sum + point[key], 0))}`);
  draw("chart-source", `Where vectors came from: ${sums.join(", ")}. The table below has the steps.`, {
    ...option,
    xAxis: { type: "category", data: points.map((point) => when(point.time, step)), ...across },
    yAxis: { type: "value", ...axis, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: compact }, splitNumber: 4, minInterval: 1 },
    tooltip: { ...option.tooltip, axisPointer: { type: "shadow" }, valueFormatter: compact },
    series: parts.map(([name, key, color]) => ({
      name,
      type: "bar",
      stack: "all",
      data: points.map((point) => point[key]),
      color,
      barCategoryGap: "18%",
      barMaxWidth: 26,
      itemStyle: { borderColor: ink.surface, borderWidth: points.length > 30 ? 0 : 0.5 },
    })),
  });
}

export function drawBreakEven({ curve, formula }) {
  const ink = colours();
  const { axis, across, option } = base(ink);
  const even = formula.break_even_tasks;
  const scale = secondsAxis([...curve.alternative_s, ...curve.uncached_s]);
  const zip = (values) => curve.tasks.map((task, place) => [task, scale.of(values[place])]);
  const mark = (at, words, color, position) => ({ xAxis: at, label: { formatter: words, color, position, fontSize: 11 }, lineStyle: { color, type: "solid", width: 1 } });
  const most = curve.tasks[curve.tasks.length - 1];
  const marks = [mark(formula.tasks, `today: ${plain(formula.tasks)}`, ink.ink, formula.tasks > 0.8 * most ? "insideEndTop" : "end")];
  draw(
    "chart-even",
    `Device time for one content by the number of tasks that ask for it. ${even === undefined ? "Sharing never wins at these costs." : `Sharing wins from ${plain(even)} tasks; today there are ${plain(formula.tasks)}.`} The table below has other hit rates.`,
    {
      ...option,
      legend: { ...option.legend, isLong: true },
      grid: { ...option.grid, top: 58, bottom: 20 },
      xAxis: { type: "value", name: "tasks for each content", nameLocation: "middle", nameGap: 24, max: most, ...across, axisLabel: { ...across.axisLabel, formatter: plain } },
      yAxis: { type: "value", ...axis, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: scale.write }, splitNumber: 4 },
      tooltip: { ...option.tooltip, valueFormatter: scale.write, axisPointer: { ...option.tooltip.axisPointer, label: { formatter: ({ value }) => `${plain(value)} tasks` } } },
      series: [
        { name: "Every task alone", type: "line", showSymbol: false, data: zip(curve.alternative_s), color: ink.alone, lineStyle: { type: "dashed", width: 2 } },
        { name: "Shared, nothing cached", type: "line", showSymbol: false, data: zip(curve.uncached_s), color: ink.fresh, lineStyle: { width: 1.5 } },
        {
          name: "Shared, today’s hit rate",
          type: "line",
          showSymbol: false,
          data: zip(curve.shared_s),
          color: ink.accent,
          lineStyle: { width: 2.5 },
          markLine: { silent: true, symbol: "none", animation: false, data: marks },
        },
      ],
    },
  );
}

export function drawCarbon({ total }) {
  const ink = colours();
  const { axis, across, option } = base(ink);
  const value = (road, part) => total[road][part]?.value ?? 0;
  const scale = gramsAxis(CARBON_PARTS.map(([, road]) => value(road, "operational_carbon") + value(road, "embodied_carbon")));
  const weigh = (grams) => scale.write(scale.of(grams));
  const rows = [...CARBON_PARTS].reverse();
  const parts = [["Of the energy", "operational_carbon", ink.accent], ["Of the making", "embodied_carbon", ink.fresh]];
  const words = CARBON_PARTS.map(([name, road]) => `${name}: ${weigh(value(road, "operational_carbon"))} of the energy, ${weigh(value(road, "embodied_carbon"))} of the making`);
  draw("chart-carbon", `Carbon by part. ${words.join("; ")}.`, {
    ...option,
    xAxis: { type: "value", ...axis, axisLabel: { ...across.axisLabel, formatter: (grams) => scale.write(grams).replace(" CO₂e", "") }, splitNumber: 4 },
    yAxis: { type: "category", data: rows.map(([name]) => name), ...axis, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, color: ink.ink, fontSize: 12 } },
    tooltip: { ...option.tooltip, axisPointer: { type: "shadow" }, valueFormatter: scale.write },
    series: parts.map(([name, part, color]) => ({ name, type: "bar", stack: "all", barMaxWidth: 26, color, data: rows.map(([, road]) => scale.of(value(road, part))) })),
  });
}

export function drawTimes({ times }) {
  const ink = colours();
  const { axis, across, option } = base(ink);
  const rows = times.filter((row) => row.count).reverse();
  const marks = [["Half within", "p50_s", ink.accent, "circle", 13], ["95% within", "p95_s", ink.fresh, "diamond", 13], ["99% within", "p99_s", ink.alone, "rect", 10]];
  const words = rows.map((row) => `${row.part}: half within ${seconds(row.p50_s)}, 99% within ${seconds(row.p99_s)}`);
  draw("chart-times", `Where a call’s time goes. ${words.join("; ")}.`, {
    ...option,
    xAxis: { type: "log", ...axis, axisLabel: { ...across.axisLabel, formatter: seconds } },
    yAxis: { type: "category", data: rows.map((row) => row.part), ...axis, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, color: ink.ink, fontSize: 12 }, splitLine: { show: true, lineStyle: { color: ink.line } } },
    tooltip: { ...option.tooltip, trigger: "item", formatter: ({ seriesName, name, value }) => `${name}: ${seriesName.toLowerCase()} ${seconds(value[0])}` },
    series: marks.map(([name, key, color, symbol, symbolSize]) => ({ name, type: "scatter", symbol, symbolSize, color, data: rows.map((row) => [row[key], row.part]) })),
  });
}

