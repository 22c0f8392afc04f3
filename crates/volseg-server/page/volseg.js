// The page: opens an image, shows slices, asks for masks, saves rankings.
import { decodeRunLength, ranksOf, shownSize, storedBox, toShown, toStored } from "/page/masks.js";

const $ = (id) => document.getElementById(id);
const canvas = $("slice");
const paper = canvas.getContext("2d");
const COLOURS = [[230, 159, 0], [86, 180, 233], [0, 200, 120], [230, 90, 200]];

const state = {
  image: null, slice: 0, points: [], box: null, drag: null, mask: null, picture: null,
  judged: null, order: [], before: null, saved: 0, wanted: 0, token: sessionStorage.getItem("token"),
};

function tell(text, wrong = false) {
  $("told").textContent = text;
  $("told").classList.toggle("wrong", wrong);
}

async function call(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(state.token ? { authorization: `Bearer ${state.token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    const token = prompt("This server needs a token:");
    if (token) {
      state.token = token;
      sessionStorage.setItem("token", token);
      return call(path, options);
    }
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
    throw new Error(told.detail);
  }
  return answer;
}

const post = async (path, value) => (await call(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value),
})).json();

/** Runs an action and shows its failure in one sentence. */
function action(work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      tell(error.message, true);
    }
  };
}

const place = () => ({ image: state.image.image, plane: state.image.plane, slice: state.slice, modality: $("modality").value });
const view = () => ({ modality: $("modality").value, plane: $("plane").value });
const query = (values) => new URLSearchParams(values).toString();

/** Uploads get a random name: file names may be patients' names. */
const shownName = (id) => (/^[0-9a-f]{32}$/.test(id) ? `upload ${id.slice(0, 6)}` : id);

async function listImages(chosen) {
  const { images } = await (await call("/volseg/images")).json();
  $("images").replaceChildren(...(images.length ? [new Option("images on the server", "")] : []), ...images.map((id) => new Option(shownName(id), id)));
  $("images").value = chosen ?? "";
}

async function open(description) {
  state.image = description;
  $("hint").hidden = true;
  $("plane").hidden = description.picture;
  $("pages").hidden = description.slices === 1;
  $("window").hidden = description.modality !== "ct";
  state.slice = Math.floor(description.slices / 2);
  $("number").max = description.slices - 1;
  const organs = description.organs.map((name) => new Option(name.replaceAll("_", " "), name));
  $("organ").replaceChildren(...organs);
  if (description.organs.includes("liver")) $("organ").value = "liver";
  forget();
  await showSlice();
  tell(`${description.modality}, ${description.slices} slice${description.slices === 1 ? "" : "s"} of ${description.size.join(" x ")}`);
}

const openUpload = action(async (list) => {
  const files = [...list];
  if (!files.length) return;
  tell("Uploading ...");
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  const description = await (await call(`/volseg/images?${query(view())}`, { method: "PUT", body: form })).json();
  await listImages(description.image);
  await open(description);
});

const openListed = action(async () => {
  const image = $("images").value;
  if (image) await open(await (await call(`/volseg/image?${query({ image, ...view() })}`)).json());
});

function forget() {
  Object.assign(state, { points: [], box: null, drag: null, mask: null, judged: null, order: [] });
  $("candidates").replaceChildren();
}

async function showSlice() {
  const wanted = ++state.wanted;
  const [low, high] = $("window").hidden ? [] : $("window").value.split(",");
  const answer = await call(`/volseg/slice?${query({ ...place(), ...(high ? { low, high } : {}) })}`);
  const picture = await createImageBitmap(await answer.blob());
  if (wanted !== state.wanted) return;
  state.picture = picture;
  $("number").value = state.slice;
  $("position").textContent = `${state.slice} (0 to ${state.image.slices - 1})`;
  draw();
}

/** Millimetres along shown columns and rows, so that voxels keep their shape. */
function pixelShape() {
  const spacing = state.image.axes.map((axis) => state.image.spacing_mm[axis]);
  return state.image.picture ? [1, 1] : state.image.frame.transposed ? [spacing[1], spacing[0]] : [spacing[0], spacing[1]];
}

function draw() {
  if (!state.picture) return;
  const [w, h] = shownSize(state.image);
  const [sx, sy] = pixelShape();
  const scale = Math.min(900 / (w * sx), 700 / (h * sy));
  canvas.width = Math.round(w * sx * scale);
  canvas.height = Math.round(h * sy * scale);
  paper.imageSmoothingEnabled = true;
  paper.drawImage(state.picture, 0, 0, canvas.width, canvas.height);
  if (state.mask) drawMask(state.mask, w, h);
  const at = (x, y) => { const [u, v] = toShown(state.image, x, y); return [(u * canvas.width) / w, (v * canvas.height) / h]; };
  paper.lineWidth = 2;
  const box = state.drag ? storedBox(state.image, state.drag.from, state.drag.to) : state.box;
  if (box) {
    const [a, b] = [at(box[0], box[1]), at(box[2], box[3])];
    paper.strokeStyle = "#6db3f2";
    paper.strokeRect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]));
  }
  for (const [x, y, inside] of state.points) {
    const [u, v] = at(x + 0.5, y + 0.5);
    paper.beginPath();
    paper.arc(u, v, 5, 0, 7);
    paper.fillStyle = inside ? "#4ade80" : "#f87171";
    paper.fill();
    paper.strokeStyle = "#000";
    paper.stroke();
  }
}

function drawMask(mask, w, h) {
  const layer = new OffscreenCanvas(w, h);
  const inner = layer.getContext("2d");
  const pixels = inner.createImageData(w, h);
  const stored = (u, v) => { const [x, y] = toStored(state.image, u + 0.5, v + 0.5); return mask[Math.floor(y) * state.image.size[0] + Math.floor(x)]; };
  for (let v = 0; v < h; v++) {
    for (let u = 0; u < w; u++) {
      if (stored(u, v)) pixels.data.set([255, 180, 40, 110], 4 * (v * w + u));
    }
  }
  inner.putImageData(pixels, 0, 0);
  paper.imageSmoothingEnabled = false;
  paper.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

/** Shown position (continuous pixels) of a pointer event. */
function position(event) {
  const [w, h] = shownSize(state.image);
  const edge = canvas.getBoundingClientRect();
  return [((event.clientX - edge.left) * w) / edge.width, ((event.clientY - edge.top) * h) / edge.height];
}

const hints = () => ({ ...(state.box ? { box: state.box } : {}), ...(state.points.length ? { points: state.points } : {}) });

const ask = action(async (named = false) => {
  const organ = named ? { organ: $("organ").value } : {};
  tell("...");
  const answer = await post("/volseg/mask", { ...place(), ...organ, ...hints() });
  state.mask = decodeRunLength(answer.rle, answer.size);
  draw();
  const sure = answer.iou === null ? "" : `, expected IoU ${answer.iou.toFixed(2)}`;
  tell(answer.pixels ? `${answer.pixels} pixels in ${answer.ms.toFixed(0)} ms${sure}` : "Nothing found on this slice.");
});

canvas.addEventListener("pointerdown", (event) => {
  if (!state.image) return;
  const at = position(event);
  const tool = document.querySelector("input[name=tool]:checked").value;
  if (tool === "box") {
    state.drag = { from: at, to: at };
    canvas.setPointerCapture(event.pointerId);
    return;
  }
  const [x, y] = toStored(state.image, ...at).map(Math.floor);
  const [w, h] = state.image.size;
  if (x < 0 || y < 0 || x >= w || y >= h) return;
  state.points.push([x, y, tool === "inside" ? 1 : 0]);
  draw();
  if (state.box || state.points.some((p) => p[2])) ask();
});
canvas.addEventListener("pointermove", (event) => {
  if (state.drag) {
    state.drag.to = position(event);
    draw();
  }
});
canvas.addEventListener("pointerup", () => {
  if (!state.drag) return;
  state.box = storedBox(state.image, state.drag.from, state.drag.to);
  state.drag = null;
  draw();
  if (state.box) ask();
});

const showCandidates = action(async () => {
  state.judged = await post("/volseg/candidates", { ...place(), organ: $("organ").value, ...hints(), pictures: true });
  state.order = [];
  drawCandidates();
  tell(state.judged.equal ? "All four masks are the same: skip this slice." : "Best first: press 1, 2, 3 or 4.");
});

function drawCandidates() {
  const ranks = state.order;
  const cards = state.judged.pictures.map((p, n) => {
    const card = document.createElement("button");
    card.type = "button";
    card.className = ranks.includes(n) ? "candidate chosen" : "candidate";
    card.style.borderColor = `rgb(${COLOURS[n]})`;
    const picture = document.createElement("img");
    picture.src = `data:image/png;base64,${p.png}`;
    picture.alt = `candidate ${n + 1}`;
    const rank = ranks.indexOf(n);
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = n + 1;
    card.append(picture, name);
    if (rank >= 0) {
      const shown = document.createElement("span");
      shown.className = "rank";
      shown.textContent = ["best", "2nd", "3rd", "last"][rank];
      card.append(shown);
    }
    card.addEventListener("click", () => choose(n));
    return card;
  });
  $("candidates").replaceChildren(...cards);
}

const choose = action(async (n) => {
  if (!state.judged || state.order.includes(n)) return;
  state.order.push(n);
  // The last place is what is left.
  if (state.order.length === 3) state.order.push([0, 1, 2, 3].find((m) => !state.order.includes(m)));
  drawCandidates();
  const ranks = ranksOf(state.order);
  if (ranks) await save({ ranks, skipped: false });
});

async function save(judgement) {
  const { pictures, equal, iou, ...record } = state.judged;
  await post("/volseg/preferences", { ...record, ...judgement, rater: $("rater").value });
  state.saved += 1;
  $("count").textContent = `${state.saved} saved`;
  const before = state.judged;
  state.judged = null;
  await next();
  state.before = before;
}

const next = action(async () => {
  const image = state.image ? { image: state.image.image, ...view() } : {};
  const spot = await (await call(`/volseg/next?${query({ by: "uncertainty", ...image })}`)).json();
  if (!spot.organ) {
    tell("Everything that the model is unsure of has been judged.");
    forget();
    return;
  }
  if (!state.image || state.image.image !== spot.image) await open(await (await call(`/volseg/image?${query({ image: spot.image })}`)).json());
  forget();
  state.slice = spot.slice;
  $("organ").value = spot.organ;
  await showSlice();
  await showCandidates();
});

const undo = action(async () => {
  if (state.judged && state.order.length) {
    state.order.pop();
    drawCandidates();
  } else if (state.before) {
    // Back to the ranking saved last; its new line stands for the old one.
    const judged = state.before;
    forget();
    state.judged = judged;
    state.before = null;
    state.slice = judged.slice ?? 0;
    $("organ").value = judged.organ;
    await showSlice();
    drawCandidates();
    tell("The ranking saved last: rank it again.");
  } else {
    removePoint();
  }
});

function removePoint() {
  if (!state.points.pop()) return;
  state.mask = null;
  draw();
  if (state.box || state.points.some((p) => p[2])) ask();
}

const skip = action(async () => {
  if (state.judged) await save({ ranks: null, skipped: true });
});

/** Turns pages, and forgets what belonged to the slice before. */
const turn = action(async (slice) => {
  if (!state.image || slice < 0 || slice >= state.image.slices || slice === state.slice) return;
  state.slice = slice;
  forget();
  await showSlice();
});

$("file").addEventListener("change", () => openUpload($("file").files));
$("stage").addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("over"); });
$("stage").addEventListener("dragleave", () => $("stage").classList.remove("over"));
$("stage").addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  openUpload(event.dataTransfer.files);
});
$("images").addEventListener("change", openListed);
for (const id of ["modality", "plane"]) $(id).addEventListener("change", () => state.image && openListed());
$("window").addEventListener("change", action(async () => { if (state.image) await showSlice(); }));
$("number").addEventListener("input", () => turn(Number($("number").value)));
canvas.addEventListener("wheel", (event) => {
  if (!state.image) return;
  event.preventDefault();
  turn(state.slice + Math.sign(event.deltaY));
}, { passive: false });
$("back").addEventListener("click", removePoint);
$("clear").addEventListener("click", () => { forget(); draw(); tell(""); });
$("find").addEventListener("click", () => state.image && ask(true));
$("show").addEventListener("click", () => state.image && showCandidates());
$("next").addEventListener("click", next);
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=radio]), select") || event.ctrlKey || event.metaKey) return;
  if ("1234".includes(event.key)) choose(Number(event.key) - 1);
  else if (event.key === "Backspace") undo();
  else if (event.key === "s" || event.key === "S") skip();
  else if (event.key === "n" || event.key === "N") next();
  else if (event.key === "ArrowUp" || event.key === "ArrowRight") turn(state.slice + 1);
  else if (event.key === "ArrowDown" || event.key === "ArrowLeft") turn(state.slice - 1);
  else return;
  event.preventDefault();
});
listImages().catch((error) => tell(error.message, true));
