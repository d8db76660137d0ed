// The headers that doors heed and set, said once for the document. Those with an id concern every door; the document
// keeps them in its components.

import { z } from 'zod';
import { GenerationRequest } from '../../contract/generations.ts';

export const Common = {
  workspace: z
    .string()
    .optional()
    .describe('The workspace to act in; only an admin key may name another than its own.')
    .meta({ param: { id: 'Workspace' } }),
  requestId: z
    .string()
    .max(128)
    .optional()
    .describe('Comes back with the answer and stands in the log; drawn when absent.')
    .meta({ param: { id: 'RequestId' } }),
} as const;

export const RequestId = z
  .string()
  .describe('As sent, or drawn.')
  .meta({ header: { id: 'RequestId' } });

export const IdempotencyKey = GenerationRequest.shape.idempotency_key.describe('The same as `idempotency_key`.');
export const Prefer = z.string().optional().describe('`wait=20`: the same as `wait`, which goes before it.');
export const IfNoneMatch = z.string().optional().describe('The ETag last seen: answers 304 while it still holds.');
export const RangeHeader = z.string().optional().describe('`bytes=0-1023`: one range at a time.');
export const IfRange = z
  .string()
  .optional()
  .describe('The ETag the range is of: the whole file comes if it is another.');

export const ETag = z.string().describe('Goes into If-None-Match.');
export const RetryAfter = z.int().optional().describe('Seconds after which to ask again, where that helps.');
export const Location = z.string().describe('Path of the generation.');
export const IdempotencyReplayed = z.literal('true').optional().describe('An earlier submit with this key made it.');
export const PreferenceApplied = z.string().optional().describe('The `wait` of Prefer that was heeded.');
export const AcceptRanges = z.literal('bytes');
export const ContentRange = z.string().describe('`bytes 0-1023/20480`');
