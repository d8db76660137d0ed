// What the sender remembers of receivers: as much as it needs, of however many there are.

import { expect, it } from 'vitest';
import { createReceivers } from '../../src/engine/receivers.ts';

const NOW = 1_000_000;
const MANY = 6_000;
const at = (n: number | string) => ({ workspaceId: 'studio', url: `https://host-${n}.example/` });

it('keeps what is in flight and what rests in mind, however many others come by', () => {
  const receivers = createReceivers();
  const begun = Array.from({ length: 4 }, () => receivers.begin(at('busy'), NOW));
  receivers.rest(at('resting'), NOW + 60_000, NOW);
  for (let n = 0; n < MANY; n++) receivers.failed(at(n), NOW, 'answered 500');
  expect(receivers.room(at('busy'), NOW)).toBe(0);
  expect([receivers.room(at('resting'), NOW), receivers.nextRested(NOW)]).toEqual([0, NOW + 60_000]);
  expect([receivers.health(at(0)).failures, receivers.health(at(MANY - 1)).failures]).toEqual([0, 1]);
  for (const one of begun) one[Symbol.dispose]();
  expect([receivers.room(at('busy'), NOW), receivers.room(at('resting'), NOW + 60_000)]).toEqual([4, 4]);
});

it('forgets nobody for those it only looked at', () => {
  const receivers = createReceivers();
  receivers.failed(at('known'), NOW, 'answered 500');
  for (let n = 0; n < MANY; n++) expect(receivers.room(at(n), NOW)).toBe(4);
  expect(receivers.health(at('known'))).toMatchObject({ failures: 1, lastError: 'answered 500' });
});

it('goes on while all that it can remember rests', () => {
  const receivers = createReceivers();
  for (let n = 0; n < MANY; n++) receivers.rest(at(n), NOW + 60_000, NOW);
  using _one = receivers.begin(at('late'), NOW);
  expect([receivers.room(at('late'), NOW), receivers.room(at(0), NOW)]).toEqual([3, 0]);
});
