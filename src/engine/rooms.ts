// What the engine stands on, passed by name.

import type { Catalog } from '../catalog/catalog.ts';
import type { Blocklist } from '../domain/blocklist.ts';
import type { WorkspaceLimits } from '../domain/caller.ts';
import type { Policy } from '../domain/placement.ts';
import type { Bytes, Millicredits, Millis, WorkspaceId } from '../domain/units.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Media } from '../media/media.ts';
import type { Store } from '../store/store.ts';
import type { System } from '../system/system.ts';

export interface Settings {
  readonly defaultModel: string;
  readonly usdPerCredit: number;
  readonly limits: WorkspaceLimits;
  readonly policy: Policy;
  readonly drainMs: Millis;
  readonly provenance: boolean;
  readonly allowPrivate: readonly string[];
  readonly linkMs: Millis;
  readonly retentionMs: Millis | null;
  readonly quotaBytes: Bytes | null;
  readonly studioCredits: Millicredits;
  /** A prompt that one provider refused may be offered to the next. */
  readonly refusedElsewhere: boolean;
  /** What prompts of this workspace may not contain. */
  readonly blocklistOf: (workspace: WorkspaceId) => Blocklist;
  /** Goes into provenance, and to receivers of webhooks: "Darkroom 0.1.0". */
  readonly software: string;
  /** Base of the links in webhooks, without trailing slash: known once the doors listen, and nothing is sent before. */
  readonly baseUrl: Promise<string>;
}

export interface Rooms {
  readonly system: System;
  readonly store: Store;
  readonly fleet: Fleet;
  readonly media: Media;
  readonly catalog: Catalog;
  readonly settings: Settings;
}
