// Plots: uPlot, loaded when a page draws; colours from the tokens, lines told apart by dashes and words too.

/** @typedef {import("./figures.js").Picture} Picture */

/** @type {Promise<any> | null} */
let loading = null;

/** @returns {Promise<any>} uPlot's constructor */
function load() {
  const base = document.body.dataset.static ?? "";
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = `${base}vendor/uPlot.min.css`;
    const script = document.createElement("script");
    script.src = `${base}vendor/uPlot.iife.min.js`;
    script.addEventListener("load", () => resolve(/** @type {any} */ (window).uPlot));
    script.addEventListener("error", () => reject(new Error("uPlot is not there")));
    document.head.append(style, script);
  });
  return loading;
}

/** The value of a colour token, as a canvas takes it. @param {HTMLElement} where @param {string} token @returns {string} */
function colour(where, token) {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  where.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const HEIGHT = 192;
// The labels of times by their distance: that, the label, what is added where a year, month, day, hour … begins.
const TIMES = [
  [86400, "{MMM} {D}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{MMM} {D}", null, "\n{MMM} {D}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{MMM} {D}", null, "\n{MMM} {D}", null, null, null, 1],
];
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A plot in a place of the page; it is drawn anew when its width or the theme changes. */
export class Plot {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    /** @type {any} */
    this.drawn = null;
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {(number | null)[][]} */
    this.columns = [];
    /** @type {[number, number]} the times at both ends */
    this.span = [0, 1];
    this.redraw = () => void this.draw();
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(place);
    dark.addEventListener("change", this.redraw);
  }

  /**
   * @param {Picture} picture
   * @param {(number | null)[][]} columns the times, then one for each series
   * @param {number} seconds the plot shows, up to the newest time
   */
  async show(picture, columns, seconds) {
    const newest = columns[0].at(-1) ?? Date.now() / 1000;
    this.span = [newest - seconds, newest];
    const isSame = this.picture === picture;
    this.picture = picture;
    this.columns = columns;
    if (isSame && this.drawn !== null) this.drawn.setData(columns);
    else await this.draw();
  }

  fit() {
    const width = Math.floor(this.place.clientWidth);
    if (this.drawn !== null && width > 0 && this.drawn.width !== width) this.drawn.setSize({ width, height: HEIGHT });
  }

  async draw() {
    const uPlot = await load();
    const { picture, place } = this;
    if (picture === null || !place.isConnected) return;
    this.drawn?.destroy();
    const soft = colour(place, "--ink-soft");
    const line = colour(place, "--line");
    const font = `12px ${getComputedStyle(place).fontFamily}`;
    const axis = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    this.drawn = new uPlot({
      width: Math.max(200, Math.floor(place.clientWidth)),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { range: () => this.span }, y: { range: (/** @type {any} */ _, /** @type {number} */ least, /** @type {number} */ most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [
        { ...axis, space: 70, values: TIMES },
        { ...axis, size: 72, space: 44, values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((value) => picture.format(value)) },
      ],
      series: [
        {},
        ...picture.series.map((one) => ({
          label: one.label,
          stroke: colour(place, one.colour),
          fill: one.fill === undefined ? undefined : colour(place, one.fill),
          dash: one.dash,
          width: 1.6,
          points: { show: (/** @type {any} */ plot) => plot.data[0].length < 3 }, // a line of one point shows nothing
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(/** @type {any} */ plot) => place.dispatchEvent(new CustomEvent("plot-cursor", { detail: plot.cursor.idx ?? null }))] },
    }, this.columns, place);
  }

  end() {
    this.sizes.disconnect();
    dark.removeEventListener("change", this.redraw);
    this.drawn?.destroy();
    this.drawn = null;
  }
}
