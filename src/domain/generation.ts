// A generation: what was asked, and the state it is in. The state is a tagged union, so no field is ever
// meaningless; `apply` in event.ts is the only thing that moves it.

import type { Failure } from './failure.ts';
import type { Kind } from './model.ts';
import type { Params } from './params.ts';
import type { Quote } from './price.ts';
import type { Bytes, GenerationId, Json, KeyId, Millicredits, Millis, ModelId, NodeId, WorkspaceId } from './units.ts';

export const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'timeout', 'cancelled'] as const;
export type Status = (typeof STATUSES)[number];
export const FINAL = ['succeeded', 'failed', 'timeout', 'cancelled'] as const satisfies readonly Status[];
export type FinalStatus = (typeof FINAL)[number];

export const PRIORITIES = ['interactive', 'batch'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** What a backend needs to find its work again after a restart. Opaque outside the backend that made it. */
export type RemoteRef = { readonly [key: string]: Json };

export interface Output {
  /** 0…n−1. */
  readonly index: number;
  readonly kind: Kind | 'text';
  readonly mediaType: string;
  readonly width: number | null;
  readonly height: number | null;
  readonly bytes: Bytes;
  readonly sha256: string;
  readonly seed: number;
  /** Blob keys: the file served, the kept original (same key when nothing was converted), the thumbnail. */
  readonly blob: string;
  readonly original: string;
  readonly thumbnail: string | null;
  /** The link's expiry. */
  readonly expiresAt: Millis;
}

export type GenerationState =
  | {
      readonly status: 'queued';
      readonly attempt: number;
      readonly notBefore: Millis;
      readonly lastFailure?: Failure;
      /** An item that its batch has not handed over yet: nothing is reserved and no scheduler sees it. */
      readonly held?: true;
    }
  | {
      readonly status: 'running';
      readonly attempt: number;
      readonly node: NodeId;
      readonly startedAt: Millis;
      readonly remote?: RemoteRef;
    }
  | { readonly status: 'succeeded'; readonly outputs: readonly Output[]; readonly finishedAt: Millis }
  | { readonly status: 'failed' | 'timeout' | 'cancelled'; readonly failure: Failure; readonly finishedAt: Millis };

export type StateOf<S extends Status> = Extract<GenerationState, { status: S }>;

/** One run on one node. `outcome` is null while it runs, then 'succeeded', a failure code, or 'handed_over'. */
export interface Attempt {
  readonly n: number;
  readonly node: NodeId;
  readonly backend: string;
  readonly model: ModelId;
  readonly startedAt: Millis;
  readonly finishedAt: Millis | null;
  readonly outcome: string | null;
}

/** What is fixed at submit and never changes. */
export interface Asked {
  readonly id: GenerationId;
  readonly workspaceId: WorkspaceId;
  readonly keyId: KeyId;
  readonly createdAt: Millis;
  readonly priority: Priority;
  readonly batchId: string | null;
  /** Its place among the items of that batch, from 0; null: `batchId` is only a label. */
  readonly item: number | null;
  readonly metadata: Readonly<Record<string, string | number | boolean>>;
  readonly webhookUrl: string | null;
  readonly softenedPrompt: string | null;
  readonly fallback: 'none' | 'model';
  /** Absolute time by which it must have started, or null. */
  readonly startBy: Millis | null;
  /** Per attempt. */
  readonly runWithinMs: Millis;
  readonly maxCredits: Millicredits | null;
  /** Set when the name asked for differs from the model that serves (alias or fallback). */
  readonly requestedModel: ModelId | null;
  readonly idempotencyKey: string | null;
  /** Hash of the logical request: what defines the picture. */
  readonly requestHash: string;
  /** The generation this one replaces after its idempotency key was freed by a failure. */
  readonly previousId: GenerationId | null;
  readonly kind: Kind;
}

export interface Generation extends Asked {
  /** Number of events applied so far; compared by `append`. Starts at 1 (`submitted`). */
  readonly seq: number;
  readonly model: ModelId;
  readonly params: Params;
  readonly quote: Quote;
  readonly warnings: readonly string[];
  readonly attempts: readonly Attempt[];
  /** Places (`placeOf`) to avoid on the next attempt, because they failed this one. */
  readonly avoid: readonly string[];
  readonly softened: boolean;
  /** Millicredits still set aside / finally taken. */
  readonly reserved: Millicredits;
  readonly charged: Millicredits;
  readonly state: GenerationState;
}

export const isFinal = (g: { readonly state: GenerationState }): boolean =>
  g.state.status !== 'queued' && g.state.status !== 'running';

/** An item whose batch keeps it back. */
export const isHeld = ({ state }: { readonly state: GenerationState }): boolean =>
  state.status === 'queued' && state.held === true;
