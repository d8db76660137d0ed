// Start deadlines: a queued generation that did not start in time becomes `timeout` / `start_timeout`.

import { failure } from '../domain/failure.ts';
import { type Loop, startLoop } from '../system/system.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

const AT_ONCE = 200;

/** Wake it after a submit that has a start deadline. */
export function startDeadlines({ system: { clock, log }, store }: Rooms, recorder: Recorder): Loop {
  return startLoop({
    name: 'start deadlines',
    clock,
    log,
    async tick() {
      const { ids, next } = await store.generations.overdue(clock.now(), AT_ONCE);
      for (const id of ids) await expire(id);
      if (ids.length === AT_ONCE) return 0;
      return next === null ? null : Math.max(1, next - clock.now());
    },
  });

  async function expire(id: string): Promise<void> {
    for (;;) {
      const g = await recorder.get(id);
      if (g === null || g.state.status !== 'queued' || g.startBy === null) return;
      const seconds = Math.round((g.startBy - g.createdAt) / 1000);
      const why = g.state.lastFailure
        ? `It did not start again within ${seconds} s; before that: ${g.state.lastFailure.message}`
        : `It did not start within the ${seconds} s asked for.`;
      const event = { type: 'timed_out', at: clock.now(), failure: failure('start_timeout', why) } as const;
      if ((await recorder.append(g, event)) !== null) return;
    }
  }
}
