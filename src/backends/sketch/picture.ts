// The drawing itself: prompt, seed and size → SVG, one fragment per step. Everything is drawn from one stream of
// numbers keyed by prompt and seed, so equal questions give equal bytes and another seed gives another picture. The
// work per picture is bounded whatever the steps: only the first strata cover area, the rest are small marks.

import { createHash } from 'node:crypto';
import { strokes, widthOf, writable } from './lettering.ts';

export interface Subject {
  readonly prompt: string;
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly steps: number;
}

interface Colour {
  readonly hue: number;
  readonly saturation: number;
  readonly lightness: number;
}

interface Palette {
  readonly sky: readonly [Colour, Colour];
  readonly far: Colour;
  readonly near: Colour;
  readonly light: Colour;
}

interface Brush extends Subject {
  /** Uniform in [from, to). */
  readonly between: (from: number, to: number) => number;
  readonly palette: Palette;
}

/** Draws stratum `i` of `of`, from the back to the front. */
type Motif = (brush: Brush, i: number, of: number) => string;

const MAX_STRATA = 9;
const MARKS_PER_STEP = 7;
const MAX_MARKED_STEPS = 60;

/** The picture's fragments in drawing order, one per step. */
export function* drawing(subject: Subject): Generator<string, void, void> {
  const between = numbers(subject.prompt, subject.seed);
  const brush: Brush = { ...subject, between, palette: palette(between) };
  const motif = MOTIFS[Math.floor(between(0, MOTIFS.length))] ?? ridges;
  const strata = Math.min(subject.steps, MAX_STRATA);
  yield background(brush) + motif(brush, 0, strata);
  for (let step = 1; step < subject.steps; step++) {
    const stratum = Math.floor((step * strata) / subject.steps);
    const isNew = stratum !== Math.floor(((step - 1) * strata) / subject.steps);
    yield (isNew ? motif(brush, stratum, strata) : '') + (step < MAX_MARKED_STEPS ? marks(brush) : '');
  }
}

