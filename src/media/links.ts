// Links to files that need no key: an HMAC over what the link names and until when. The expiry is part of what is
// signed, so the same output gives the same link on every poll and nobody can lengthen it.

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Millis } from '../domain/units.ts';

export interface Link {
  readonly generation: string;
  readonly index: number;
  readonly what: 'output' | 'thumbnail';
  /** Links count whole seconds; a part of one is cut off. */
  readonly expiresAt: Millis;
}

export interface Links {
  /** Path and query (`/v1/outputs/gen_…/0?expires=…&signature=…`); the door puts its base URL in front. */
  sign(link: Link): string;
  /** Constant-time. False when forged or past `now`. */
  verify(link: Link, signature: string, now: Millis): boolean;
}

const pathOf = ({ generation, index, what }: Link): string =>
  `/v1/outputs/${generation}/${index}${what === 'thumbnail' ? '/thumbnail' : ''}`;
const secondsOf = ({ expiresAt }: Link): number => Math.floor(expiresAt / 1000);

export function createLinks(secret: string): Links {
  const seal = (link: Link) =>
    createHmac('sha256', secret)
      .update(`${pathOf(link)}?expires=${secondsOf(link)}`)
      .digest('base64url');
  return {
    sign: (link) => `${pathOf(link)}?expires=${secondsOf(link)}&signature=${seal(link)}`,
    verify(link, signature, now) {
      const expected = Buffer.from(seal(link));
      const given = Buffer.from(signature);
      return given.length === expected.length && timingSafeEqual(given, expected) && now < secondsOf(link) * 1000;
    },
  };
}
