// The catalog's words: what may be asked for, and the ordered routes that can serve it.

import type { InputValue } from './params.ts';
import type { Price } from './price.ts';
import { type Json, type Millis, type ModelId, type NodeId, toTimestamp } from './units.ts';

export const KINDS = ['image', 'video', 'audio'] as const;
export type Kind = (typeof KINDS)[number];

export const CAPABILITIES = [
  'text-to-image',
  'image-to-image',
  'inpainting',
  'upscale',
  'text-in-image',
  'photoreal',
  'draft',
  'illustration',
  'lora',
  'negative-prompt',
  'seed',
  'guidance',
  'text-to-video',
  'image-to-video',
  'text-to-audio',
] as const;
export type Capability = (typeof CAPABILITIES)[number];

export const LOCAL_BACKENDS = ['comfyui', 'sdapi', 'sketch'] as const;
export const HOSTED_BACKENDS = [
  'replicate',
  'fal',
  'bfl',
  'openai',
  'gemini',
  'ideogram',
  'stability',
  'together',
  'luma',
  'runway',
] as const;
export type LocalBackend = (typeof LOCAL_BACKENDS)[number];
export type HostedBackend = (typeof HOSTED_BACKENDS)[number];
export type BackendKind = LocalBackend | HostedBackend;

const HOSTED: ReadonlySet<string> = new Set(HOSTED_BACKENDS);
/** Money leaves the house there, and nothing is ever loaded. */
export const isHosted = (kind: BackendKind): kind is HostedBackend => HOSTED.has(kind);

/** One way to serve a model. */
export interface Route {
  readonly backend: BackendKind;
  /** Node labels that must all be present. */
  readonly labels: readonly string[];
  /** Checkpoint name as nodes report it, compared without regard to slash direction. */
  readonly checkpoint: string | null;
  /** comfyui: the recipe that runs it. */
  readonly workflow: string | null;
  /** Hosted: the provider's id of the model, and which account to use. */
  readonly remote: string | null;
  readonly account: string | null;
  /** What the provider lists for one output at the model's defaults, in US dollars; when that was read. */
  readonly usd?: number;
  readonly priceAsOf?: Millis;
}

export interface Limits {
  readonly maxPixels: number;
  readonly minSide: number;
  readonly maxSide: number;
  readonly multipleOf: number;
  readonly maxN: number;
  readonly maxSteps: number;
  /** The lengths of clips it makes, where it does not make any (`inputs.seconds` or `inputs.duration`). */
  readonly seconds?: readonly number[];
}

export interface Defaults {
  readonly width: number | null;
  readonly height: number | null;
  readonly steps: number | null;
  readonly guidance: number | null;
  readonly sampler: string | null;
  readonly scheduler: string | null;
  readonly strength: number | null;
  readonly negativePrompt: string | null;
  readonly inputs: Readonly<Record<string, InputValue>>;
}

export interface Model {
  readonly id: ModelId;
  readonly name: string;
  readonly kind: Kind;
  readonly bestFor: string;
  readonly capabilities: ReadonlySet<Capability>;
  readonly price: Price;
  /** When the price was last compared with what providers ask. */
  readonly priceAsOf?: Millis;
  readonly limits: Limits;
  readonly defaults: Defaults;
  readonly estimateMs: Millis;
  /** Extra time of a cold start (loading). */
  readonly coldMs: Millis;
  /** Equivalent models, in order. Empty: nothing may stand in for it, whatever the caller allows. */
  readonly fallback: readonly ModelId[];
  readonly retiresAt: Millis | null;
  /** That day has come: nothing serves it any more. */
  readonly retired?: boolean;
  readonly routes: readonly Route[];
}

/** "was retired on 2026-06-30". */
export const retiredText = ({ retiresAt }: Pick<Model, 'retiresAt'>): string =>
  `was retired${retiresAt === null ? '' : ` on ${toTimestamp(retiresAt).slice(0, 10)}`}`;

export const SLOT_TYPES = ['string', 'integer', 'number', 'boolean', 'choice', 'image'] as const;
export type SlotType = (typeof SLOT_TYPES)[number];

/**
 * One declared hole in a workflow graph. Names of request fields (`prompt negative_prompt width height seed steps
 * guidance sampler scheduler strength n checkpoint init_image mask`) are filled from the request; any other name is
 * a key of `inputs`.
 */
export interface Slot {
  readonly name: string;
  readonly type: SlotType;
  readonly required: boolean;
  readonly default: InputValue | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly choices: readonly string[] | null;
  readonly description: string | null;
  /** Node inputs this value fills: [node id, input name]. */
  readonly fills: readonly (readonly [node: string, input: string])[];
}

/** Where LoraLoaders are spliced in: the links whose consumers get the chain's end instead. clip null: model only. */
export interface LoraPoint {
  readonly model: readonly [node: string, output: number];
  readonly clip: readonly [node: string, output: number] | null;
}

export interface GraphNode {
  readonly class_type: string;
  readonly inputs: Readonly<Record<string, Json>>;
  readonly _meta?: { readonly title?: string };
}
export type Graph = Readonly<Record<string, GraphNode>>;

/** A ComfyUI API-format graph with declared slots. */
export interface Recipe {
  readonly name: string;
  /** sha256 of the graph file's bytes, hex: travels with the provenance. */
  readonly hash: string;
  readonly graph: Graph;
  readonly slots: readonly Slot[];
  readonly loras: LoraPoint | null;
  /** The recipe to use instead when an input picture comes that this one has no slot for. */
  readonly variants?: { readonly initImage: string | null; readonly mask: string | null };
  /** Output node ids whose files are the result. */
  readonly outputs: readonly string[];
  /** Node classes the graph uses. */
  readonly classes: readonly string[];
  /** Model files named literally in the graph, per loader input, as [class_type, input, file]. */
  readonly files: readonly (readonly [classType: string, input: string, file: string])[];
}

/** What a node keeps in memory when it has served this route: equal keys need no swap. */
export function residencyKey(route: Route): string {
  return normalizeModelName(route.checkpoint ?? route.workflow ?? route.remote ?? route.backend);
}

/**
 * Where work failed, and is not tried again while it could run elsewhere: a node of the studio's, whatever it was asked for
 * there; of an account the route alone, since its other routes lead to other models.
 */
export const placeOf = (node: NodeId, route: Route): string =>
  isHosted(route.backend) ? `${node}/${residencyKey(route)}` : node;

/** Model file names are compared without regard to slash direction. */
export function normalizeModelName(name: string): string {
  return name.replaceAll('\\', '/');
}

/** Without its file ending too: LoRAs are named either way. */
export function bareModelName(name: string): string {
  return normalizeModelName(name).replace(/\.(safetensors|pt|ckpt)$/i, '');
}
