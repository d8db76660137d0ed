// Pictures that callers name instead of sending: data: URLs are decoded in bounds, other URLs are refused when they
// point at a private address by their very text and fetched under guard. Names are checked again at every connection
// by the HTTP client, so this check is only the early, friendly half.

import { BlockList, isIP } from 'node:net';
import { Readable } from 'node:stream';
import { GatewayError } from '../domain/failure.ts';
import { type Http, HttpError } from '../system/system.ts';

export const MAX_INPUT_BYTES = 64 * 1024 * 1024;
const FETCH_MS = 20_000;

/** IANA's special-purpose registries: what is not the public internet. */
const RESERVED_4 = (
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 ' +
  '192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4'
).split(' ');
/** Inside the only public block, 2000::/3. The others are tunnels that can hide a private address, and examples. */
const RESERVED_6 = '2001::/23 2001:db8::/32 2002::/16 3fff::/20'.split(' ');
const PUBLIC_6 = blockList(['2000::/3']);
const RESERVED = blockList([...RESERVED_4, ...RESERVED_6]);

function blockList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    list.addSubnet(address, bits === undefined ? (family === 'ipv6' ? 128 : 32) : Number(bits), family);
  }
  return list;
}

const MAPPED = blockList(['::ffff:0:0/96']);

function isPublic(host: string): boolean {
  if (isIP(host) === 4) return !RESERVED.check(host, 'ipv4');
  if (MAPPED.check(host, 'ipv6')) return !RESERVED.check(host, 'ipv6');
  return PUBLIC_6.check(host, 'ipv6') && !RESERVED.check(host, 'ipv6');
}

/**
 * Why a URL may not be reached, or null. Looks at the text only: scheme, credentials, and literal addresses in any
 * spelling (the URL parser turns decimal, octal, hex and short forms into dotted quads). `allowPrivate`: addresses and CIDR ranges.
 */
export function checkPublicUrl(url: string, allowPrivate: readonly string[]): string | null {
  const parsed = URL.parse(url);
  if (parsed === null) return 'is not a URL';
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') return 'must start with https: or http:';
  if (parsed.username !== '' || parsed.password !== '') return 'must not carry a user name or password';
  const name = parsed.hostname.replace(/\.$/, '');
  const host = name === 'localhost' || name.endsWith('.localhost') ? '127.0.0.1' : name.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  if (family === 0 || isPublic(host)) return null;
  if (blockList(allowPrivate).check(host, family === 4 ? 'ipv4' : 'ipv6')) return null;
  return 'points at a private or reserved address';
}

const WHY: Readonly<Record<HttpError['kind'], string>> = {
  unsent: 'could not be reached',
  cut: 'broke off while it was read',
  timeout: 'did not answer in time',
  too_large: 'is larger than 64 MB',
  bad_body: 'answered with something unreadable',
  refused_address: 'points at a private or reserved address',
  redirect: 'answered with a redirect, which is not followed',
};

function fetchFailure(error: unknown): unknown {
  if (!(error instanceof HttpError)) return error;
  const code =
    error.kind === 'too_large'
      ? 'too_large'
      : error.kind === 'refused_address'
        ? 'invalid_request'
        : 'unsupported_input';
  return new GatewayError(code, `The input URL ${WHY[error.kind]}.`, { cause: error });
}

/**
 * Opens an input picture by URL: the public internet only, no redirects, at most 64 MB and 20 s. Throws GatewayError
 * `unsupported_input`, `invalid_request` or `too_large`, from here or while the stream is read.
 */
export async function fetchInput(http: Http, url: string, signal: AbortSignal): Promise<Readable> {
  try {
    const response = await http.request(url, {
      trust: 'public',
      maxBytes: MAX_INPUT_BYTES,
      timeoutMs: FETCH_MS,
      signal,
    });
    if (response.ok) return Readable.from(explained(response.stream()));
    response.discard();
    throw new GatewayError('unsupported_input', `The input URL answered ${response.status}.`);
  } catch (error) {
    throw fetchFailure(error);
  }
}

async function* explained(bytes: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of bytes) yield chunk as Buffer;
  } catch (error) {
    throw fetchFailure(error);
  }
}

/** A multiple of four characters, so that every piece decodes by itself. */
const DECODE_STEP = 256 * 1024;

/**
 * The bytes of a `data:…;base64,…` URL, decoded piece by piece so that a large one does not hold up the event loop.
 * Throws GatewayError `invalid_request` when it is none, `too_large` beyond 64 MB.
 */
export function dataUrlToStream(url: string): Readable {
  const comma = url.indexOf(',');
  if (!/^data:[^,]{0,200};base64$/i.test(url.slice(0, Math.max(0, comma)))) {
    throw new GatewayError('invalid_request', 'The data: URL must be of the form data:image/png;base64,….');
  }
  const start = comma + 1;
  if ((url.length - start) * 0.75 > MAX_INPUT_BYTES + 3) {
    throw new GatewayError('too_large', 'The data: URL holds more than 64 MB.');
  }
  return Readable.from(decoded(url, start));
}

function* decoded(url: string, start: number): Generator<Buffer> {
  for (let at = start; at < url.length; at += DECODE_STEP) {
    const piece = url.slice(at, at + DECODE_STEP);
    const last = at + DECODE_STEP >= url.length;
    if (!(last ? /^[\w+/-]*={0,2}$/ : /^[\w+/-]*$/).test(piece)) {
      throw new GatewayError('invalid_request', 'The data: URL is not valid base64.');
    }
    yield Buffer.from(piece, 'base64');
  }
}
