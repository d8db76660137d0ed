// Which addresses the gateway may reach. One truth for the friendly check of a URL's text and for the check that counts:
// the one at every connection, after the name was resolved.

import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** IANA's special-purpose registries: what is not the public internet. */
const RESERVED = addressList([
  ...'0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24'.split(' '),
  ...'192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4'.split(' '),
  // inside the only public IPv6 block: tunnels that can hide a private address, and examples
  ...'2001::/23 2001:db8::/32 2002::/16 3fff::/20'.split(' '),
]);
const PUBLIC_6 = addressList(['2000::/3']);
const MAPPED = addressList(['::ffff:0:0/96']);
/** Link-local (clouds keep their credentials there), multicast, metadata and unspecified addresses are never a node's. */
const NEVER = addressList([
  ...'0.0.0.0 169.254.0.0/16 224.0.0.0/4 100.100.100.200'.split(' '),
  ...':: fe80::/10 ff00::/8 fd00:ec2::254'.split(' '),
]);
/** Names whose address is known without asking. */
const KNOWN_NAMES: ReadonlyMap<string, string> = new Map([
  ['localhost', '127.0.0.1'],
  ...['metadata', 'metadata.google.internal', 'instance-data'].map((name) => [name, '169.254.169.254'] as const),
]);

/** Is this an address, or a CIDR range like "10.0.0.0/8" or "fd00::/8"? */
export function isAddressRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

/** Addresses and CIDR ranges of both families. Throws on anything else. */
function addressList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    if (!isAddressRange(range)) throw new TypeError(`${range} is not an address range`);
    const [address = '', bits] = range.split('/');
    const v6 = isIP(address) === 6;
    list.addSubnet(address, Number(bits ?? (v6 ? 128 : 32)), v6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

const within = (list: BlockList, ip: string): boolean => list.check(ip, isIP(ip) === 4 ? 'ipv4' : 'ipv6');

function isPublic(ip: string): boolean {
  if (isIP(ip) === 4 || within(MAPPED, ip)) return !within(RESERVED, ip);
  return within(PUBLIC_6, ip) && !within(RESERVED, ip);
}

/** What may be reached, and how a refusal is put. */
export interface Reach {
  allows(ip: string): boolean;
  readonly complaint: string;
}

/** An operator's own boxes: private is fine, link-local and metadata never. */
export const nodeAddress: Reach = {
  allows: (ip) => !within(NEVER, ip),
  complaint: 'expected an address that is not link-local, multicast or a metadata service',
};

/** The public internet, and what the operator allows besides. Throws on a range that is none. */
export function publicAddress(allowPrivate: readonly string[]): Reach {
  const allowed = addressList(allowPrivate);
  return {
    allows: (ip) => isPublic(ip) || within(allowed, ip),
    complaint: 'points at a private or reserved address',
  };
}

/** Only what the operator allows by address. */
export function listedAddress(allowPrivate: readonly string[]): Reach {
  const allowed = addressList(allowPrivate);
  return { allows: (ip) => within(allowed, ip), complaint: 'is not on the list of allowed addresses' };
}

/**
 * Why a URL may not be reached, or null. Looks at the text only: scheme, credentials, and literal addresses in any
 * spelling (the URL parser turns decimal, octal, hex and short forms into dotted quads).
 */
export function complaintAbout(url: string, reach: Reach): string | null {
  const parsed = URL.parse(url);
  if (parsed === null) return 'is not a URL';
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') return 'must start with https: or http:';
  if (parsed.username !== '' || parsed.password !== '') return 'must not carry a user name or password';
  const ip = literalOf(parsed.hostname);
  return ip === null || reach.allows(ip) ? null : reach.complaint;
}

/** The IP address a host name spells out or is known for; null when it has to be resolved. */
function literalOf(hostname: string): string | null {
  const name = hostname.replace(/\.$/, '');
  const known = KNOWN_NAMES.get(name.replace(/^.+\.(?=localhost$)/, ''));
  if (known !== undefined) return known;
  const bare = name.replace(/^\[|\]$/g, '');
  return isIP(bare) === 0 ? null : bare;
}

/** The `code` of the error with which a guarded resolver refuses. */
export const REFUSED_ADDRESS = 'EREFUSEDADDRESS';

/** A resolver that hands out allowed addresses only, so that a name that changes its mind gains nothing. */
export function guardedLookup(reach: Reach): LookupFunction {
  return (hostname, options, callback) => {
    dnsLookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      if (error) return callback(error, '', 0);
      const allowed = found.filter(({ address }) => reach.allows(address));
      const first = allowed[0];
      if (first === undefined || allowed.length < found.length) {
        const refused = new Error(`${hostname} resolves to an address that may not be reached`);
        return callback(Object.assign(refused, { code: REFUSED_ADDRESS }), '', 0);
      }
      if (options.all) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}
