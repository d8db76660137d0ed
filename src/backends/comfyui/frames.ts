// Frames of the server's socket → hints. A hint is never the truth (sockets go deaf, and nothing is replayed): it says that
// looking is worthwhile, and it decorates. Unknown frames are null: custom nodes and newer servers send their own freely.
// Binary header, big-endian u32: 1 preview {u32 format, image}, 3 text (ignored), 4 preview {u32 length, JSON, image}.

import { z } from 'zod';
import { parseJson } from './replies.ts';

export type Hint =
  /** Events of this prompt reach us. `cached` nodes will not run. */
  | { readonly type: 'started'; readonly promptId: string; readonly cached: readonly string[] }
  /** A node of the graph began. */
  | { readonly type: 'node'; readonly promptId: string; readonly node: string }
  | {
      readonly type: 'step';
      readonly promptId: string;
      readonly node: string;
      readonly value: number;
      readonly max: number;
    }
  /** Something of this prompt moved. */
  | { readonly type: 'alive'; readonly promptId: string }
  /** Its last event; the history may still be unwritten… */
  | { readonly type: 'outcome'; readonly promptId: string }
  /** …and here it is written. */
  | { readonly type: 'ended'; readonly promptId: string }
  /** Old frames name neither prompt nor node: null. */
  | {
      readonly type: 'preview';
      readonly promptId: string | null;
      readonly node: string | null;
      readonly mediaType: string;
      readonly bytes: Buffer;
    }
  /** The socket broke: events from here on are lost. */
  | { readonly type: 'deaf' };

const frame = z.object({
  type: z.string(),
  data: z.object({
    prompt_id: z.string().optional(),
    node: z.string().nullish(),
    display_node: z.string().nullish(),
    nodes: z.unknown().optional(),
    value: z.number().optional(),
    max: z.number().optional(),
  }),
});

export function parseText(raw: string): Hint | null {
  let body: unknown;
  try {
    body = parseJson(raw);
  } catch {
    return null;
  }
  const parsed = frame.safeParse(body);
  const promptId = parsed.data?.data.prompt_id;
  return parsed.success && promptId !== undefined ? hintOf(parsed.data, promptId) : null;
}

function hintOf({ type, data }: z.infer<typeof frame>, promptId: string): Hint | null {
  const node = data.display_node ?? data.node ?? null;
  switch (type) {
    case 'execution_start':
      return { type: 'started', promptId, cached: [] };
    case 'execution_cached':
      return { type: 'started', promptId, cached: z.array(z.string()).catch([]).parse(data.nodes) };
    case 'executing':
      return node === null ? { type: 'ended', promptId } : { type: 'node', promptId, node };
    case 'progress':
      if (node === null || data.value === undefined || data.max === undefined) return { type: 'alive', promptId };
      return { type: 'step', promptId, node, value: data.value, max: data.max };
    case 'progress_state':
    case 'executed':
      return { type: 'alive', promptId };
    case 'execution_success':
    case 'execution_error':
    case 'execution_interrupted':
      return { type: 'outcome', promptId };
    default:
      return null;
  }
}

const FORMATS: Readonly<Record<number, string>> = { 1: 'image/jpeg', 2: 'image/png' };
const described = z.object({
  prompt_id: z.string().nullish(),
  node_id: z.string().nullish(),
  image_type: z.enum(['image/jpeg', 'image/png']),
});

export function parseBinary(bytes: Buffer): Hint | null {
  if (bytes.length <= 8) return null;
  const event = bytes.readUInt32BE(0);
  const second = bytes.readUInt32BE(4);
  if (event === 1) {
    const mediaType = FORMATS[second];
    return mediaType ? { type: 'preview', promptId: null, node: null, mediaType, bytes: bytes.subarray(8) } : null;
  }
  if (event !== 4 || bytes.length <= 8 + second) return null;
  return describedPreview(bytes.toString('utf8', 8, 8 + second), bytes.subarray(8 + second));
}

function describedPreview(raw: string, bytes: Buffer): Hint | null {
  try {
    const { prompt_id, node_id, image_type } = described.parse(parseJson(raw));
    return { type: 'preview', promptId: prompt_id ?? null, node: node_id ?? null, mediaType: image_type, bytes };
  } catch {
    return null;
  }
}