/** A whole SVG document around fragments. */
export function svg(width: number, height: number, fragments: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${fragments.join('')}</svg>`;
}

/** The honest label: what made this, and the prompt's first words. */
export function label({ prompt, width, height }: Subject): string {
  const unit = Math.max(0.8, Math.min(width, height) / 380);
  const room = Math.floor((width / unit - 24) / 6);
  const words = writable(prompt.slice(0, 200));
  const said = writable(`sketch · no AI${words ? ` · ${words}` : ''}`);
  const text = said.length > room ? said.slice(0, Math.max(0, room)).replace(/\s+\S*$/, '') : said;
  if (text === '') return '';
  const [x, y] = [10 * unit, height - 16 * unit];
  const bar = `<rect x="${f(x - 5 * unit)}" y="${f(y - 4 * unit)}" width="${f(widthOf(text, unit) + 10 * unit)}" height="${f(14 * unit)}" rx="${f(4 * unit)}" fill="#000" fill-opacity=".38"/>`;
  return `${bar}<path d="${strokes(text, x, y, unit)}" fill="none" stroke="#fff" stroke-opacity=".85" stroke-width="${f(unit * 0.8)}" stroke-linecap="round" stroke-linejoin="round"/>`;
}

/** A stream of numbers (sfc32) keyed by the question. */
function numbers(prompt: string, seed: number): Brush['between'] {
  const key = createHash('sha256').update(`${seed}\n${prompt}`).digest();
  let [a, b, c, d] = [key.readUInt32LE(0), key.readUInt32LE(4), key.readUInt32LE(8), key.readUInt32LE(12)];
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    return (t >>> 0) / 2 ** 32;
  };
  return (from, to) => from + next() * (to - from);
}

function palette(between: Brush['between']): Palette {
  const base = between(0, 360);
  const turn = [28, -32, 150, 180, 205][Math.floor(between(0, 5))] ?? 180;
  const night = between(0, 1) < 0.4;
  const colour = (hue: number, saturation: number, lightness: number): Colour => ({
    hue: (hue + 720) % 360,
    saturation,
    lightness,
  });
  return {
    sky: night
      ? [colour(base, 52, 13), colour(base + turn * 0.35, 58, 38)]
      : [colour(base, 62, 66), colour(base + turn * 0.4, 78, 86)],
    far: colour(base + turn * 0.5, 46, night ? 42 : 72),
    near: colour(base + turn, 54, night ? 10 : 20),
    light: colour(base + turn + 14, 92, night ? 80 : 74),
  };
}

const f = (value: number): string => String(Math.round(value * 10) / 10);
const css = ({ hue, saturation, lightness }: Colour, alpha = 1): string =>
  `hsla(${f(hue)},${f(saturation)}%,${f(lightness)}%,${Math.round(alpha * 100) / 100})`;

/** The way from `from` to `to`, the short way around the colour wheel. */
function mix(from: Colour, to: Colour, part: number): Colour {
  const arc = ((to.hue - from.hue + 540) % 360) - 180;
  const along = (a: number, b: number) => a + (b - a) * part;
  return {
    hue: (from.hue + arc * part + 360) % 360,
    saturation: along(from.saturation, to.saturation),
    lightness: along(from.lightness, to.lightness),
  };
}

function background({ width, height, between, palette: { sky, light } }: Brush): string {
  const [x, y, r] = [
    between(0.15, 0.85) * width,
    between(0.12, 0.5) * height,
    between(0.05, 0.15) * Math.min(width, height),
  ];
  const stops = (id: string, kind: string, a: string, b: string) =>
    `<${kind} id="${id}"${kind === 'linearGradient' ? ' x2="0" y2="1"' : ''}><stop stop-color="${a}"/><stop offset="1" stop-color="${b}"/></${kind}>`;
  return (
    `<defs>${stops('sky', 'linearGradient', css(sky[0]), css(sky[1]))}${stops('glow', 'radialGradient', css(light, 0.75), css(light, 0))}</defs>` +
    `<rect width="${width}" height="${height}" fill="url(#sky)"/>` +
    `<circle cx="${f(x)}" cy="${f(y)}" r="${f(r * 4)}" fill="url(#glow)"/><circle cx="${f(x)}" cy="${f(y)}" r="${f(r)}" fill="${css(light, 0.95)}"/>`
  );
}

/** Layered hills, paler with distance. */
const ridges: Motif = ({ width, height, between, palette: { far, near } }, i, of) => {
  const depth = (i + 1) / of;
  const base = height * (0.42 + 0.5 * depth);
  const reach = height * (0.05 + 0.1 * (1 - depth));
  const waves = [1, 2.3, 5.1].map((pitch, k) => ({
    pitch: (pitch * between(0.7, 1.4) * 2 * Math.PI) / width,
    phase: between(0, 6.28),
    size: (reach * between(0.6, 1.2)) / (k + 1) ** 1.3,
  }));
  const points: string[] = [];
  for (let step = 0; step <= 40; step++) {
    const x = (step / 40) * width;
    points.push(`${f(x)} ${f(base + waves.reduce((y, w) => y + w.size * Math.sin(x * w.pitch + w.phase), 0))}`);
  }
  return `<path d="M0 ${height}L${points.join('L')}L${width} ${height}Z" fill="${css(mix(far, near, depth))}"/>`;
};

/** Bundles of lines carried by one slow field. */
const currents: Motif = ({ width, height, between, palette: { far, near, light } }, i, of) => {
  const side = Math.min(width, height);
  const tone = i % 3 === 2 ? light : mix(far, near, i / of);
  const swirl = between(1.2, 3.4) / side;
  const lines = Array.from({ length: 18 }, () => {
    let [x, y] = [between(-0.1, 1) * width, between(0, 1) * height];
    const points = [`${f(x)} ${f(y)}`];
    for (let step = 0; step < 22; step++) {
      const angle = Math.sin(y * swirl * 2 + i) * 1.1 + Math.cos(x * swirl + i * 0.3) * 0.9;
      x += Math.cos(angle) * side * 0.028;
      y += Math.sin(angle) * side * 0.028;
      points.push(`${f(x)} ${f(y)}`);
    }
    return `M${points.join('L')}`;
  });
  return `<path d="${lines.join('')}" fill="none" stroke="${css(tone, 0.72)}" stroke-width="${f(between(0.002, 0.011) * side)}" stroke-linecap="round" stroke-linejoin="round"/>`;
};

/** Rings and their bodies around a shared centre. */
const orbits: Motif = ({ width, height, between, palette: { far, near, light } }, i, of) => {
  const side = Math.min(width, height);
  const [cx, cy] = [width * 0.5 + between(-0.04, 0.04) * side, height * 0.54 + between(-0.04, 0.04) * side];
  const r = side * (0.08 + (0.5 * (i + 1)) / of);
  const squash = between(0.35, 0.95);
  const tone = mix(near, far, (i / of) * 0.8);
  const angle = between(0, 6.28);
  const [bx, by] = [cx + r * Math.cos(angle), cy + r * squash * Math.sin(angle)];
  return (
    `<ellipse cx="${f(cx)}" cy="${f(cy)}" rx="${f(r)}" ry="${f(r * squash)}" fill="${css(tone, 0.13)}" stroke="${css(tone, 0.9)}" stroke-width="${f(side * between(0.002, 0.014))}"/>` +
    `<circle cx="${f(bx)}" cy="${f(by)}" r="${f(side * between(0.012, 0.05))}" fill="${css(i % 2 ? light : tone)}"/>`
  );
};

/** Translucent shards standing up from the ground. */
const shards: Motif = ({ width, height, between, palette: { far, near, light } }, i, of) => {
  const shapes = Array.from({ length: 5 }, (_, k) => {
    const [x, reach, w] = [
      between(-0.05, 1.05) * width,
      height * between(0.2, 0.75) * (1 - (i / of) * 0.5),
      width * between(0.02, 0.09),
    ];
    const lean = between(-0.6, 0.6) * w * 2;
    const tone = k === 4 ? light : mix(far, near, (i + between(0, 1)) / of);
    const tip = `${f(x + lean)} ${f(height - reach)}`;
    return (
      `<path d="M${f(x - w)} ${height}L${tip}L${f(x)} ${height}Z" fill="${css(tone, 0.62)}"/>` +
      `<path d="M${f(x)} ${height}L${tip}L${f(x + w)} ${height}Z" fill="${css(mix(tone, near, 0.35), 0.7)}"/>`
    );
  });
  return shapes.join('');
};

const MOTIFS: readonly Motif[] = [ridges, currents, orbits, shards];

/** A few small lights: what further steps add. */
function marks({ width, height, between, palette: { light } }: Brush): string {
  const side = Math.min(width, height);
  const dots = Array.from({ length: MARKS_PER_STEP }, () => {
    const r = side * between(0.0008, 0.0032);
    return `<circle cx="${f(between(0, width))}" cy="${f(between(0, height) * 0.85)}" r="${f(Math.max(0.4, r))}" fill="${css(light, between(0.25, 0.85))}"/>`;
  });
  return dots.join('');
}
