// The pad: strokes of a mouse, a pen, a finger or the keyboard; what is drawn becomes a PNG.

// Pixels of either side of the picture, whatever the pad's size on the screen.
const SIDE = 448;
// Of the brush: as thick as the pens of MNIST's writers, where a digit fills half the pad.
const WIDTH = 48;
const PAPER = "#ffffff";
const INK = "#101418";
// How far the keyboard's pen goes at once, of the side.
const STEP = 0.02;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /** `onenter` is called when the keyboard asks to send. */
  constructor(canvas, onenter) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = WIDTH;
    this.strokes = [];
    this.stroke = null;
    this.pen = { x: 0.5, y: 0.3, down: false };
    this.onenter = onenter;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => (this.stroke = null));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#draw());
    this.#draw();
  }

  get empty() {
    return this.strokes.length === 0;
  }

  undo() {
    this.strokes.pop();
    this.#draw();
  }

  clear() {
    this.strokes = [];
    this.pen.down = false;
    this.#draw();
  }

  /** The picture as a PNG. */
  png() {
    this.#draw(false);
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.stroke = { width: this.width, points: [this.#place(event)] };
    this.strokes.push(this.stroke);
    this.#draw();
  }

  #go(event) {
    if (!this.stroke || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.stroke.points.push(...(events.length ? events : [event]).map((each) => this.#place(each)));
    this.#draw();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(SIDE * (event.clientX - box.left)) / box.width, (SIDE * (event.clientY - box.top)) / box.height];
  }

  #key(event) {
    if (event.key === "Enter") return this.onenter();
    const pen = this.pen;
    if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) this.strokes.push({ width: this.width, points: [[SIDE * pen.x, SIDE * pen.y]] });
    } else if (event.key in ARROWS) {
      const [right, down] = ARROWS[event.key];
      pen.x = Math.min(1, Math.max(0, pen.x + STEP * right));
      pen.y = Math.min(1, Math.max(0, pen.y + STEP * down));
      if (pen.down) this.strokes.at(-1).points.push([SIDE * pen.x, SIDE * pen.y]);
    } else {
      return;
    }
    event.preventDefault();
    this.#draw();
  }

  #draw(withPen = document.activeElement === this.canvas && this.canvas.matches(":focus-visible")) {
    const context = this.context;
    context.fillStyle = PAPER;
    context.fillRect(0, 0, SIDE, SIDE);
    context.strokeStyle = INK;
    context.lineCap = context.lineJoin = "round";
    for (const { width, points } of this.strokes) {
      context.lineWidth = width;
      context.stroke(curve(points));
    }
    if (!withPen) return;
    context.strokeStyle = "#1d5fa8";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(SIDE * this.pen.x, SIDE * this.pen.y, this.pen.down ? 6 : 12, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** A curve through the middles of the lines between the points: a hand makes no corners. */
function curve(points) {
  const path = new Path2D();
  const [first, ...rest] = points;
  path.moveTo(...first);
  if (!rest.length) path.lineTo(first[0] + 0.01, first[1]);
  rest.forEach(([x, y], i) => {
    const next = rest[i + 1];
    if (next) path.quadraticCurveTo(x, y, (x + next[0]) / 2, (y + next[1]) / 2);
    else path.lineTo(x, y);
  });
  return path;
}
