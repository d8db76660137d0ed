// The options of `darkroom generate` → the request of the contract. Nothing is checked here that the gateway checks; a
// picture given as a file is uploaded first.

import { openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import type { GenerationRequest } from '../contract/generations.ts';
import { lora, number, type Pairs, pair, wholeNumber } from './arguments.ts';
import { InputError } from './failing.ts';
import type { Place } from './remote.ts';

export interface RequestOptions {
  readonly model?: string;
  readonly negative?: string;
  readonly softenedPrompt?: string;
  readonly seed?: number;
  readonly size?: string;
  readonly aspect?: string;
  readonly steps?: number;
  readonly guidance?: number;
  readonly n?: number;
  readonly lora?: { name: string; strength: number }[];
  readonly initImage?: string;
  readonly mask?: string;
  readonly strength?: number;
  readonly input?: Pairs;
  readonly format?: 'png' | 'webp' | 'jpeg' | 'avif';
  readonly from?: string;
  readonly metadata?: Pairs;
  readonly maxCredits?: number;
  readonly priority?: 'interactive' | 'batch';
  readonly idempotencyKey?: string;
}

export function withRequest(command: Command): Command {
  return command
    .optionsGroup('What to make:')
    .option('-m, --model <id>', 'from "darkroom models" (default: the gateway\'s)')
    .option('--negative <text>', 'what to keep out')
    .option('--seed <number>', 'repeats a picture', wholeNumber)
    .option('--size <WxH>', 'pixels, like 1280x720')
    .option('--aspect <W:H>', 'instead of a size, like 16:9')
    .option('--steps <number>', 'denoising steps', wholeNumber)
    .option('--guidance <number>', 'how closely to follow the prompt', number)
    .option('--n <number>', 'how many, 1 to 8', wholeNumber)
    .option('--lora <name:strength>', 'a LoRA and its weight (repeatable)', lora)
    .option('--init-image <picture>', 'start from a file, https: URL, upl_… or gen_…')
    .option('--mask <picture>', 'paint only where it is white')
    .option('--strength <number>', 'how far from the init image, 0 to 1', number)
    .option('--input <name=value>', "a slot of the model's workflow (repeatable)", pair)
    .option('--from <gen_…>', 'copy what is not given here from a finished one')
    .option('--softened-prompt <text>', 'used once if the prompt is refused')
    .addOption(new Option('--format <type>', 'what to store').choices(['png', 'webp', 'jpeg', 'avif']))
    .optionsGroup('How to make it:')
    .option('--metadata <key=value>', 'your own notes, as in ticket=MKT-2241 (repeatable)', pair)
    .option('--max-credits <number>', 'refuse when it would cost more', number)
    .addOption(new Option('--priority <class>', 'batch gives way').choices(['interactive', 'batch']))
    .option('--idempotency-key <key>', 'the same key is the same generation, charged once');
}

/** Uploads local pictures. Throws InputError for one that cannot be read. */
export async function requestOf(
  prompt: string | undefined,
  o: RequestOptions,
  place: Place,
): Promise<GenerationRequest> {
  const [initImage, mask] = await Promise.all([o.initImage, o.mask].map((picture) => source(picture, place)));
  return dropUndefined({
    prompt,
    model: o.model,
    negative_prompt: o.negative,
    softened_prompt: o.softenedPrompt,
    seed: o.seed,
    size: o.size,
    aspect_ratio: o.aspect,
    steps: o.steps,
    guidance: o.guidance,
    n: o.n,
    loras: o.lora,
    init_image: initImage,
    mask,
    strength: o.strength,
    inputs: o.input && Object.fromEntries(Object.entries(o.input).map(([name, text]) => [name, slotValue(text)])),
    output: o.format && { format: o.format },
    from: o.from,
    metadata: o.metadata,
    max_credits: o.maxCredits,
    priority: o.priority,
    idempotency_key: o.idempotencyKey,
  });
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };
const dropUndefined = <T extends object>(fields: T): Present<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;

/** Slots take numbers and switches too. */
function slotValue(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

async function source(picture: string | undefined, place: Place): Promise<string | undefined> {
  if (picture === undefined || /^(https:|data:|upl_|gen_)/.test(picture)) return picture;
  return upload(await open(picture), place);
}

async function open(path: string): Promise<Blob> {
  try {
    if ((await stat(path)).isFile()) return await openAsBlob(path);
  } catch {
    throw new InputError(`There is no picture to read at ${path}.`, 'Give a file, an https: URL, upl_… or gen_….');
  }
  throw new InputError(`${path} is not a file.`);
}

async function upload(bytes: Blob, { url, key }: Place): Promise<string> {
  const { createClient } = await import('../client/client.ts');
  const raw: typeof fetch = (address, init) =>
    fetch(address, {
      ...init,
      body: bytes,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/octet-stream' },
    });
  const { id } = await createClient({ url, key: key ?? '', fetch: raw }).call<{ id: string }>('POST', '/v1/uploads');
  return id;
}
