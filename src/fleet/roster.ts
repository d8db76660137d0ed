// Who belongs to the fleet now: members by id, in order of joining, and those that have left but still have attempts
// under way. A node that leaves takes no more work and closes when its last attempt is over, so leaving loses nothing.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Backends } from '../backends/backend.ts';
import type { NodeSpec } from '../domain/node.ts';
import type { NodeId } from '../domain/units.ts';
import type { System } from '../system/system.ts';
import { createMember, type Member, type NodeState } from './member.ts';
import type { Timings } from './timings.ts';

export interface Joining {
  readonly spec: NodeSpec;
  readonly source: NodeState['source'];
  readonly draining: boolean;
}

export interface RosterOptions {
  readonly backends: Backends;
  readonly system: System;
  /** Exists; each node gets a directory of its own in it. */
  readonly scratch: string;
  readonly timings: Timings;
  readonly onChange: () => void;
}

export interface Roster {
  all(): readonly Member[];
  get(id: NodeId): Member | undefined;
  join(joining: Joining): Member;
  leave(id: NodeId): void;
  /** Closes everyone, gone or not. */
  close(): Promise<void>;
}

export function createRoster({ backends, system, scratch, timings, onChange }: RosterOptions): Roster {
  const members = new Map<NodeId, Member>();
  const leaving = new Set<Member>();
  return {
    all: () => [...members.values()],
    get: (id) => members.get(id),
    join({ spec, source, draining }) {
      const own = join(scratch, spec.id);
      mkdirSync(own, { recursive: true });
      const connection = backends[spec.kind]({ spec, system, scratch: own });
      const member = createMember({ spec, source, draining, connection, system, timings, onChange });
      members.set(spec.id, member);
      return member;
    },
    leave(id) {
      const member = members.get(id);
      if (member === undefined) return;
      members.delete(id);
      leaving.add(member);
      void member.retire().then(() => leaving.delete(member));
    },
    async close() {
      await Promise.all([...members.values(), ...leaving].map((member) => member.close()));
    },
  };
}
