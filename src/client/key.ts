// Idempotency keys of the client's own: with one on it, a submit whose answer was lost can be asked again.

/** 128 random bits. (randomUUID is missing on pages served without TLS.) */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `client-${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
