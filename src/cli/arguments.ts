// What people type behind options → values; a wrong one is named with what was expected (commander shows it, status 2).

import { InvalidArgumentError } from 'commander';

export function wholeNumber(text: string): number {
  const n = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(n) && n >= 0) return n;
  throw new InvalidArgumentError('Expected a whole number.');
}

export function number(text: string): number {
  const n = Number(text);
  if (text.trim() !== '' && Number.isFinite(n)) return n;
  throw new InvalidArgumentError('Expected a number.');
}

export const list = (text: string): readonly string[] =>
  text
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean);

export type Pairs = Readonly<Record<string, string>>;

/** `key=value`, repeatable. */
export function pair(text: string, before: Pairs = {}): Pairs {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected NAME=VALUE.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** `name` or `name:strength`, repeatable. */
export function lora(text: string, before: readonly { name: string; strength: number }[] = []) {
  const [, name = text, strength = '1'] = /^(.+):(-?[\d.]+)$/.exec(text) ?? [];
  if (!Number.isFinite(Number(strength)))
    throw new InvalidArgumentError('Expected NAME or NAME:STRENGTH, like film-grain:0.6.');
  return [...before, { name, strength: Number(strength) }];
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };

/** A date, a time, or a span from now (`45m 6h 2d 1w`), backwards with `sign` −1 → RFC 3339. */
const moment =
  (sign: 1 | -1) =>
  (text: string): string => {
    const [, amount, unit] = /^(\d+)([mhdw])$/.exec(text) ?? [];
    const at = amount ? Date.now() + sign * Number(amount) * (UNITS[unit as string] as number) : Date.parse(text);
    if (Number.isNaN(at))
      throw new InvalidArgumentError('Expected a date (2026-04-30), a time, or a span like 6h or 2d.');
    return new Date(at).toISOString();
  };
export const past = moment(-1);
export const future = moment(1);
