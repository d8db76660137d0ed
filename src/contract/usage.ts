// Usage on the wire: what was charged in a span of time, summed by day, model, node, key, batch or a metadata key.

import { z } from 'zod';
import { type Millicredits, toCredits } from '../domain/units.ts';
import { ListQuery } from './lists.ts';

const moment = z.union([z.iso.datetime({ offset: true }), z.iso.date()], {
  error: 'expected a date (2026-04-30) or an RFC 3339 time (2026-04-30T09:17:42Z)',
});

export const UsageQuery = ListQuery.extend({
  from: moment.optional().describe('Inclusive; from the beginning when absent.'),
  to: moment.optional().describe('Exclusive; until now when absent.'),
  group_by: z
    .string()
    .regex(/^(day|model|node|key|batch|metadata\..{1,64})$/, {
      message: 'expected day, model, node, key, batch or metadata.KEY',
    })
    .optional(),
});
export type UsageQuery = z.infer<typeof UsageQuery>;

const sums = { jobs: z.int(), outputs: z.int(), credits: z.number(), node_seconds: z.number() };
export const UsageRowBody = z.object({ key: z.string().nullable(), ...sums }).meta({ id: 'UsageRow' });
export const UsageBody = z
  .object({
    data: z.array(UsageRowBody),
    next_cursor: z.string().nullable(),
    total: z.object(sums).describe('Over the whole span, whatever the page.'),
  })
  .meta({ id: 'Usage' });

export interface UsageSums {
  readonly jobs: number;
  readonly outputs: number;
  readonly credits: Millicredits;
  readonly nodeSeconds: number;
}

export function renderUsage(row: UsageSums): Omit<z.infer<typeof UsageRowBody>, 'key'> {
  return {
    jobs: row.jobs,
    outputs: row.outputs,
    credits: toCredits(row.credits),
    node_seconds: Math.round(row.nodeSeconds * 1000) / 1000,
  };
}
