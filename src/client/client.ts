// What other programs import to use a gateway: typed calls, polling with the reference cadence, one error class, watching
// with resume, and batches. Runs in Node and in browsers; knows the contract and nothing of the inside.

import { createRunBatch } from './batch.ts';
import { createCaller } from './call.ts';
import { createCalls } from './calls.ts';
import { createGenerate } from './generate.ts';
import type { Client, ClientOptions } from './interface.ts';
import { sleep as sleepByTimer } from './sleep.ts';
import { createWatch } from './watch.ts';

export { DarkroomError, type ErrorCode } from './errors.ts';
export type {
  BatchCalls,
  CallOptions,
  Client,
  ClientOptions,
  GenerateOptions,
  ItemBody,
  ListQuery,
  NewBatch,
  Page,
  RunBatchOptions,
  Submitted,
  UsageQuery,
  UsageRow,
  WatchOptions,
} from './interface.ts';
export { type PollOptions, pollGeneration } from './poll.ts';

/** A client of one gateway with one key. Opens nothing by itself. Throws DarkroomError when the address is none. */
export function createClient(options: ClientOptions): Client {
  const sleep = options.sleep ?? sleepByTimer;
  const caller = createCaller(options);
  const calls = createCalls(caller);
  return {
    ...calls,
    generate: createGenerate(calls, sleep),
    watch: createWatch(caller, options, sleep),
    runBatch: createRunBatch(calls.batches, sleep),
  };
}
