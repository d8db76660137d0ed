// How a command ends when it does not end well: one sentence of what happened, one of what to do, and an exit status
// that programs can tell apart. With --json the same is a document on stdout, so that there is always exactly one.

import { reasonOf } from './reasons.ts';
import { sentencesOf } from './spoken.ts';
import { note } from './table.ts';

export const EXIT = { done: 0, failed: 1, input: 2, refused: 3, unreachable: 4, interrupted: 130 } as const;

/** Something this command itself found wrong. */
export class CommandError extends Error {
  readonly code: string;
  readonly advice: string | undefined;
  constructor(code: string, message: string, advice?: string) {
    super(message);
    this.name = 'CommandError';
    this.code = code;
    this.advice = advice;
  }
}

/** What was typed, or a file that was named, cannot be used. */
export class InputError extends CommandError {
  constructor(message: string, advice?: string) {
    super('invalid_request', message, advice);
  }
}

/** What errors of the client and of this command have in common. */
interface Told {
  readonly code: string;
  readonly message: string;
  readonly advice?: string | undefined;
  readonly retryable: boolean;
  readonly status?: number | undefined;
  readonly generation?: object | undefined;
  readonly details?: readonly { readonly path: string; readonly message: string }[] | undefined;
}

const INPUT: ReadonlySet<string> = new Set([
  'invalid_request',
  'unknown_model',
  'unsupported_input',
  'idempotency_conflict',
  'not_found',
  'conflict',
  'too_large',
]);
const REFUSED: ReadonlySet<string> = new Set(['unauthenticated', 'forbidden']);

/** 1 a generation or the gateway failed · 2 usage or input · 3 key refused · 4 nobody answers · 130 Ctrl-C. */
export function exitCodeOf(error: unknown): number {
  if (isAbort(error)) return EXIT.interrupted;
  const { code, generation } = toldOf(error);
  if (generation !== undefined) return EXIT.failed;
  if (REFUSED.has(code)) return EXIT.refused;
  if (INPUT.has(code)) return EXIT.input;
  return code === 'unreachable' ? EXIT.unreachable : EXIT.failed;
}

/** Says what went wrong (one JSON document on stdout with `json`, sentences on stderr otherwise) and sets the exit status. */
export function fail(error: unknown, { json = false }: { readonly json?: boolean } = {}): number {
  const code = exitCodeOf(error);
  process.exitCode = code;
  const told = toldOf(error);
  if (json) process.stdout.write(`${JSON.stringify({ error: told }, null, 2)}\n`);
  else note(sentencesOf(told).join('\n'));
  return code;
}

const ELSEWHERE = 'Start one here with "darkroom serve", or name another with --url, DARKROOM_URL or "darkroom login".';

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError';

/** An error as --json tells it. */
export function toldOf(error: unknown): Told {
  const { code, message, advice, retryable, status, generation, details } = error as Partial<Told>;
  const known = error instanceof Error && (error.name === 'DarkroomError' || error instanceof CommandError);
  if (!known)
    return { code: 'internal', message: error instanceof Error ? error.message : String(error), retryable: false };
  const unheard = code === 'unreachable' && status === undefined;
  const why = unheard ? reasonOf((error as Error).cause) : null;
  const more = unheard ? ELSEWHERE : advice;
  return {
    code: code ?? 'internal',
    message: why === null ? (message ?? '') : `${(message ?? '').replace(/\.$/, '')}: ${why}.`,
    retryable: retryable ?? false,
    ...(more && { advice: more }),
    ...(status !== undefined && { status }),
    ...(details?.length && { details }),
    ...(generation && { generation }),
  };
}
