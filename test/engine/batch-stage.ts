// Batches in the test house: made from short words, driven by the clock until something holds.

import { BatchRequest } from '../../src/contract/batches.ts';
import type { GenerationRequest } from '../../src/contract/generations.ts';
import type { Generation, Status } from '../../src/domain/generation.ts';
import type { BatchNow } from '../../src/engine/gateway.ts';
import type { House } from './house.ts';

export type Asked = Omit<Partial<ReturnType<typeof BatchRequest.parse>>, 'items' | 'breaker'> & {
  readonly breaker?: unknown;
  readonly items?: readonly Partial<GenerationRequest>[];
};

export const shots = (n: number, more: Partial<GenerationRequest> = {}): Partial<GenerationRequest>[] =>
  Array.from({ length: n }, (_, i) => ({ prompt: `shot ${i}`, seed: i, ...more }));

export const request = (asked: Asked): BatchRequest => BatchRequest.parse(asked);

export async function make(house: House, asked: Asked): Promise<BatchNow> {
  const made = await house.gateway.batches.create(house.admin, request(asked));
  await house.clock.settle(30);
  return made;
}

export const now = (house: House, id: string): Promise<BatchNow> => house.gateway.batches.get(house.admin, id);

/** Moves the clock until it holds. Fails after an hour and more of clock time. */
export async function until(
  house: House,
  id: string,
  holds: (now: BatchNow) => boolean,
  stepMs = 500,
): Promise<BatchNow> {
  for (let step = 0; step < 8000; step++) {
    const seen = await now(house, id);
    if (holds(seen)) return seen;
    await house.clock.advance(stepMs);
    await house.clock.settle(20);
  }
  throw new Error(`it never came about: ${JSON.stringify(await now(house, id))}`);
}

export const ended = (house: House, id: string) => until(house, id, ({ batch }) => batch.finishedAt !== null);

/** Its items, in order. */
export async function itemsOf(house: House, id: string, status: Status | null = null): Promise<Generation[]> {
  const all: Generation[] = [];
  let cursor: string | undefined;
  do {
    const page = await house.gateway.batches.items(house.admin, id, status, 100, cursor);
    all.push(...page.data.map((item) => item.generation));
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  return all;
}

export const codes = (all: readonly Generation[]): string[] =>
  all.map(({ state }) => ('failure' in state ? state.failure.code : state.status));
