// Nobody locks the operators out: the key the gateway was started with, and the last admin key, stay.

import { expect, it } from 'vitest';
import { createAccounts, STUDIO } from '../../src/engine/accounts.ts';
import { hashKey } from '../../src/engine/gateway.ts';
import type { Recorder } from '../../src/engine/record.ts';
import { silentLog } from '../../src/system/system.ts';
import { ADMIN_KEY, openHouse } from './house.ts';

const RIGHTS = { scopes: ['admin'] as const, models: null, requestsPerMinute: null, spendCap: null };
const conflict = (sentence: string) => ({ failure: { code: 'conflict', message: expect.stringContaining(sentence) } });

it('the admin key of the settings cannot be deleted, even while there are others', async () => {
  await using house = await openHouse();
  const { gateway, admin } = house;
  await gateway.createKey(STUDIO, { ...RIGHTS, name: 'ops', expiresAt: null });
  await expect(gateway.deleteKey(STUDIO, admin.key.id)).rejects.toMatchObject(conflict('DARKROOM_ADMIN_KEY'));
  expect(await gateway.authenticate(hashKey(ADMIN_KEY))).not.toBeNull();
});

it('the last admin key that still works cannot be deleted, others can', async () => {
  await using house = await openHouse();
  const { store, clock, admin } = house;
  const accounts = createAccounts(
    { store, system: { clock, log: silentLog }, settings: {} } as unknown as Parameters<typeof createAccounts>[0],
    {} as Recorder,
    null,
  );
  const key = { ...RIGHTS, workspaceId: STUDIO, name: 'ops', expiresAt: null };
  const ops = await store.accounts.createKey({ ...key, hash: hashKey('dk_ops') }, clock.now());
  await store.accounts.createKey({ ...key, hash: hashKey('dk_old'), expiresAt: clock.now() }, clock.now());
  await accounts.deleteKey(STUDIO, admin.key.id);
  await expect(accounts.deleteKey(STUDIO, ops.id)).rejects.toMatchObject(conflict('last admin key'));
  await expect(accounts.deleteKey(STUDIO, 'key_none')).rejects.toMatchObject({ failure: { code: 'not_found' } });
});
