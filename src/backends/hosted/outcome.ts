// What came of a job, told from what came of its parts.

import { type Failure, failure } from '../../domain/failure.ts';
import { PAID } from './answered.ts';

const REFUSALS: ReadonlySet<Failure['code']> = new Set(['policy_block', 'safety_filter']);

/** What may have been paid comes first, then what the caller can mend. */
export const worstOf = (failures: readonly Failure[]): Failure | null =>
  failures.find(({ possiblyBilled }) => possiblyBilled) ??
  failures.find(({ code }) => REFUSALS.has(code)) ??
  failures[0] ??
  null;

/** It was done, and there is no picture. */
export const nothing = (withheld: number): Failure =>
  withheld > 0
    ? failure('safety_filter', 'The provider made the picture and withheld it.')
    : failure('model_error', 'The provider said it was done, without a picture.', PAID);

/** A warning for what is missing. */
export function shortOf(missing: number, withheld: number, failed: Failure | null): string {
  const why = withheld > 0 ? 'the provider withheld them' : (failed?.message ?? 'the provider made fewer');
  return `${missing} of the pictures asked for ${missing === 1 ? 'is' : 'are'} missing: ${why}`;
}
