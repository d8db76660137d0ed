// A house whose webhooks may reach loopback, where tests listen, and what tests of the sender do again and again.

import { onTestFinished } from 'vitest';
import type { Delivery } from '../../src/domain/delivery.ts';
import type { Generation } from '../../src/domain/generation.ts';
import { type Behaviour, type Call, type HookReceiver, hookReceiver } from '../doubles/receiver.ts';
import { until } from '../harness/manual-clock.ts';
import { type House, type HouseOptions, openHouse } from './house.ts';

export interface Hooked {
  readonly house: House;
  receiver(first?: Behaviour | ((call: Call) => Behaviour)): Promise<HookReceiver>;
  /** Runs a generation to its end, whatever that is. */
  finish(request?: Parameters<House['ask']>[0]): Promise<Generation>;
  deliveries(filter?: { readonly state?: Delivery['state'] }): Promise<readonly Delivery[]>;
  /** Lets real HTTP happen, without a tick of the clock. */
  calls(receiver: HookReceiver, count: number): Promise<Call>;
  /** Waits until a delivery has so many tries noted. */
  noted(count: number, id?: string): Promise<Delivery>;
}

export async function hooked(options: HouseOptions = {}): Promise<Hooked> {
  const settings = { allowPrivate: ['127.0.0.0/8'], ...options.settings };
  const house = await openHouse({ ...options, settings });
  onTestFinished(() => house[Symbol.asyncDispose]());
  const deliveries = async (filter: { readonly state?: Delivery['state'] } = {}) =>
    (await house.store.deliveries.list(house.admin.workspace.id, filter, 2_000)).data;
  return {
    house,
    async receiver(first) {
      const made = await hookReceiver(first);
      onTestFinished(() => made[Symbol.asyncDispose]());
      return made;
    },
    async finish(request) {
      const { id } = await house.ask(request);
      for (let s = 0; s < 120; s++) {
        const g = await house.state(id);
        if (g.state.status !== 'queued' && g.state.status !== 'running') return g;
        await house.clock.advance(250);
      }
      throw new Error(`${id} did not end`);
    },
    deliveries,
    async calls(receiver, count) {
      await until(() => receiver.calls.length >= count, `call ${count}`);
      return receiver.calls[count - 1] as Call;
    },
    noted: (count, id) =>
      until(
        async () => (await deliveries()).find((d) => (id === undefined || d.id === id) && d.attempts.length >= count),
        `try ${count} to be noted`,
      ),
  };
}
