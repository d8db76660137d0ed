// What a ComfyUI server answers, as small schemas: only what is used is named, everything else is ignored, so that newer
// servers and custom nodes may say more. Python's encoder may emit bare NaN and Infinity; they are read as null.

import { z } from 'zod';

export const statsReply = z.object({
  system: z.object({
    comfyui_version: z.string().nullish(),
    python_version: z.string(),
    argv: z.array(z.string()).nullish(),
  }),
  devices: z.array(z.object({ name: z.string(), vram_total: z.number().nullish(), vram_free: z.number().nullish() })),
});
export type StatsReply = z.infer<typeof statsReply>;

export const remainingReply = z.object({ exec_info: z.object({ queue_remaining: z.number() }) });

const queueItem = z.tuple([z.number(), z.string(), z.unknown()], z.unknown());
export const queueReply = z.object({ queue_running: z.array(queueItem), queue_pending: z.array(queueItem) });

const message = z.tuple([z.string(), z.record(z.string(), z.unknown())], z.unknown());
export const historyEntry = z.object({
  prompt: z.array(z.unknown()).nullish(),
  outputs: z.record(z.string(), z.record(z.string(), z.unknown())).catch({}),
  status: z
    .object({ status_str: z.string(), completed: z.boolean().nullish(), messages: z.array(message).catch([]) })
    .nullish(),
});
export type HistoryEntry = z.infer<typeof historyEntry>;
export const historyReply = z.record(z.string(), historyEntry);

const text = z.string().catch('');
const complaint = z.object({ type: text, message: text, extra_info: z.record(z.string(), z.unknown()).catch({}) });
const nodeErrors = z
  .record(
    z.string(),
    z.object({
      errors: z.array(complaint).catch([]),
      dependent_outputs: z.array(z.string()).catch([]),
      class_type: text,
    }),
  )
  .catch({});
export type NodeErrors = z.infer<typeof nodeErrors>;

export const acceptedReply = z.object({ prompt_id: z.string(), number: z.number().nullish(), node_errors: nodeErrors });
export type AcceptedReply = z.infer<typeof acceptedReply>;

export const refusedReply = z.object({ error: complaint, node_errors: nodeErrors });
export type RefusedReply = z.infer<typeof refusedReply>;

export const uploadReply = z.object({ name: z.string().min(1), subfolder: z.string().catch('') });

const inputs = z.record(z.string(), z.array(z.unknown()));
export const classReply = z.record(
  z.string(),
  z.object({ input: z.object({ required: inputs.catch({}), optional: inputs.catch({}) }) }),
);

const BARE = /-?\bInfinity\b|\bNaN\b/g;

/** Parses JSON as Python writes it. Throws SyntaxError when it is not JSON even so. */
export function parseJson(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    return JSON.parse(mended(raw)) as unknown;
  }
}

/** Null for what is bare outside strings. Reads every letter once, however broken the text is. */
function mended(raw: string): string {
  let text = '';
  for (let at = 0; at < raw.length; ) {
    const quote = raw.indexOf('"', at);
    const begin = quote === -1 ? raw.length : quote;
    const end = endOfString(raw, begin);
    text += raw.slice(at, begin).replace(BARE, 'null') + raw.slice(begin, end);
    at = end;
  }
  return text;
}

/** Behind the closing quote of the string that opens at `quote`, or the end of the text. */
function endOfString(raw: string, quote: number): number {
  for (let at = quote + 1; at < raw.length; at++) {
    if (raw[at] === '\\') at++;
    else if (raw[at] === '"') return at + 1;
  }
  return raw.length;
}
