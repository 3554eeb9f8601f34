// The brush over the photograph on Create: strokes paint what should move, a click without a stroke asks the server what
// belongs together there, and an arrow says which way water or clouds go. Places are of the whole photograph, however
// large it is shown. The form's hidden fields hold what is painted: a grey PNG in base64, and "x,y".
(() => {
  const LONG_SIDE = 256; // pixels of what is painted, as the server keeps it
  const STEPS_BACK = 30;
  const ECHO = 500; // milliseconds
  const CLICK = 5; // pixels; a stroke that is no longer is a click
  const SIZES = [0.02, 0.035, 0.06, 0.1, 0.16]; // of the longer side
  const COLOUR = "#ff2d9b";
  const PROPOSED = "#12b886";
  const MODES = ["paint", "erase", "way"];

  let on = false;
  let mode = "paint";
  let size = 2;
  let mask = null; // a canvas, opaque where something is to move
  let way = null; // {x, y} of length 1, and where it was drawn: {at: {x, y}}
  let told = { region: "", way: "" }; // as the form has it
  let proposal = null; // a canvas like the mask: where the model would have something move where nothing is painted
  let proposed = ""; // as the server sent it
  let handed = { keys: new Set(), at: 0 }; // what was handed to the form lately, and comes back as its change
  let before = [];
  let stroke = null;
  let tell = null; // triggers an event of the hidden component
  let asked = null; // of a click that the server has not answered yet: how its answer counts, and its photograph
  let shownSource = "";

  const byId = (id) => document.getElementById(id);
  const photograph = () => byId("i2v-picture")?.querySelector("img");
  const button = (name) => byId(`i2v-brush-${name}`);

  const blank = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

  function sized() {
    const image = photograph();
    if (!image?.naturalWidth) return null;
    const scale = Math.min(1, LONG_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
    return [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
  }

  function ready() {
    const size = sized();
    if (size && !mask) mask = blank(...size);
    return mask;
  }

  const pixels = () => mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
  const isPainted = () => pixels().data.some((value, at) => at % 4 === 3 && value > 8);

  function written() {
    if (!mask || !isPainted()) return "";
    const grey = blank(mask.width, mask.height);
    const context = grey.getContext("2d");
    context.fillRect(0, 0, grey.width, grey.height);
    context.drawImage(mask, 0, 0);
    return grey.toDataURL("image/png").split(",")[1];
  }

  // A grey picture as a mask: its light is how opaque it is.
  async function read(text) {
    const image = new Image();
    image.src = `data:image/png;base64,${text}`;
    await image.decode();
    const canvas = blank(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.data.length; at += 4) {
      data.data[at + 3] = data.data[at];
      data.data.fill(255, at, at + 3);
    }
    context.putImageData(data, 0, 0);
    return canvas;
  }

  const wayText = () => (way ? `${way.x.toFixed(4)},${way.y.toFixed(4)}` : "");

  const keyOf = ({ region, way }) => `${region} ${way}`;

  function hand() {
    told = { region: written(), way: wayText() };
    if (Date.now() - handed.at > ECHO) handed.keys.clear();
    handed.keys.add(keyOf(told));
    handed.at = Date.now();
    tell?.("submit");
    draw();
  }

  function remember() {
    before.push({ mask: mask ? pixels() : null, way });
    if (before.length > STEPS_BACK) before.shift();
  }

  function undo() {
    const step = before.pop();
    if (!step) return;
    if (mask && step.mask) mask.getContext("2d").putImageData(step.mask, 0, 0);
    way = step.way;
    hand();
  }

  function clear() {
    remember();
    if (mask) mask.getContext("2d").clearRect(0, 0, mask.width, mask.height);
    way = null;
    hand();
  }

  // --- what is seen ---

  function overlay() {
    let canvas = byId("i2v-brush-over");
    const frame = byId("i2v-picture");
    if (!frame) return null;
    if (!canvas || canvas.parentElement !== frame) {
      canvas?.remove();
      canvas = blank(1, 1);
      canvas.id = "i2v-brush-over";
      canvas.addEventListener("pointerdown", begin);
      canvas.addEventListener("pointermove", go);
      canvas.addEventListener("pointerup", end);
      canvas.addEventListener("pointercancel", () => {
        stroke = null;
        draw();
      });
      canvas.addEventListener("pointerleave", () => draw());
      frame.append(canvas);
    }
    return canvas;
  }

  // The part of the image's box that shows the photograph.
  function box(image) {
    const [outer, frame] = [image.getBoundingClientRect(), byId("i2v-picture").getBoundingClientRect()];
    let scale = Math.min(outer.width / image.naturalWidth, outer.height / image.naturalHeight);
    if (getComputedStyle(image).objectFit === "scale-down") scale = Math.min(1, scale);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const border = byId("i2v-picture");
    return {
      left: outer.left - frame.left - border.clientLeft + (outer.width - width) / 2,
      top: outer.top - frame.top - border.clientTop + (outer.height - height) / 2,
      width,
      height,
    };
  }

  // As tall as its whole width allows, with the row of buttons that Gradio has below.
  function tall(image) {
    const width = byId("i2v-picture").clientWidth;
    return Math.max(250, Math.min((width * image.naturalHeight) / image.naturalWidth + 42, 0.7 * innerHeight, 460));
  }

  function middle() {
    const { data } = pixels();
    let [sum, x, y] = [0, 0, 0];
    for (let at = 3; at < data.length; at += 4) {
      const place = (at - 3) / 4;
      sum += data[at];
      x += data[at] * (place % mask.width);
      y += data[at] * Math.floor(place / mask.width);
    }
    return sum ? { x: x / sum / mask.width, y: y / sum / mask.height } : { x: 0.5, y: 0.5 };
  }

  function arrow(context, from, to) {
    const angle = Math.atan2(to.y - from.y, to.x - from.x);
    const head = 12 * devicePixelRatio;
    const path = new Path2D();
    path.moveTo(from.x, from.y);
    path.lineTo(to.x, to.y);
    for (const turn of [2.6, -2.6]) {
      path.moveTo(to.x, to.y);
      path.lineTo(to.x + head * Math.cos(angle + turn), to.y + head * Math.sin(angle + turn));
    }
    context.lineCap = "round";
    for (const [colour, width] of [["#000", 6], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * devicePixelRatio;
      context.stroke(path);
    }
  }

  function draw(pointer = null) {
    const image = photograph();
    const canvas = overlay();
    if (!canvas) return;
    canvas.hidden = !image?.naturalWidth || !(on || mask || way || proposal);
    if (canvas.hidden) return;
    const place = box(image);
    Object.assign(canvas.style, { left: `${place.left}px`, top: `${place.top}px` });
    Object.assign(canvas.style, { width: `${place.width}px`, height: `${place.height}px` });
    canvas.width = Math.max(1, Math.round(place.width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(place.height * devicePixelRatio));
    canvas.classList.toggle("i2v-on", on);
    canvas.classList.toggle("i2v-asked", asked !== null);
    document.documentElement.style.setProperty("--i2v-brush-height", `${tall(image)}px`);
    const context = canvas.getContext("2d");
    const ownOrProposed = told.region || stroke ? mask : proposal;
    if (ownOrProposed) {
      context.drawImage(ownOrProposed, 0, 0, canvas.width, canvas.height);
      context.globalCompositeOperation = "source-in";
      context.globalAlpha = ownOrProposed === proposal && !on ? 0.3 : 0.5;
      context.fillStyle = ownOrProposed === proposal ? PROPOSED : COLOUR;
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.globalCompositeOperation = "source-over";
      context.globalAlpha = 1;
    }
    const full = (at) => ({ x: at.x * canvas.width, y: at.y * canvas.height });
    if (stroke?.mode === "way") arrow(context, full(stroke.from), full(stroke.to));
    else if (way) {
      const at = full(way.at ?? (mask ? middle() : { x: 0.5, y: 0.5 }));
      const half = 0.09 * Math.max(canvas.width, canvas.height);
      const ends = [-half, half].map((along) => ({ x: at.x + along * way.x, y: at.y + along * way.y }));
      arrow(context, ...ends);
    }
    if (on && pointer && mode !== "way") {
      const { x, y } = full(pointer);
      context.beginPath();
      context.arc(x, y, (SIZES[size] * Math.max(canvas.width, canvas.height)) / 2, 0, 7);
      for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
        context.strokeStyle = colour;
        context.lineWidth = width * devicePixelRatio;
        context.stroke();
      }
    }
  }

  // --- the pointer ---

  function placeOf(event) {
    const place = event.currentTarget.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return { x: within((event.clientX - place.left) / place.width), y: within((event.clientY - place.top) / place.height) };
  }

  function line(from, to) {
    const context = mask.getContext("2d");
    context.globalCompositeOperation = stroke.mode === "erase" ? "destination-out" : "source-over";
    context.strokeStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = SIZES[size] * Math.max(mask.width, mask.height);
    context.beginPath();
    context.moveTo(from.x * mask.width, from.y * mask.height);
    context.lineTo(to.x * mask.width, to.y * mask.height);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }

  function begin(event) {
    if (!on || event.button || !ready()) return;
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    const at = placeOf(event);
    stroke = { mode, from: at, to: at, start: [event.clientX, event.clientY], moved: false };
    draw(at);
  }

  function go(event) {
    const at = placeOf(event);
    if (stroke) {
      const far = Math.hypot(event.clientX - stroke.start[0], event.clientY - stroke.start[1]) > CLICK;
      if (far && !stroke.moved) {
        stroke.moved = true;
        remember();
        if (stroke.mode !== "way") adopt();
      }
      if (stroke.moved && stroke.mode !== "way") line(stroke.to, at);
      if (stroke.moved) stroke.to = at;
    }
    draw(at);
  }

  function end(event) {
    if (!stroke) return;
    const done = stroke;
    stroke = null;
    if (!done.moved) {
      if (done.mode !== "way") ask(done);
      return draw();
    }
    if (done.mode === "way") {
      const [x, y] = [(done.to.x - done.from.x) * mask.width, (done.to.y - done.from.y) * mask.height];
      const length = Math.hypot(x, y);
      const at = { x: (done.from.x + done.to.x) / 2, y: (done.from.y + done.to.y) / 2 };
      if (length > 0) way = { x: x / length, y: y / length, at };
    }
    hand();
    draw(placeOf(event));
  }

  // --- a click that selects ---

  function ask({ mode, from }) {
    if (asked) return;
    asked = { mode, source: photograph().src };
    tell?.("click", { x: from.x, y: from.y });
    const question = asked;
    setTimeout(() => {
      if (asked === question) asked = null; // no answer: the brush is free again
      draw();
    }, 15000);
  }

  async function take(answer) {
    const question = asked;
    asked = null;
    if (!answer || !question || question.source !== photograph()?.src || !ready()) return draw();
    const selected = await read(answer);
    remember();
    adopt();
    const context = mask.getContext("2d");
    context.globalCompositeOperation = question.mode === "erase" ? "destination-out" : "source-over";
    context.drawImage(selected, 0, 0, mask.width, mask.height);
    context.globalCompositeOperation = "source-over";
    hand();
  }

  // --- what the model would do ---

  // What is painted first begins from the proposal.
  function adopt() {
    if (!proposal || !ready() || isPainted()) return;
    mask.getContext("2d").drawImage(proposal, 0, 0, mask.width, mask.height);
  }

  async function propose(text) {
    if (text === proposed) return;
    proposed = text;
    const canvas = text ? await read(text).catch(() => null) : null;
    if (proposed !== text) return;
    proposal = canvas;
    draw();
  }

  // --- what the form says ---

  async function show(region, direction) {
    region ??= "";
    direction ??= "";
    if (region === told.region && direction === told.way) return;
    // Of strokes in quick succession an earlier one may arrive after a later one.
    if (Date.now() - handed.at < ECHO && handed.keys.has(keyOf({ region, way: direction }))) return;
    if (region !== told.region) {
      before = [];
      try {
        mask = region ? await read(region) : null;
      } catch {
        mask = null; // the server says what is wrong with it
      }
    }
    const [x, y] = direction.split(",").map(Number);
    if (direction !== told.way) way = Number.isFinite(x) && Number.isFinite(y) ? { x, y, at: null } : null;
    told = { region, way: direction };
    draw();
  }

  // --- the buttons ---

  function pressed() {
    button("toggle")?.setAttribute("aria-pressed", String(on));
    for (const name of MODES) button(name)?.setAttribute("aria-pressed", String(mode === name));
    document.documentElement.toggleAttribute("data-i2v-brushing", on); // Gradio would take a class of its elements away
    draw();
  }

  const ACTS = {
    toggle: () => (on = !on),
    smaller: () => (size = Math.max(0, size - 1)),
    larger: () => (size = Math.min(SIZES.length - 1, size + 1)),
    undo,
    clear,
  };
  for (const name of MODES) ACTS[name] = () => (mode = name);

  document.addEventListener("click", (event) => {
    const name = event.target.closest?.("[id^=i2v-brush-]")?.id.slice("i2v-brush-".length);
    if (!Object.hasOwn(ACTS, name ?? "")) return;
    ACTS[name]();
    pressed();
  });

  // On another photograph the next stroke begins on its own shape, and nothing of an earlier one comes back.
  function renew() {
    if (told.region) return; // what belongs to it came first, or goes when the server has seen the photograph
    mask = null;
    before = [];
  }

  // The photograph comes, goes and changes its size as Gradio draws it anew.
  const resized = new ResizeObserver(() => draw());
  let watched = null;
  new MutationObserver(() => {
    const image = photograph();
    if (image === watched && image?.src === shownSource) return;
    watched = image;
    shownSource = image?.src ?? "";
    resized.disconnect();
    if (image) {
      resized.observe(image);
      image.addEventListener("load", () => {
        renew();
        draw();
      });
    }
    renew();
    pressed();
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });

  window.i2vBrush = {
    connect: (trigger) => {
      tell = trigger;
      pressed();
    },
    painted: () => [told.region, told.way],
    propose,
    show,
    take,
  };
})();
