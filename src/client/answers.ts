// What an answer must have for its reader not to trip over it. Nothing more is checked: a newer gateway may say more.

import type { BatchBody } from '../contract/batches.ts';
import type { GenerationBody } from '../contract/generations.ts';
import { badAnswer } from './errors.ts';
import type { Page } from './interface.ts';

const FINAL = ['succeeded', 'failed', 'timeout', 'cancelled'];

/** Whether it will not change any more. The house has the same in contract/final.ts; what is emitted imports nothing but itself. */
export const isFinal = (generation: { readonly status: string }): boolean => FINAL.includes(generation.status);

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const named = (value: unknown): boolean =>
  isRecord(value) && typeof value.id === 'string' && typeof value.status === 'string';

export function generationIn(body: unknown): GenerationBody {
  if (named(body)) return body as GenerationBody;
  throw badAnswer('The answer is not a generation.', false);
}

export function batchIn(body: unknown): BatchBody {
  if (named(body) && isRecord((body as BatchBody).counts)) return body as BatchBody;
  throw badAnswer('The answer is not a batch.', false);
}

export function recordIn<T>(body: unknown): T {
  if (isRecord(body)) return body as T;
  throw badAnswer('The answer is not an object.', false);
}

export function pageIn<T>(body: unknown): Page<T> {
  if (isRecord(body) && Array.isArray(body.data)) return { next_cursor: null, ...body } as unknown as Page<T>;
  throw badAnswer('The answer is not a list.', false);
}
