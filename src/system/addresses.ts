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
/** Link-local (clouds keep their credentials there), multicast and metadata addresses are never a node's. */
const NEVER = addressList([
  '169.254.0.0/16',
  '224.0.0.0/4',
  '100.100.100.200',
  'fe80::/10',
  'ff00::/8',
  'fd00:ec2::254',
]);

/** Addresses and CIDR ranges of both families. Throws on anything else. */
export function addressList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    list.addSubnet(address, bits === undefined ? (family === 'ipv6' ? 128 : 32) : Number(bits), family);
  }
  return list;
}

const within = (list: BlockList, ip: string): boolean => list.check(ip, isIP(ip) === 4 ? 'ipv4' : 'ipv6');

function isPublic(ip: string): boolean {
  if (isIP(ip) === 4 || within(MAPPED, ip)) return !within(RESERVED, ip);
  return within(PUBLIC_6, ip) && !within(RESERVED, ip);
}

/** May this IP address be reached? */
export type Allows = (ip: string) => boolean;

/** An operator's own boxes: private is fine, link-local and metadata never. */
export const nodeAddress: Allows = (ip) => !within(NEVER, ip);

/** The public internet, and what the operator allows besides. */
export function publicAddress(allowPrivate: readonly string[]): Allows {
  const allowed = addressList(allowPrivate);
  return (ip) => isPublic(ip) || within(allowed, ip);
}

/**
 * Why a URL may not be reached, or null. Looks at the text only: scheme, credentials, and literal addresses in any
 * spelling (the URL parser turns decimal, octal, hex and short forms into dotted quads).
 */
export function complaintAbout(url: string, allows: Allows): string | null {
  const parsed = URL.parse(url);
  if (parsed === null) return 'is not a URL';
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') return 'must start with https: or http:';
  if (parsed.username !== '' || parsed.password !== '') return 'must not carry a user name or password';
  const ip = literalOf(parsed.hostname);
  return ip === null || allows(ip) ? null : 'points at a private or reserved address';
}

/** The IP address a host name spells out, `localhost` included; null when it has to be resolved. */
function literalOf(hostname: string): string | null {
  const name = hostname.replace(/\.$/, '');
  if (name === 'localhost' || name.endsWith('.localhost')) return '127.0.0.1';
  const bare = name.replace(/^\[|\]$/g, '');
  return isIP(bare) === 0 ? null : bare;
}

/** The `code` of the error with which a guarded resolver refuses. */
export const REFUSED_ADDRESS = 'EREFUSEDADDRESS';

/** A resolver that hands out allowed addresses only, so that a name that changes its mind gains nothing. */
export function guardedLookup(allows: Allows): LookupFunction {
  return (hostname, options, callback) => {
    dnsLookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      if (error) return callback(error, '', 0);
      const allowed = found.filter(({ address }) => allows(address));
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
