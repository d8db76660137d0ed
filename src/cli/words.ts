// Numbers, times and foreign text as people read them in a terminal. What others wrote (prompts, reasons, names) may hold
// anything; here it becomes one harmless line.

import { stripVTControlCharacters, styleText } from 'node:util';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** 95 → "1 min 35 s". */
export function duration(seconds: number): string {
  if (seconds < 10) return `${Number(Math.max(0, seconds).toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min${tail(whole % MINUTE, 's')}`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h${tail(Math.floor((whole % HOUR) / MINUTE), 'min')}`;
  return `${Math.floor(whole / DAY)} d${tail(Math.floor((whole % DAY) / HOUR), 'h')}`;
}

const tail = (n: number, unit: string) => (n === 0 ? '' : ` ${n} ${unit}`);

/** "4 min ago", in one unit. */
export function ago(timestamp: string, now = Date.now()): string {
  const seconds = (now - Date.parse(timestamp)) / 1000;
  if (Math.abs(seconds) < 2) return 'now';
  const [one, unit] = duration(Math.round(Math.abs(seconds))).split(' ');
  return seconds > 0 ? `${one} ${unit} ago` : `in ${one} ${unit}`;
}

export const count = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

export const credits = (n: number): string => count(n, 'credit');

export function gigabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}

/** One line without control characters, whoever wrote it. */
export const plain = (text: string): string =>
  stripVTControlCharacters(text)
    .replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, ' ')
    .trim();

// biome-ignore lint/suspicious/noControlCharactersInRegex: it looks for exactly these
const COLOURING = /(\u001b\[[\d;]*m)/;

/** One line that may be coloured and can do nothing else to a terminal. */
export const harmless = (text: string): string =>
  text
    .split(COLOURING)
    .map((part, i) =>
      i % 2 === 1
        ? part
        : stripVTControlCharacters(part).replaceAll(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, ' '),
    )
    .join('');

/** At most so many characters, the last one an ellipsis where something was left out. */
export function cut(text: string, length: number): string {
  const letters = [...text];
  return letters.length > length
    ? `${letters
        .slice(0, Math.max(0, length - 1))
        .join('')
        .trimEnd()}…`
    : text;
}

type Terminal = Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>;

/** Broken between words where the terminal ends, with `indent` before every line but the first; whole in a file. */
export function wrapped(text: string, indent: string, stream: Terminal = process.stdout): string {
  const { isTTY, columns } = stream;
  const room = isTTY && columns ? Math.max(30, columns - indent.length) : Number.POSITIVE_INFINITY;
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line !== '' && line.length + 1 + word.length > room) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join(`\n${indent}`);
}

type Style = Parameters<typeof styleText>[0];

/** Colour where a person looks and has not asked for none (NO_COLOR); as it is otherwise. */
export const styled = (style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string =>
  styleText(style, text, { stream });

const COLOURS: Readonly<Record<string, Style>> = {
  succeeded: 'green',
  online: 'green',
  running: 'cyan',
  failed: 'red',
  timeout: 'red',
  offline: 'red',
  wedged: 'red',
  cancelled: 'dim',
  draining: 'yellow',
  closed: 'green',
  open: 'red',
  'half open': 'yellow',
};

/** A status in its colour. */
export const tinted = (status: string): string => {
  const style = COLOURS[status];
  return style === undefined ? status : styled(style, status);
};
