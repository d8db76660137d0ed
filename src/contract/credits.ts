// Credits on the wire: JSON numbers with at most 3 decimals, exact.

import { z } from 'zod';
import { type Millicredits, toCredits } from '../domain/units.ts';
import { CreditAmount } from './generations.ts';

export const CreditsBody = z
  .object({
    balance: z.number(),
    reserved: z.number().describe('Set aside for queued and running generations.'),
    available: z.number().describe('balance − reserved'),
    unit: z.literal('credits'),
    usd_per_credit: z.number(),
  })
  .meta({ id: 'Credits' });
export type CreditsBody = z.infer<typeof CreditsBody>;

export const GrantRequest = z
  .strictObject({
    amount: CreditAmount.refine((v) => v !== 0, { message: 'expected an amount other than 0' }).describe(
      'Negative takes credits away; the balance never falls below 0.',
    ),
    note: z.string().max(500).optional(),
  })
  .meta({ id: 'GrantRequest' });

export function renderCredits(
  c: { readonly balance: Millicredits; readonly reserved: Millicredits },
  usdPerCredit: number,
): CreditsBody {
  return {
    balance: toCredits(c.balance),
    reserved: toCredits(c.reserved),
    available: toCredits(c.balance - c.reserved),
    unit: 'credits',
    usd_per_credit: usdPerCredit,
  };
}
