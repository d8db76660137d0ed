import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Meters } from '../../src/domain/meters.ts';
import type { Given } from '../../src/domain/node.ts';
import { DEFAULT_POLICY, type LaneView, obstacle, place } from '../../src/domain/placement.ts';
import { lane, node, route } from './given.ts';

const NOW = 1_000_000;
const ask = (
  lanes: readonly LaneView[],
  nodes: ReturnType<typeof node>[],
  meter: Record<string, number> = {},
  policy = DEFAULT_POLICY,
) => place({ now: NOW, lanes, nodes, meter: (w) => meter[w] ?? 0, policy });
const gen = (n: number) => `gen_${String(n).padStart(26, '0')}`;
const timing = () => ({ renderMs: 10_000, loadMs: 20_000 });

describe('who may run where', () => {
  it('needs kind, labels, checkpoint, node classes and LoRAs', () => {
    const needs = (over = {}) => ({ ...(lane().routes[0] as LaneView['routes'][number]), ...over });
    expect(obstacle(node('a'), needs())).toBeNull();
    expect(obstacle(node('a', { kind: 'sdapi' }), needs())).toMatch(/another kind/);
    expect(obstacle(node('a', { status: 'wedged' }), needs())).toMatch(/wedged/);
    expect(obstacle(node('a', { report: null }), needs())).toMatch(/not been probed/);
    expect(obstacle(node('a'), lane({}, 'other.safetensors').routes[0] as LaneView['routes'][number])).toMatch(
      /lacks the checkpoint/,
    );
    expect(obstacle(node('a'), lane({}, 'sub\\flux.safetensors').routes[0] as LaneView['routes'][number])).toMatch(
      /lacks the checkpoint/,
    );
    expect(obstacle(node('a'), needs(), ['style'])).toBeNull();
    expect(obstacle(node('a'), needs(), ['nobody-has-it'])).toMatch(/lacks the LoRA/);
  });
  it('compares checkpoints without regard to slash direction', () => {
    const report = { ...node('a').report, checkpoints: ['sub\\flux.safetensors'] } as NonNullable<
      ReturnType<typeof node>['report']
    >;
    expect(ask([lane({}, 'sub/flux.safetensors')], [node('a', { report })])?.node).toBe('a');
  });
});

