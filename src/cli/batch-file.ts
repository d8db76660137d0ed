// What a shot list says, line by line: JSONL or CSV in, fields by name out, each with the line it stands on. A file is
// read whole before anything is sent, so everything that is wrong with it is told at once.

import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { cellValue } from './batch-cells.ts';
import { InputError } from './failing.ts';

/** One line's fields as they were written; cells of a CSV already have the type that the request needs. */
export interface Row {
  readonly line: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Fault {
  readonly line: number;
  readonly message: string;
}

export interface Reading {
  readonly rows: readonly Row[];
  readonly faults: readonly Fault[];
}

const MAX_FILE_BYTES = 512 * 1024 * 1024;

/** Throws InputError where it cannot be read. */
export async function readInput(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new InputError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

/** `.csv` and `.tsv` have a header row; anything else is a JSON object per line. Line ends are made `\n`, so that a file gives the same keys on every machine. */
export function readRows(name: string, bytes: Uint8Array): Reading {
  if (bytes.length > MAX_FILE_BYTES) return fault(1, `the file is larger than ${MAX_FILE_BYTES / 1024 / 1024} MB`);
  const text = decode(bytes);
  if (text === null) return fault(1, 'expected UTF-8 text: save the file as UTF-8');
  const lines = text.replaceAll(/\r\n?/g, '\n');
  const kind = extname(name).toLowerCase();
  if (kind === '.tsv') return csvRows(lines, '\t');
  return kind === '.csv' ? csvRows(lines, separatorOf(lines)) : jsonRows(lines);
}

/** Every fault as `file:line: …`, the first twenty of them. */
export function sayFaults(name: string, faults: readonly Fault[], shown = 20): string {
  const sorted = [...faults].sort((a, b) => a.line - b.line);
  const lines = sorted.slice(0, shown).map((f) => `${name}:${f.line}: ${f.message}`);
  const more = faults.length > shown ? [`… and ${faults.length - shown} more`] : [];
  return [...lines, ...more, 'Nothing was sent.'].join('\n');
}

const fault = (line: number, message: string): Reading => ({ rows: [], faults: [{ line, message }] });

function decode(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function jsonRows(text: string): Reading {
  const rows: Row[] = [];
  const faults: Fault[] = [];
  for (const [at, source] of text.split('\n').entries()) {
    if (source.trim() === '') continue;
    const line = at + 1;
    const value = parseJson(source);
    if (value instanceof SyntaxError) faults.push({ line, message: `not JSON: ${value.message}` });
    else if (typeof value !== 'object' || value === null || Array.isArray(value))
      faults.push({ line, message: 'expected a JSON object: one {…} per line' });
    else rows.push({ line, fields: value as Record<string, unknown> });
  }
  return { rows, faults };
}

function parseJson(source: string): unknown {
  try {
    return JSON.parse(source);
  } catch (error) {
    return error as SyntaxError;
  }
}

interface CsvRecord {
  readonly line: number;
  readonly cells: readonly string[];
}

function csvRows(text: string, delimiter: string): Reading {
  const records = csvRecords(text, delimiter);
  if ('faults' in records) return records;
  const [header, ...body] = records;
  if (header === undefined) return { rows: [], faults: [] };
  const wrong = headerFault(header.cells);
  if (wrong !== null) return fault(header.line, wrong);
  const rows: Row[] = [];
  const faults: Fault[] = [];
  for (const { line, cells } of body) {
    const extra = cells.slice(header.cells.length).some((cell) => cell !== '');
    if (extra) {
      const message = `${cells.length} cells under ${header.cells.length} columns: quote a text that holds a separator`;
      faults.push({ line, message });
      continue;
    }
    const named = header.cells.map((name, i) => [name, cells[i] ?? ''] as const).filter(([, cell]) => cell !== '');
    rows.push({ line, fields: Object.fromEntries(named.map(([name, cell]) => [name, cellValue(name, cell)])) });
  }
  return { rows, faults };
}

/** The header tells: the first line that says anything. */
function separatorOf(text: string): string {
  const [header = ''] = /^.*\S.*$/m.exec(text) ?? [];
  return [',', ';', '\t'].find((d) => header.includes(d)) ?? ',';
}

/** A record's line is the one it begins on; a quoted cell may go over several. */
function csvRecords(text: string, delimiter: string): CsvRecord[] | Reading {
  try {
    const found = parse(text, { delimiter, info: true, relax_column_count: true, trim: true }) as unknown as {
      readonly record: string[];
      readonly info: { readonly lines: number };
    }[];
    return found
      .map(({ record }, i) => ({ line: (found[i - 1]?.info.lines ?? 0) + 1, cells: record }))
      .filter(({ cells }) => cells.some((cell) => cell !== ''));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    return fault(Number(error.lines ?? 1), `not CSV: ${error.message}`);
  }
}

function headerFault(names: readonly string[]): string | null {
  const empty = names.indexOf('');
  if (empty >= 0) return `column ${empty + 1} has no name: the first line names the columns`;
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  return twice === undefined ? null : `the column ${twice} is there twice`;
}
