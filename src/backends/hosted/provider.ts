// How to speak to one hosted provider: pure translation between a job and the provider's requests and answers. What is
// alike in all of them (posting once and finding what was lost: parts.ts and desk.ts; asking until it is over: follow.ts;
// fetching without the key: files.ts) is put together in account.ts; an adapter says only what is its own.

import type { Failure } from '../../domain/failure.ts';
import type { HostedBackend, Kind } from '../../domain/model.ts';
import type { Params } from '../../domain/params.ts';
import type { Json, Millis } from '../../domain/units.ts';
import type { Job } from '../backend.ts';

/** What the provider needs to be asked about a job again. Small; stored with the generation. */
export type Reference = { readonly [key: string]: Json };

/** One request. `path` begins with a slash and is appended to the account's base URL. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  /** A whole URL to be preferred to `path`, if it lies on the base's origin or on one of the provider's `apiHosts`. */
  readonly at?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** At most one of both. */
  readonly json?: unknown;
  readonly form?: FormData;
}

/** One answer. */
export interface Reply {
  readonly status: number;
  header(name: string): string | null;
  /** Parsed JSON; undefined when it is none. */
  readonly body: unknown;
  /** How it begins when it is none, without the key; for the log. */
  readonly unread?: string;
}

/** An input picture with its bytes. */
export interface Picture {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

/** What one call is to make: a job, or a part of one where the provider makes fewer pictures at a time. */
export interface Order {
  readonly job: Job;
  /** The provider's name of the model (`route.remote`). */
  readonly remote: string;
  readonly params: Params;
  /** Pictures wanted of this call, and the seed of the first. */
  readonly n: number;
  readonly seed: number;
  readonly initImage: Picture | null;
  /** White is to be painted anew. */
  readonly mask: Picture | null;
  /** Names this very call, so that it can be found again. */
  readonly marker: string;
}

/** One result: behind a link, or in the answer itself (base64). */
export type Result = ({ readonly url: string } | { readonly base64: string }) & {
  /** Its place among what the call was to make, where others before it were withheld. */
  readonly place?: number;
  /** Where the provider tells the seed of each. */
  readonly seed?: number;
};

export type Outcome =
  /** Also for states nobody knows: bounded by our own deadline. */
  | {
      readonly state: 'running';
      readonly fraction?: number;
      readonly message?: string;
      /** The provider asked for so long a pause. */
      readonly pauseMs?: Millis;
    }
  /** The provider does not know the job: not yet while it is young, no more afterwards. A 404 says the same. */
  | { readonly state: 'unknown' }
  /** `withheld`: pictures made and kept back. Without results and with some withheld it is a refusal. */
  | { readonly state: 'done'; readonly results: readonly Result[]; readonly withheld?: number }
  | { readonly state: 'failed'; readonly failure: Failure }
  /** The answer lies elsewhere. */
  | { readonly state: 'ask'; readonly call: Call };

/** What a request may bring besides its parameters: nothing, a picture, or a picture with a mask. */
export type Brought = 'prompt' | 'init_image' | 'mask';

export interface Provider {
  readonly kind: HostedBackend;
  readonly makes: readonly Kind[];
  /** Without trailing slash, with its version where all paths share one. */
  readonly baseUrl: string;
  /** Hosts (and all below them) that may be asked besides the base's own, over https and with the key; only while the base is one of them. */
  readonly apiHosts?: readonly string[];
  /** Hosts (and all below them) that results may be fetched from, over https and without the key. */
  readonly fileHosts: readonly string[];
  /** Longest an answer to the submit may take. */
  readonly answerMs: Millis;
  /** First and longest pause between two polls. */
  readonly pollMs: readonly [first: Millis, longest: Millis];
  headers(token: string): Readonly<Record<string, string>>;
  /** Pictures one call can make of this model. */
  most(remote: string): number;
  /** What this model can be asked with. None of them takes LoRAs. Nothing else reaches `submit`. */
  takes(remote: string): readonly Brought[];
  /** Throws Refusal('unsupported_input') for what else it cannot take; what it ignores becomes a warning. */
  submit(
    order: Order,
  ):
    | { readonly call: Call; readonly warnings: readonly string[] }
    | Promise<{ readonly call: Call; readonly warnings: readonly string[] }>;
  /** Reads a 2xx answer to the submit: a job to ask about, or the outcome at once. Throws GatewayError('model_error') where it is neither. */
  begun(reply: Reply, order: Order): { readonly reference: Reference } | { readonly outcome: Outcome };
  /** Where to ask about a job. Absent: every answer comes with the submit. */
  poll?(reference: Reference): Call;
  /** Reads a 2xx answer to a poll, or to a call that a poll led to. Throws GatewayError('model_error') for another job's answer. */
  polled?(reply: Reply, reference: Reference, asked: Call): Outcome;
  /** A JSON answer in the 5xx that is the job's own end; null: it is only trouble with asking. */
  ended?(reply: Reply, asked: Call): Failure | null;
  cancel?(reference: Reference): Call;
  /** A cancel of what is finished destroys it: it is sent only to what was just seen running. */
  readonly cancelDestroys?: boolean;
  /** What an answer that is not 2xx means. Balance and key are told before anything else; provider text never goes into the message. */
  refused(reply: Reply, stage: 'submit' | 'poll'): Failure;
  /** Finding a job whose answer was lost: where to look for those begun between two times, and which of them could be it. */
  readonly search?: {
    call(from: Millis, to: Millis): Call;
    found(
      reply: Reply,
      order: Order,
    ): { readonly candidates: readonly Reference[] /** The next page. */; readonly next: Call | null };
  };
}
