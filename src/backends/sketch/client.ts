// The built-in renderer: a deterministic drawing of the prompt, so that everything can be tried without a GPU. It needs
// nothing and remembers nothing: a run that is broken off simply stops, so there is nothing to clean up, and going on
// with one means drawing it again: equal bytes. So there is no reference to store before it begins, which would cost a
// commit per picture.
// Rasterising happens in sharp's own threads; the main thread only concatenates a few kilobytes of SVG.

import { Readable } from 'node:stream';
import manifest from '../../../package.json' with { type: 'json' };
import { GatewayError } from '../../domain/failure.ts';
import { seedOfOutput } from '../../domain/params.ts';
import type { System } from '../../system/system.ts';
import { type Connect, type Job, Refusal, type RemoteFile, type RunEvent } from '../backend.ts';
import { drawing, label, type Subject, svg } from './picture.ts';
import { parseRehearsal } from './rehearsal.ts';

const DEFAULT_SIDE = 1024;
const DEFAULT_STEPS = 8;
const DEFAULT_STRENGTH = 0.6;
const PREVIEW_SIDE = 256;
/** Drawing is this part of a run, rasterising the rest. */
const DRAWING_PART = 0.9;

/** Connects the built-in renderer. Any number of runs may go on at once; `spec.slots` says how many should. */
export const connectSketch: Connect = ({ system }) => ({
  resumable: false,
  wedged: null,
  async probe() {
    return {
      flavour: 'sketch',
      version: manifest.version,
      device: null,
      memory: null,
      checkpoints: null,
      loras: [],
      samplers: [],
      schedulers: [],
      upscalers: [],
      classes: null,
      files: null,
      foreignQueue: 0,
    };
  },
  run: (job, signal) => draw(system, job, signal),
  resume: (job, _remote, signal) => draw(system, job, signal),
  async cancel() {},
  async close() {},
});

async function* draw({ clock }: System, job: Job, signal: AbortSignal): AsyncGenerator<RunEvent, void, void> {
  if (job.kind !== 'image') throw new Refusal('unsupported_input', 'The built-in renderer draws pictures only.');
  const rehearsal = parseRehearsal(job.params.prompt, job.attempt);
  const { n } = job.params;
  const steps = Math.max(1, job.params.steps ?? DEFAULT_STEPS);

  const pictures: Buffer[] = [];
  for (let output = 0; output < n; output++) {
    const subject = subjectOf(job, rehearsal.prompt, output, steps);
    const fragments: string[] = [];
    for (const fragment of drawing(subject)) {
      if (rehearsal.slowMs > 0) await clock.sleep(rehearsal.slowMs / (n * steps), signal);
      signal.throwIfAborted();
      fragments.push(fragment);
      const fraction = ((output + fragments.length / steps) / n) * DRAWING_PART;
      yield {
        type: 'progress',
        fraction,
        message: `drawing step ${fragments.length}/${steps}${n > 1 ? ` of picture ${output + 1}/${n}` : ''}`,
      };
      if (job.previews && isQuarter(fragments.length, steps)) yield await preview(subject, fragments);
    }
    if (rehearsal.fail) throw new GatewayError(rehearsal.fail, `Rehearsed failure: ${rehearsal.fail}.`);
    pictures.push(await rasterise(job, subject, fragments));
    signal.throwIfAborted();
  }
  yield { type: 'rendered' };
  for (const [index, bytes] of pictures.entries()) yield { type: 'file', file: fileOf(index, bytes) };
}

function subjectOf({ params }: Job, prompt: string, output: number, steps: number): Subject {
  return {
    prompt,
    seed: seedOfOutput(params.seed, output),
    width: params.width ?? DEFAULT_SIDE,
    height: params.height ?? DEFAULT_SIDE,
    steps,
  };
}

/** True three times in a drawing of enough steps, never at its end. */
const isQuarter = (done: number, steps: number): boolean =>
  done < steps && Math.floor((done * 4) / steps) > Math.floor(((done - 1) * 4) / steps);

/** Loaded with the first drawing: a gateway whose nodes are elsewhere never needs it here. */
const painter = async () => (await import('sharp')).default;

async function preview({ width, height }: Subject, fragments: readonly string[]): Promise<RunEvent> {
  const sharp = await painter();
  const bytes = await sharp(Buffer.from(svg(width, height, fragments)))
    .resize(PREVIEW_SIDE, PREVIEW_SIDE, { fit: 'inside' })
    .jpeg({ quality: 70 })
    .toBuffer();
  return { type: 'preview', mediaType: 'image/jpeg', bytes };
}

async function rasterise(job: Job, subject: Subject, fragments: readonly string[]): Promise<Buffer> {
  const sharp = await painter();
  const { width, height } = subject;
  const init = job.files.find((file) => file.role === 'init_image');
  const png = { compressionLevel: 4, adaptiveFiltering: false } as const;
  if (!init)
    return sharp(Buffer.from(svg(width, height, [...fragments, label(subject)])))
      .png(png)
      .toBuffer();

  const veil = await veiled(job, subject, fragments);
  const base = sharp(init.path)
    .autoOrient()
    .resize(width, height, { fit: 'cover' })
    .removeAlpha()
    .toColourspace('srgb');
  const over = [
    { input: veil, raw: { width, height, channels: 4 as const } },
    { input: Buffer.from(svg(width, height, [label(subject)])) },
  ];
  return base.composite(over).png(png).toBuffer();
}

/** The drawing as RGBA, as opaque as `strength` says, and only where the mask is white. */
async function veiled(job: Job, { width, height }: Subject, fragments: readonly string[]): Promise<Buffer> {
  const sharp = await painter();
  const strength = Math.round(255 * (job.params.strength ?? DEFAULT_STRENGTH));
  const mask = job.files.find((file) => file.role === 'mask');
  const alpha = mask
    ? await sharp(mask.path)
        .resize(width, height, { fit: 'fill' })
        .removeAlpha()
        .greyscale()
        .linear(strength / 255, 0)
        .toColourspace('b-w')
        .raw()
        .toBuffer()
    : Buffer.alloc(width * height, strength);
  const colours = await sharp(Buffer.from(svg(width, height, fragments)))
    .removeAlpha()
    .raw()
    .toBuffer();
  return sharp(colours, { raw: { width, height, channels: 3 } })
    .joinChannel(alpha, { raw: { width, height, channels: 1 } })
    .raw()
    .toBuffer();
}

function fileOf(index: number, bytes: Buffer): RemoteFile {
  return { name: `sketch-${index}.png`, mediaType: 'image/png', open: async () => Readable.from([bytes]) };
}
