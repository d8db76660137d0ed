// The kinds of values that settings are made of. Numbers and switches may also come as text, since ${VARIABLES} do.

import { z } from 'zod';
import { BaseUrl } from '../contract/base-url.ts';
import { complaintAbout, isAddressRange, nodeAddress } from '../system/system.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;

const NUMBER = /^-?\d+(\.\d+)?$/;

/** A number, or text that is one. */
export const numeric = <T extends z.ZodType<number>>(schema: T) =>
  z.preprocess((v) => (typeof v === 'string' && NUMBER.test(v) ? Number(v) : v), schema);

export const Switch = z.preprocess((v) => (v === 'true' ? true : v === 'false' ? false : v), z.boolean());

export const Port = numeric(
  z
    .int({ error: 'expected a port from 0 to 65535' })
    .min(0, { error: 'expected a port from 0 to 65535' })
    .max(65_535, { error: 'expected a port from 0 to 65535' }),
);

export const Secret = z.string().regex(/^\S{1,500}$/, { error: 'expected a key without spaces' });

/** A node may be private, but never link-local (where clouds keep their metadata). Names are checked at each connection. */
export const NodeUrl = BaseUrl.refine((text) => complaintAbout(text, nodeAddress) === null, {
  error: nodeAddress.complaint,
});

export const DatabaseUrl = z.string().refine((text) => /^postgres(ql)?:$/.test(URL.parse(text)?.protocol ?? ''), {
  error: 'expected a postgres:// URL',
});

/** "10.0.0.0/8", "fd00::/8", or a single address. */
export const AddressRange = z.string().refine(isAddressRange, { error: 'expected an address range like 10.0.0.0/8' });
