// What a call of the client was rejected with.

import { expect } from 'vitest';
import { DarkroomError } from '../../src/client/client.ts';

export async function errorOf(promise: Promise<unknown>): Promise<DarkroomError> {
  const error = await promise.then(
    () => expect.fail('it did not reject'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof DarkroomError)) throw error;
  return error;
}
