// Accounts among the rows of GET /v1/nodes: told apart, and their circuit in a word. Knows only types of the contract, so
// that commands start without its schemas.

import type { AccountBody, MemberBody } from '../contract/nodes.ts';

/** Only accounts have a circuit. */
export const isAccount = (member: MemberBody): member is AccountBody => 'circuit' in member;

/** A closed one that takes no work was drained. */
export const circuitWord = ({ circuit: { state, reason } }: AccountBody): string =>
  state === 'closed' && reason !== null ? 'draining' : state.replace('_', ' ');
