// The authenticated side of a request: whose work it is and what it may do.

import type { KeyId, Millicredits, Millis, ModelId, WorkspaceId } from './units.ts';

export const SCOPES = ['generate', 'read', 'webhooks', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

export interface WorkspaceLimits {
  /** Generations running at once. */
  readonly concurrency: number;
  /** Generations queued at once. */
  readonly queue: number;
  readonly requestsPerMinute: number | null;
}

export const DEFAULT_LIMITS: WorkspaceLimits = { concurrency: 50, queue: 100_000, requestsPerMinute: null };

export interface Workspace {
  readonly id: WorkspaceId;
  readonly name: string;
  readonly createdAt: Millis;
  readonly limits: WorkspaceLimits;
  /** Write provenance into files. */
  readonly provenance: boolean;
}

export interface Key {
  readonly id: KeyId;
  readonly workspaceId: WorkspaceId;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Allowed models, or null for all. */
  readonly models: readonly ModelId[] | null;
  readonly expiresAt: Millis | null;
  readonly requestsPerMinute: number | null;
  readonly spendCap: Millicredits | null;
  readonly createdAt: Millis;
}

/** The workspace acted in (an admin may name another) and the key that acts. */
export interface Caller {
  readonly workspace: Workspace;
  readonly key: Key;
}

/** `admin` includes everything; `generate` includes reading. */
export function may(caller: { readonly key: Pick<Key, 'scopes'> }, scope: Scope): boolean {
  const { scopes } = caller.key;
  return scopes.includes('admin') || scopes.includes(scope) || (scope === 'read' && scopes.includes('generate'));
}