describe('placement', () => {
  it('answers null when nothing is free, and when nothing fits', () => {
    expect(ask([lane()], [node('a', { freeSlots: 0 })])).toBeNull();
    expect(ask([lane({}, 'missing.safetensors')], [node('a')])).toBeNull();
  });
  it('prefers the node that holds the model', () => {
    const nodes = [node('a', { timing }), node('b', { timing, resident: ['flux.safetensors'] })];
    expect(ask([lane()], nodes)).toMatchObject({ node: 'b', warm: true, expectMs: 10_000 });
  });
  it('lets a job wait for a busy warm node that will finish it sooner than a swap would', () => {
    const warm = node('b', { timing, resident: ['flux.safetensors'], freeSlots: 0, remainingMs: 5_000 });
    expect(ask([lane()], [node('a', { timing }), warm])).toBeNull();
    expect(ask([lane()], [node('a', { timing }), { ...warm, remainingMs: 60_000 }])?.node).toBe('a');
  });
  it('serves the workspace that has had less, when both are equally warm', () => {
    const nodes = [node('a', { timing, resident: ['flux.safetensors'] })];
    const lanes = [
      lane({ workspaceId: 'rich', id: gen(1) }),
      lane({ workspaceId: 'poor', id: gen(2), createdAt: 2000 }),
    ];
    expect(ask(lanes, nodes, { rich: 50_000, poor: 10_000 })?.lane.workspaceId).toBe('poor');
  });
  it('keeps the warm model going until the meter outweighs three times the swap', () => {
    const nodes = [node('a', { timing, resident: ['flux.safetensors'] })];
    const lanes = [
      lane({ workspaceId: 'warm', createdAt: NOW }),
      lane({ workspaceId: 'cold', id: gen(2), createdAt: NOW }, 'sdxl.safetensors'),
    ];
    const surcharge = DEFAULT_POLICY.swapWorth * 40_000; // loading sdxl, and reloading flux which still has work
    expect(ask(lanes, nodes, { warm: surcharge - 1 })?.lane.workspaceId).toBe('warm');
    expect(ask(lanes, nodes, { warm: surcharge + 1 })?.lane.workspaceId).toBe('cold');
    expect(ask(lanes, nodes, { warm: 1 }, { ...DEFAULT_POLICY, swapWorth: 0 })?.lane.workspaceId).toBe('cold');
  });
  it('melts the surcharge with waiting, on nodes that have earned the swap', () => {
    const cold = lane(
      { workspaceId: 'cold', id: gen(2), createdAt: NOW - DEFAULT_POLICY.patienceMs },
      'sdxl.safetensors',
    );
    const lanes = [lane({ workspaceId: 'warm', createdAt: NOW }), cold];
    const earned = node('a', { timing, resident: ['flux.safetensors'], renderedSinceLoadMs: 200_000 });
    expect(ask(lanes, [earned])?.lane.workspaceId).toBe('cold');
    expect(ask(lanes, [{ ...earned, renderedSinceLoadMs: 0 }])?.lane.workspaceId).toBe('warm');
  });
  it('takes people before batches, people by age', () => {
    const nodes = [node('a', { timing, resident: ['flux.safetensors'] })];
    const batch = lane({ priority: 'batch', id: gen(1), createdAt: 1 }, 'flux.safetensors', 500);
    const late = lane({ id: gen(3), createdAt: 3000, model: 'b' });
    const early = lane({ id: gen(2), createdAt: 2000 });
    expect(ask([batch, late, early], nodes)?.head.id).toBe(gen(2));
  });
  it('avoids a node that failed this work, unless no other online node could run it', () => {
    const avoiding = [lane({ avoid: ['a'] })];
    expect(ask(avoiding, [node('a'), node('b')])?.node).toBe('b');
    expect(ask(avoiding, [node('a'), node('b', { freeSlots: 0 })])).toBeNull();
    expect(ask(avoiding, [node('a'), node('b', { status: 'offline' })])?.node).toBe('a');
  });

  it('is work-conserving and lawful for any question', () => {
    const checkpoints = ['flux.safetensors', 'sdxl.safetensors', 'sd15.safetensors'];
    const someLane = fc.record({
      w: fc.integer({ min: 0, max: 4 }),
      c: fc.constantFrom(...checkpoints),
      at: fc.integer({ min: 0, max: NOW }),
      batch: fc.boolean(),
      q: fc.integer({ min: 1, max: 1000 }),
    });
    const someNode = fc.record({
      free: fc.integer({ min: 0, max: 2 }),
      held: fc.constantFrom(undefined, ...checkpoints),
      left: fc.integer({ min: 0, max: 60_000 }),
    });
    fc.assert(
      fc.property(
        fc.array(someLane, { minLength: 1, maxLength: 12 }),
        fc.array(someNode, { minLength: 1, maxLength: 6 }),
        (ls, ns) => {
          const lanes = ls.map((l, i) =>
            lane(
              { workspaceId: `w${l.w}`, id: gen(i), createdAt: l.at, priority: l.batch ? 'batch' : 'interactive' },
              l.c,
              l.q,
            ),
          );
          const nodes = ns.map((n, i) =>
            node(`n${i}`, {
              timing,
              freeSlots: n.free,
              remainingMs: n.free ? 0 : n.left,
              resident: n.held ? [n.held] : [],
            }),
          );
          const placed = ask(lanes, nodes);
          const free = nodes.filter((n) => n.freeSlots > 0);
          if (free.length === 0) return placed === null;
          const chosen = free.find((n) => n.id === placed?.node);
          const allFree = free.length === nodes.length;
          return placed === null
            ? !allFree
            : chosen !== undefined && placed.warm === chosen.resident.includes(placed.residency);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('routes where money is spent', () => {
  const needs = (over: Parameters<typeof route>[0]) => ({ route: route(over), classes: [], files: [] });
  const box = needs({});
  const hosted = needs({ backend: 'replicate', checkpoint: null, workflow: null, remote: 'x/y' });
  const account = (id = 'replicate', over: Parameters<typeof node>[1] = {}) => node(id, { kind: 'replicate', ...over });
  const waiting = (routes: LaneView['routes'], more: Parameters<typeof lane>[0] = {}) => ({ ...lane(more), routes });
  const overflow = { ...DEFAULT_POLICY, overflowMs: () => 60_000 };

  it('stays in the house while a box could serve, however busy it is', () => {
    const nodes = [node('rack-1', { freeSlots: 0, remainingMs: 900_000 }), account()];
    expect(ask([waiting([box, hosted])], nodes)).toBeNull();
  });
  it('goes to the account when no box can serve', () => {
    for (const status of ['offline', 'wedged', 'draining'] as const) {
      expect(ask([waiting([box, hosted])], [node('rack-1', { status }), account()])?.node).toBe('replicate');
    }
    const bare = node('rack-1', { report: { ...node('x').report, checkpoints: [] } as never });
    expect(ask([waiting([box, hosted])], [bare, account()])?.node).toBe('replicate');
  });
  it('goes to no account whose model never takes what is given, nor waits for it', () => {
    const refuses = (_: unknown, { pictures, loras }: Given) =>
      pictures.length + loras.length > 0 ? 'takes no pictures' : null;
    const picky = account('replicate', { refuses });
    const pictured = (routes: LaneView['routes']) =>
      waiting(routes.map((one) => ({ ...one, pictures: ['init_image'] as const })));
    const down = node('rack-1', { status: 'offline' });
    expect(ask([pictured([box, hosted])], [down, picky])).toBeNull();
    const plain = waiting([box, { ...hosted, pictures: [] }]);
    expect(ask([{ ...plain, lane: { ...plain.lane, loras: ['ink'] } }], [down, picky])).toBeNull();
    expect(ask([plain], [down, picky])?.node).toBe('replicate');
    expect(ask([pictured([hosted, box])], [node('rack-1'), { ...picky, freeSlots: 0 }])?.node).toBe('rack-1');
  });
  it('overflows to the account once it has waited longer than is tolerated', () => {
    const nodes = [node('rack-1', { freeSlots: 0 }), account()];
    const at = (createdAt: number) => ask([waiting([box, hosted], { createdAt })], nodes, {}, overflow)?.node ?? null;
    expect(at(NOW - 60_001)).toBe('replicate');
    expect(at(NOW - 60_000)).toBeNull();
  });
  it('overflows at once where the box is known to be busy for longer than is tolerated', () => {
    const busy = (remainingMs: number) => [node('rack-1', { freeSlots: 0, remainingMs }), account()];
    const at = (createdAt: number, remainingMs: number) =>
      ask([waiting([box, hosted], { createdAt })], busy(remainingMs), {}, overflow)?.node ?? null;
    expect(at(NOW, 60_000)).toBeNull();
    expect(at(NOW, 60_001)).toBe('replicate');
    expect(at(NOW - 40_000, 20_001)).toBe('replicate');
    const another = node('rack-2', { freeSlots: 0, remainingMs: 5_000 });
    expect(ask([waiting([box, hosted], { createdAt: NOW })], [...busy(900_000), another], {}, overflow)).toBeNull();
  });
  it('waits as long as the workspace tolerates it', () => {
    const nodes = [node('rack-1', { freeSlots: 0 }), account()];
    const policy = { ...DEFAULT_POLICY, overflowMs: (id: string) => (id === 'hasty' ? 10_000 : null) };
    const of = (workspaceId: string) =>
      ask([waiting([box, hosted], { workspaceId, createdAt: NOW - 20_000 })], nodes, {}, policy)?.node ?? null;
    expect([of('hasty'), of('thrifty')]).toEqual(['replicate', null]);
  });
  it('overflows only to a later route while no earlier one is free', () => {
    const late = waiting([box, hosted], { createdAt: NOW - 90_000 });
    expect(ask([late], [node('rack-1', { timing }), account('replicate')], {}, overflow)?.node).toBe('rack-1');
    const first = waiting([hosted, box], { createdAt: NOW - 90_000 });
    expect(ask([first], [node('rack-1'), account('replicate')], {}, overflow)?.node).toBe('replicate');
  });
  it("counts the waiting of a batch's item from when it came to the head", () => {
    const nodes = [node('rack-1', { freeSlots: 0 }), account()];
    const item = {
      ...waiting([box, hosted], { priority: 'batch', createdAt: NOW - 90_000 }),
      lastServedAt: NOW - 5_000,
    };
    expect(ask([item], nodes, {}, overflow)).toBeNull();
    expect(ask([{ ...item, lastServedAt: NOW - 60_001 }], nodes, {}, overflow)?.node).toBe('replicate');
  });
  it('waits neither for an account that is on trial nor for one that said "not now"', () => {
    const fal = needs({ backend: 'fal', checkpoint: null, workflow: null, remote: 'fal-ai/x' });
    for (const shy of [{ onTrial: true }, { limited: true }]) {
      const nodes = [account('replicate', { ...shy, freeSlots: 0 }), node('fal', { kind: 'fal' })];
      expect(ask([waiting([hosted, fal])], nodes)?.node).toBe('fal');
      const trial = [account('replicate', { ...shy, freeSlots: 1 }), node('fal', { kind: 'fal' })];
      expect(ask([waiting([hosted, fal])], trial)?.node).toBe('replicate');
    }
  });
  it('keeps the order among accounts, and when they come first', () => {
    const fal = needs({ backend: 'fal', checkpoint: null, workflow: null, remote: 'fal-ai/x' });
    const other = node('fal', { kind: 'fal' });
    expect(ask([waiting([hosted, fal])], [account('replicate', { freeSlots: 0 }), other])).toBeNull();
    expect(ask([waiting([hosted, fal])], [account('replicate', { status: 'offline' }), other])?.node).toBe('fal');
    expect(ask([waiting([hosted, box])], [account('replicate', { freeSlots: 0 }), node('rack-1')])).toBeNull();
    expect(ask([waiting([hosted, box])], [account('replicate', { status: 'offline' }), node('rack-1')])?.node).toBe(
      'rack-1',
    );
  });
  it('goes on to the next route where the earlier one failed this very work', () => {
    const nodes = [node('rack-1'), account()];
    expect(ask([waiting([box, hosted], { avoid: ['rack-1'] })], nodes)?.node).toBe('replicate');
  });
  it('goes on to the next route of the same account, and back to the first when both have failed', () => {
    const second = needs({ backend: 'replicate', checkpoint: null, workflow: null, remote: 'x/z' });
    const asked = (...avoid: string[]) => ask([waiting([hosted, second], { avoid })], [account()])?.route.remote;
    expect(asked()).toBe('x/y');
    expect(asked('replicate/x/y')).toBe('x/z');
    expect(asked('replicate/x/y', 'replicate/x/z')).toBe('x/y');
  });
  it('uses the account that the route names', () => {
    const named = needs({ backend: 'replicate', checkpoint: null, workflow: null, remote: 'x/y', account: 'night' });
    expect(ask([waiting([named])], [account('day'), account('night')])?.node).toBe('night');
    expect(ask([waiting([named])], [account('day')])).toBeNull();
  });
  it('counts nothing for loading there, so that an account never looks like a swap', () => {
    const placed = ask([waiting([hosted])], [account()]);
    expect(placed).toMatchObject({ warm: true, expectMs: 10_000 });
  });
});

describe('meters', () => {
  it('give no credit for idling', () => {
    const meters = new Meters();
    meters.charge('busy', 90_000);
    meters.raise(['busy']);
    meters.enter('back');
    expect(meters.get('back')).toBe(90_000);
  });
  it('share a node evenly between two backlogs', () => {
    const meters = new Meters();
    const served = { a: 0, b: 0 };
    const nodes = [node('n', { timing, resident: ['flux.safetensors'] })];
    for (let i = 0; i < 100; i++) {
      const lanes = [lane({ workspaceId: 'a', id: gen(1) }), lane({ workspaceId: 'b', id: gen(2) })];
      const placed = place({ now: NOW, lanes, nodes, meter: (w) => meters.get(w), policy: DEFAULT_POLICY });
      const workspace = placed?.lane.workspaceId as 'a' | 'b';
      served[workspace]++;
      meters.charge(workspace, placed?.expectMs ?? 0);
    }
    expect(Math.abs(served.a - served.b)).toBeLessThanOrEqual(1);
  });
});
