// Why the system could not do it, in words: codes like ENOENT say nothing to who sits at a terminal.

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder',
  ENOTDIR: 'a part of that path is a file',
  EISDIR: 'that is a folder',
  EACCES: 'this user has no permission there',
  EPERM: 'this user has no permission there',
  EROFS: 'nothing can be written there',
  ENOSPC: 'the disk is full',
  ENAMETOOLONG: 'the name is too long',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  ENOTFOUND: 'no machine of this name is known',
  EAI_AGAIN: 'the name could not be looked up',
  EHOSTUNREACH: 'there is no way to that machine',
  ENETUNREACH: 'there is no way to that network',
  ETIMEDOUT: 'it did not answer in time',
  UND_ERR_CONNECT_TIMEOUT: 'it did not answer in time',
  UND_ERR_HEADERS_TIMEOUT: 'it did not answer in time',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it speaks http, not https',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it speaks http, not https',
  HPE_INVALID_CONSTANT: 'what answers there is no web server',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is self-signed',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  'bad port': 'no request is sent to this port, which is kept for another service',
};

interface Coded {
  readonly code?: unknown;
  readonly name?: string;
  readonly message?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

/** The innermost reason that has a name, in words; what the error says itself where it has none. Null: it says nothing. */
export function reasonOf(error: unknown): string | null {
  if (typeof error !== 'object' || error === null) return null;
  const { code, name, message, cause, errors } = error as Coded;
  if (typeof code === 'string' && code in REASONS) return REASONS[code] ?? null;
  if (message !== undefined && message in REASONS) return REASONS[message] ?? null;
  const inner = reasonOf(cause) ?? reasonOf(errors?.[0]);
  if (inner !== null) return inner;
  if (name === 'TimeoutError') return 'it did not answer in time';
  return message || (typeof code === 'string' ? code : null);
}
