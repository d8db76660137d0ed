// What a hosted double can be told when it starts, with its defaults, and the words of its evidence.

import { systemClock } from '../../../src/system/clock.ts';
import type { PaceClock } from '../pace.ts';

export type HostedKind =
  | 'replicate'
  | 'fal'
  | 'bfl'
  | 'openai'
  | 'gemini'
  | 'ideogram'
  | 'stability'
  | 'together'
  | 'luma'
  | 'runway';

/** How long a job waits and works: in questions asked after it, or in time by the clock. */
export type Pace =
  | { readonly queuedPolls: number; readonly runningPolls: number }
  | { readonly queuedMs: number; readonly runningMs: number };

/** A step in a job's life: asked for and not begun, begun and not answered, asked after. */
export type Moment = 'submit' | 'begun' | 'poll';

export interface HostedSettings {
  /** The key the provider accepts. */
  readonly key: string;
  readonly pace: Pace;
  /** openai only: a LocalAI or vLLM server, which knows no price and gives links when asked to. */
  readonly local: boolean;
  readonly maxBodyBytes: number;
  readonly clock: PaceClock;
  /** Waited for at each moment: a test sees a job come there, and can keep it there. The signal: the caller hung up. */
  readonly hold: (moment: Moment, prompt: string, signal: AbortSignal) => Promise<void>;
}

export type HostedOptions = Partial<HostedSettings>;

export const settle = (options: HostedOptions): HostedSettings => ({
  key: 'test-key',
  pace: { queuedPolls: 1, runningPolls: 1 },
  local: false,
  maxBodyBytes: 60_000_000,
  clock: systemClock,
  hold: async () => {},
  ...options,
});

/** A request as it came, without its key. */
export interface RequestEntry {
  readonly what: 'request';
  readonly at: number;
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  /** Parsed JSON, or the fields of a form; its files are `{filename, mime, bytes}`. */
  readonly body: unknown;
}

/** A job that was begun, and will be billed. */
export interface PaidEntry {
  readonly what: 'paid';
  readonly at: number;
  readonly jobId: string;
  readonly model: string;
  readonly prompt: string;
  /** Where it was asked to call back: a gateway's id may travel in its query. */
  readonly webhook: string | null;
}

export interface EndEntry {
  readonly what: 'succeeded' | 'failed' | 'cancelled' | 'deleted';
  readonly at: number;
  readonly jobId: string;
}

export type HostedLogEntry = RequestEntry | PaidEntry | EndEntry;

/** A fetch from the file host, with whatever keys were shown to it: there should be none. */
export interface FileHit {
  readonly at: number;
  readonly path: string;
  readonly status: number;
  readonly keys: Readonly<Record<string, string>>;
}

const KEY_HEADERS = [
  'authorization',
  'x-key',
  'api-key',
  'x-goog-api-key',
  'x-api-key',
  'proxy-authorization',
  'cookie',
];

export function splitKeys(headers: NodeJS.Dict<string | string[]>): {
  readonly keys: Readonly<Record<string, string>>;
  readonly rest: Readonly<Record<string, string>>;
} {
  const all = Object.entries(headers).map(([name, value]) => [name, String(value)] as const);
  return {
    keys: Object.fromEntries(all.filter(([name]) => KEY_HEADERS.includes(name))),
    rest: Object.fromEntries(all.filter(([name]) => !KEY_HEADERS.includes(name))),
  };
}
