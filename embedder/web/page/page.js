// Asks the service for its figures every few seconds, and shows them.

import * as charts from "./charts.js";
import { byId } from "./dom.js";
import * as tables from "./tables.js";

const INTERVAL_MS = 5_000;
const THEMES = ["auto", "light", "dark"];

const state = { span: "all", live: true, token: remembered("embedder-token", sessionStorage), told: null, timer: 0, asked: 0 };

function remembered(key, storage) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, value, storage) {
  try {
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch {
    // Storage may be refused; then it is forgotten with the page.
  }
}

async function update() {
  clearTimeout(state.timer);
  const mine = ++state.asked;
  try {
    const headers = state.token ? { authorization: `Bearer ${state.token}` } : {};
    const answer = await fetch(`/api/savings?span=${state.span}`, { headers, cache: "no-store" });
    if (mine !== state.asked) return; // another span was chosen meanwhile
    if (answer.status === 401) {
      askForToken();
      return;
    }
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    state.told = told;
    say("");
    show();
  } catch (error) {
    if (mine !== state.asked) return;
    say(error instanceof TypeError ? "The service can’t be reached; trying again." : `The service says: ${error.message}.`);
  }
  if (state.live && !document.hidden) state.timer = setTimeout(update, INTERVAL_MS);
}

function say(words) {
  if (byId("status").textContent !== words) byId("status").textContent = words;
}

function show() {
  const { told } = state;
  const isEmpty = !Number(told.total.contents_asked) && !Number(told.total.encodes);
  byId("token").hidden = true;
  byId("empty").hidden = !isEmpty;
  byId("content").hidden = isEmpty;
  tables.showService(told);
  if (isEmpty) {
    const isAll = told.span.name === "all";
    byId("empty-title").textContent = isAll ? "Nothing was asked for yet" : "Nothing was asked for in this span of time";
    byId("empty-words").textContent = isAll
      ? "The service is ready. As soon as a task asks for a content, this page shows what understanding it once saves."
      : "Choose a longer span to see what was saved before.";
    byId("empty").querySelector("pre").hidden = !isAll;
    if (told.service.target) byId("empty-target").textContent = told.service.target;
  } else {
    showFigures(told);
  }
  document.documentElement.dataset.ready = String(state.asked);
}

function showFigures(told) {
  tables.showClaim(told);
  tables.showFacts(told);
  tables.showHitRate(told);
  tables.showSeries(told);
  tables.showRoads(told);
  tables.showGroups("table-task", "Savings by task", told.rows, told.total);
  tables.showGroups("table-tenant", "Savings by tenant", told.by_tenant, told.total);
  tables.showBreakEven(told);
  tables.showCarbon(told);
  tables.showTimes(told);
  tables.showKnowledge(told);
  drawAll();
}

function drawAll() {
  if (!state.told || byId("content").hidden) return;
  charts.drawTime(state.told);
  charts.drawSources(state.told);
  charts.drawBreakEven(state.told);
  charts.drawCarbon(state.told);
  charts.drawTimes(state.told);
}

function askForToken() {
  const wasGiven = Boolean(state.token);
  state.token = null;
  remember("embedder-token", null, sessionStorage);
  byId("content").hidden = true;
  byId("empty").hidden = true;
  byId("token").hidden = false;
  say(wasGiven ? "That token is not the service’s." : "");
  byId("token-value").focus();
}

function setLive(live) {
  state.live = live;
  byId("live").setAttribute("aria-pressed", String(live));
  if (live) update();
  else clearTimeout(state.timer);
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  remember("embedder-theme", theme === "auto" ? null : theme, localStorage);
  byId("theme").textContent = `Colours: ${theme}`;
  drawAll();
}

byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = byId("token-value").value;
  remember("embedder-token", state.token, sessionStorage);
  byId("token-value").value = "";
  update();
});
for (const choice of document.querySelectorAll("input[name=span]")) {
  choice.addEventListener("change", () => {
    state.span = choice.value;
    update();
  });
}
byId("live").addEventListener("click", () => setLive(!state.live));
byId("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.live) update();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
new ResizeObserver(charts.resizeCharts).observe(document.body);

setTheme(document.documentElement.dataset.theme ?? "auto");
state.span = document.querySelector("input[name=span]:checked").value;
update();
