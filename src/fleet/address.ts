// Where a node may live. Private addresses are what nodes have; link-local ones, where clouds keep their credentials,
// never are. Names are checked again after resolution, by System.http at each connection.

import { BlockList, isIP } from 'node:net';
import { GatewayError } from '../domain/failure.ts';
import type { NodeSpec } from '../domain/node.ts';

const NEVER = new BlockList();
NEVER.addSubnet('169.254.0.0', 16, 'ipv4');
NEVER.addSubnet('224.0.0.0', 4, 'ipv4');
NEVER.addAddress('100.100.100.200', 'ipv4');
NEVER.addSubnet('fe80::', 10, 'ipv6');
NEVER.addSubnet('ff00::', 8, 'ipv6');
NEVER.addAddress('fd00:ec2::254', 'ipv6');
const METADATA_NAMES = new Set(['metadata', 'metadata.google.internal', 'instance-data']);

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Throws GatewayError('invalid_request') naming the field, for an id or address a node may never have. */
export function checkSpec({ id, kind, url }: NodeSpec): void {
  if (!ID.test(id)) throw refused('id', 'expected letters, digits, dot, dash or _');
  if (kind === 'sketch') return;
  const complaint = complaintAbout(url);
  if (complaint !== null) throw refused('url', complaint);
}

function complaintAbout(address: string): string | null {
  const url = URL.parse(address);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return 'expected an http(s) URL';
  if (url.username || url.password) return 'expected credentials in auth, not in the URL';
  if (url.search || url.hash) return 'expected a base URL without query or fragment';
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const family = isIP(host);
  const never = family === 0 ? METADATA_NAMES.has(host) : NEVER.check(host, family === 6 ? 'ipv6' : 'ipv4');
  return never ? 'link-local, multicast and metadata addresses are never a node' : null;
}

const refused = (path: string, message: string) =>
  new GatewayError('invalid_request', `This cannot be a node: ${message}.`, { details: [{ path, message }] });
