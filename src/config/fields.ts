// The kinds of values that settings are made of. Numbers and switches may also come as text, since ${VARIABLES} do.

import { BlockList, isIP } from 'node:net';
import { z } from 'zod';

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

/** http or https, without credentials, query or trailing slash. */
export const BaseUrl = z.string().transform((text, context) => {
  const url = URL.parse(text);
  const why =
    url === null || !/^https?:$/.test(url.protocol)
      ? 'expected an http:// or https:// URL'
      : url.username || url.password
        ? 'expected a URL without user name and password'
        : url.search || url.hash
          ? 'expected a URL without ? and #'
          : null;
  if (why !== null || url === null) {
    context.addIssue({ code: 'custom', message: why ?? '' });
    return z.NEVER;
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
});

const never = new BlockList();
never.addSubnet('169.254.0.0', 16, 'ipv4');
never.addSubnet('224.0.0.0', 4, 'ipv4');
never.addAddress('100.100.100.200', 'ipv4');
never.addAddress('0.0.0.0', 'ipv4');
never.addSubnet('fe80::', 10, 'ipv6');
never.addSubnet('ff00::', 8, 'ipv6');
never.addAddress('fd00:ec2::254', 'ipv6');
never.addAddress('::', 'ipv6');
const METADATA_NAMES = ['metadata', 'metadata.google.internal', 'instance-data'];

/** A node may be private, but never link-local (where clouds keep their metadata). Names are checked at each connection. */
export const NodeUrl = BaseUrl.refine((text) => !isForbidden(new URL(text).hostname), {
  error: 'expected an address that is not link-local, multicast or a metadata service',
});

function isForbidden(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  if (family === 0) return METADATA_NAMES.includes(host.replace(/\.$/, '').toLowerCase());
  return never.check(host, family === 6 ? 'ipv6' : 'ipv4');
}

export const DatabaseUrl = z.string().refine((text) => /^postgres(ql)?:$/.test(URL.parse(text)?.protocol ?? ''), {
  error: 'expected a postgres:// URL',
});

/** "10.0.0.0/8", "fd00::/8", or a single address. */
export const AddressRange = z.string().refine(isRange, { error: 'expected an address range like 10.0.0.0/8' });

function isRange(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 6 ? 128 : 32));
}
