// What can be typed behind `darkroom batch run` and `promote`, as it arrives. Types only.

import type { Pairs } from './arguments.ts';
import type { RemoteOptions } from './remote.ts';

/** Of every run, whatever its items come from. */
export interface RunOptions {
  readonly json?: boolean;
  readonly dryRun?: boolean;
  readonly strict?: boolean;
  readonly yes?: boolean;
  readonly download: boolean;
  readonly retryFailed?: boolean;
}

/** Options of `run`. */
export interface RunGiven extends Omit<RemoteOptions, 'key'>, RunOptions {
  readonly key?: Keys;
  readonly apiKey?: string;
  readonly name?: string;
  readonly model?: string;
  readonly size?: string;
  readonly steps?: number;
  readonly seed?: number;
  readonly set?: Pairs;
  readonly concurrency?: number;
  readonly maxCredits?: number;
  readonly breaker?: false | string;
  readonly out?: string;
}

/** `--key` names what identifies a shot; elsewhere it is the gateway's key, and that is understood here too. */
export interface Keys {
  readonly columns?: readonly string[];
  readonly gateway?: string;
}

/** Options of `promote`. */
export interface PromoteGiven extends RemoteOptions, RunOptions {
  readonly model: string;
  readonly items?: readonly string[];
  readonly select?: string;
  readonly succeeded?: true;
  readonly maxCredits?: number;
  readonly out?: string;
}
