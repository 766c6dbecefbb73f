// Draws series of one range query on a canvas: lines with gaps, axes, a crosshair, zoom by dragging.

const COLORS_LIGHT = ["#1d6fb8", "#c4510c", "#2b8a3e", "#a62f86", "#8a6d00", "#00808a", "#c22f3c", "#5b55c4", "#5d7a12", "#8c4a2f", "#3f6f9e", "#7a3fa0"];
const COLORS_DARK = ["#5fb0f5", "#ff9a5c", "#6fd58a", "#ef8fd2", "#e0c04c", "#54d0da", "#ff8088", "#a5a0ff", "#b4d45c", "#d59a7e", "#8fb8e0", "#cf96f0"];
const PAD = { left: 64, right: 14, top: 10, bottom: 26 };

export function color(index, dark) {
  const list = dark ? COLORS_DARK : COLORS_LIGHT;
  return list[index % list.length];
}

// Round steps of an axis with about `count` ticks.
function niceStep(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const factor of [1, 2, 2.5, 5, 10]) if (factor * power >= raw) return factor * power;
  return 10 * power;
}

const TIME_STEPS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

export function formatNumber(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  for (const [limit, suffix] of [[1e24, "Y"], [1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= limit) return +(value / limit).toPrecision(4) + suffix;
  if (size >= 1e-3) return String(+value.toPrecision(4));
  return value.toExponential(2);
}

export class Graph {
  constructor(canvas, tip, onZoom) {
    Object.assign(this, { canvas, tip, onZoom, series: [], hidden: new Set(), start: 0, end: 1, step: 1, local: false, cursor: null, drag: null });
    canvas.addEventListener("pointermove", (event) => { this.cursor = this.at(event); this.draw(); });
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.drag = null; this.draw(); });
    canvas.addEventListener("pointerdown", (event) => { this.drag = this.at(event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", (event) => {
      const from = this.drag, to = this.at(event);
      this.drag = null;
      if (from && Math.abs(from.x - to.x) > 6) {
        const [a, b] = [this.time(from.x), this.time(to.x)].sort((p, q) => p - q);
        this.onZoom(Math.max(this.start, a), Math.min(this.end, b));
      }
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // series: [{ name, points: [[seconds, number], ...] }]
  show(series, start, end, step, local) {
    Object.assign(this, { series, start, end, step, local, hidden: new Set() });
    this.draw();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  time(x) {
    const width = this.canvas.clientWidth - PAD.left - PAD.right;
    return this.start + ((x - PAD.left) / width) * (this.end - this.start);
  }

  // Smallest and largest finite value of what is shown, with some room.
  bounds() {
    let low = Infinity, high = -Infinity;
    this.series.forEach((one, index) => {
      if (this.hidden.has(index)) return;
      for (const [, value] of one.points) if (Number.isFinite(value)) { if (value < low) low = value; if (value > high) high = value; }
    });
    if (low > high) return [0, 1];
    if (low === high) { const room = Math.abs(low) * 0.1 || 1; return [low - room, high + room]; }
    const room = (high - low) * 0.05;
    return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const style = getComputedStyle(document.documentElement);
    const css = (name) => style.getPropertyValue(name).trim();
    const dark = document.documentElement.dataset.theme === "dark";
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    const right = width - PAD.right, bottom = height - PAD.bottom;
    const span = this.end - this.start || 1;
    const [low, high] = this.bounds();
    const x = (seconds) => PAD.left + ((seconds - this.start) / span) * (right - PAD.left);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - PAD.top);

    pen.strokeStyle = css("--grid");
    pen.fillStyle = css("--quiet");
    pen.lineWidth = 1;
    const rise = niceStep(high - low, height / 55);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let value = Math.ceil(low / rise) * rise; value <= high; value += rise) {
      const clean = Math.abs(value) < rise / 1e6 ? 0 : value;
      const at = Math.round(y(clean)) + 0.5;
      pen.beginPath(); pen.moveTo(PAD.left, at); pen.lineTo(right, at); pen.stroke();
      pen.fillText(formatNumber(clean), PAD.left - 8, at);
    }
    const stride = TIME_STEPS.find((step) => span / step <= width / 95) || span / 8;
    const offset = this.local ? new Date(this.start * 1000).getTimezoneOffset() * 60 : 0;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (let seconds = Math.ceil((this.start - offset) / stride) * stride + offset; seconds <= this.end; seconds += stride) {
      const at = Math.round(x(seconds)) + 0.5;
      pen.beginPath(); pen.moveTo(at, PAD.top); pen.lineTo(at, bottom); pen.stroke();
      const text = this.tick(seconds, stride);
      pen.fillText(text, Math.min(at, width - pen.measureText(text).width / 2), bottom + 7);
    }

    pen.save();
    pen.beginPath(); pen.rect(PAD.left, PAD.top - 2, right - PAD.left, bottom - PAD.top + 4); pen.clip();
    pen.lineWidth = this.series.length > 40 ? 1 : 1.6;
    pen.lineJoin = "round";
    this.series.forEach((one, index) => {
      if (this.hidden.has(index)) return;
      pen.strokeStyle = pen.fillStyle = color(index, dark);
      pen.beginPath();
      let last = null, lonely = null;
      for (const [seconds, value] of one.points) {
        if (!Number.isFinite(value)) { last = null; continue; }
        if (last === null || seconds - last > this.step * 1.5) {
          if (lonely) pen.rect(lonely[0] - 1, lonely[1] - 1, 2.5, 2.5);
          pen.moveTo(x(seconds), y(value));
          lonely = [x(seconds), y(value)];
        } else {
          pen.lineTo(x(seconds), y(value));
          lonely = null;
        }
        last = seconds;
      }
      if (lonely) pen.rect(lonely[0] - 1, lonely[1] - 1, 2.5, 2.5);
      pen.stroke();
    });
    pen.restore();
    pen.strokeStyle = css("--line");
    pen.strokeRect(PAD.left + 0.5, PAD.top + 0.5, right - PAD.left, bottom - PAD.top);
    this.drawCursor(pen, { x, y, right, bottom, css, dark });
  }

  drawCursor(pen, { x, y, right, bottom, css, dark }) {
    const { cursor, tip } = this;
    if (!cursor || cursor.x < PAD.left || cursor.x > right) { tip.hidden = true; return; }
    if (this.drag) {
      pen.fillStyle = css("--accent");
      pen.globalAlpha = 0.18;
      pen.fillRect(Math.min(this.drag.x, cursor.x), PAD.top, Math.abs(this.drag.x - cursor.x), bottom - PAD.top);
      pen.globalAlpha = 1;
    }
    let best = null;
    const seconds = this.time(cursor.x);
    this.series.forEach((one, index) => {
      if (this.hidden.has(index) || !one.points.length) return;
      let from = 0, to = one.points.length - 1;
      while (from < to) { const middle = (from + to) >> 1; if (one.points[middle][0] < seconds) from = middle + 1; else to = middle; }
      for (const point of [one.points[from - 1], one.points[from]]) {
        if (!point || !Number.isFinite(point[1])) continue;
        const away = Math.hypot((x(point[0]) - cursor.x) * 2, y(point[1]) - cursor.y);
        if (!best || away < best.away) best = { away, index, one, point };
      }
    });
    pen.strokeStyle = css("--quiet");
    pen.setLineDash([3, 3]);
    pen.beginPath(); pen.moveTo(cursor.x, PAD.top); pen.lineTo(cursor.x, bottom); pen.stroke();
    pen.setLineDash([]);
    if (!best) { tip.hidden = true; return; }
    pen.fillStyle = color(best.index, dark);
    pen.beginPath(); pen.arc(x(best.point[0]), y(best.point[1]), 4, 0, Math.PI * 2); pen.fill();
    tip.hidden = false;
    tip.replaceChildren();
    const line = (text, strong) => { const part = document.createElement(strong ? "strong" : "div"); part.textContent = text; tip.append(part); };
    line(formatTime(best.point[0], this.local));
    line(best.one.name || "{}");
    line(best.one.exact ? best.one.exact(best.point) : String(best.point[1]), true);
    const leftHalf = cursor.x < this.canvas.clientWidth / 2;
    tip.style.left = leftHalf ? `${cursor.x + 14}px` : "auto";
    tip.style.right = leftHalf ? "auto" : `${this.canvas.clientWidth - cursor.x + 14}px`;
    tip.style.top = `${Math.max(0, cursor.y - 10)}px`;
  }

  tick(seconds, stride) {
    const text = formatTime(seconds, this.local);
    if (stride >= 86400) return text.slice(0, 10);
    if (this.end - this.start > 86400 * 1.5) return text.slice(5, 16);
    return stride >= 60 ? text.slice(11, 16) : stride >= 1 ? text.slice(11, 19) : text.slice(14, 23);
  }
}

// `2026-11-21 08:01:28.821`, in UTC or as clocks here show it.
export function formatTime(seconds, local) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return String(seconds);
  const shifted = local ? new Date(date.getTime() - date.getTimezoneOffset() * 60000) : date;
  return shifted.toISOString().replace("T", " ").replace("Z", "");
}
