// What an alert on accounts rests on: the circuit counts as open until something has succeeded there.

import { expect, it } from 'vitest';
import { createMetrics } from '../../src/api/http/metrics.ts';
import type { NodeState } from '../../src/fleet/fleet.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { fakeGateway } from './fake-gateway.ts';

const account = (id: string, breaker: NonNullable<NodeState['breaker']>): NodeState => ({
  spec: { id, kind: 'fal', url: '', labels: [], auth: null, slots: 1 },
  source: 'config',
  status: breaker === 'open' ? 'offline' : 'online',
  why: null,
  report: null,
  running: 0,
  since: 0,
  breaker,
});

it('an account that nobody has tried since its circuit opened still counts as open', async () => {
  const { stats } = fakeGateway(new ManualClock());
  const nodes = [account('a', 'closed'), account('b', 'open'), account('c', 'half_open')];
  const metrics = createMetrics({ stats: () => ({ ...stats(), nodes }) });
  const { text } = await metrics.render();
  metrics.close();
  const circuits = text.split('\n').filter((line) => line.startsWith('darkroom_account_circuit_open'));
  expect(circuits.map((line) => line.replace(/.*account="(.)".* /, '$1 '))).toEqual(['a 0', 'b 1', 'c 1']);
});
