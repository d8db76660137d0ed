// Accounts among the rows of GET /v1/nodes: told apart, and their circuit in a word. Knows only types of the contract, so
// that commands start without its schemas.

import type { AccountBody, MemberBody } from '../contract/nodes.ts';

/** Only accounts have a circuit. */
export const isAccount = (member: MemberBody): member is AccountBody => 'circuit' in member;

export const circuitWord = ({ draining, circuit: { state } }: AccountBody): string =>
  draining ? 'draining' : state.replace('_', ' ');

/** Why it takes no work, or one at a time; null: it takes all. */
export const reasonOf = ({ draining, circuit: { reason } }: AccountBody): string | null =>
  [draining ? 'drained by an operator' : [], reason ?? []].flat().join('; ') || null;
