// The staircase of the house: who may import whom, and why. A rule that fails names the file and the import.
//
// Imports are read from the source text, types included: a type that points the wrong way is an arrow that points the
// wrong way.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = resolve(import.meta.dirname, '../src');

interface Import {
  /** Paths inside src, with forward slashes. */
  readonly from: string;
  /** The same for files of the house; the package name otherwise. */
  readonly to: string;
  readonly own: boolean;
}

const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
  .map((entry) => relative(SRC, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
  .sort();

const withoutComments = (text: string) => text.replace(/^\s*\/\/.*$/gm, '').replace(/\/\*[\s\S]*?\*\//g, '');
const SPECIFIER =
  /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

function importsOf(file: string, text: string): Import[] {
  return [...withoutComments(text).matchAll(SPECIFIER)].map((match) => {
    const specifier = match[1] ?? match[2] ?? match[3] ?? '';
    const own = specifier.startsWith('.');
    return { from: file, to: own ? posix.normalize(posix.join(dirname(file), specifier)) : specifier, own };
  });
}

const sources = new Map(files.map((file) => [file, readFileSync(join(SRC, file), 'utf8')]));
const imports = files.flatMap((file) => importsOf(file, sources.get(file) ?? ''));
/** package.json lies outside the house; its version may be read anywhere. */
const own = imports.filter((i) => i.own && i.to !== '../package.json');

/** The folder under src; `config.ts` and `config/` are one room, `main.ts` is its own. */
const roomOf = (path: string): string => (path.split('/')[0] ?? '').replace(/\.tsx?$/, '');
const show = (list: readonly Import[]) => list.map(({ from, to }) => `src/${from} imports ${to}`);

interface Rule {
  readonly room: string;
  readonly may: readonly string[];
  readonly because: string;
}

const OUTSIDE = ['domain', 'contract', 'system'];
const STAIRCASE: readonly Rule[] = [
  { room: 'domain', may: [], because: 'the rules are pure: they know no clock, no network and no file' },
  { room: 'system', may: [], because: 'the outside world is handed in by name and knows nothing of generations' },
  {
    room: 'contract',
    may: ['domain'],
    because: 'the wire speaks in the words of the domain and must run in a browser',
  },
  { room: 'store', may: OUTSIDE, because: 'the durable truth knows no nodes, no pictures and no catalog' },
  { room: 'backends', may: OUTSIDE, because: 'speaking to a node needs no store, no credits and no other node' },
  { room: 'media', may: OUTSIDE, because: 'bytes are kept and converted the same, whoever made them' },
  { room: 'catalog', may: OUTSIDE, because: 'what may be asked for does not depend on who is online' },
  {
    room: 'fleet',
    may: ['backends', ...OUTSIDE],
    because: 'nodes are known and timed without knowing what waits for them',
  },
  {
    room: 'engine',
    may: ['fleet', 'store', 'backends', 'media', 'catalog', ...OUTSIDE],
    because: 'the machine knows the rooms below it and no door',
  },
  {
    room: 'api',
    may: ['engine', 'fleet', 'store', 'backends', 'media', 'catalog', ...OUTSIDE],
    because: 'doors parse, call the engine and render',
  },
  {
    room: 'client',
    may: ['contract'],
    because: 'other programs import it: it knows the contract and nothing of the inside',
  },
  { room: 'console', may: ['contract'], because: 'the console is an ordinary client without privileges' },
  {
    room: 'config',
    may: OUTSIDE,
    because: 'settings are read before anything else exists, and a node is written there as it is on the wire',
  },
];
const COMPOSERS = ['main', 'cli'];

describe('imports go down the staircase only', () => {
  test.each(STAIRCASE)('$room: $because', ({ room, may }) => {
    const wrong = own.filter((i) => roomOf(i.from) === room && roomOf(i.to) !== room && !may.includes(roomOf(i.to)));
    expect(show(wrong)).toEqual([]);
  });

  test('every room has its step, so that a new one is thought about', () => {
    const known = new Set([...STAIRCASE.map((r) => r.room), ...COMPOSERS]);
    expect(files.filter((file) => !known.has(roomOf(file)))).toEqual([]);
  });

  test('every import of the house is a file that exists, by its full name', () => {
    expect(show(own.filter((i) => !sources.has(i.to)))).toEqual([]);
  });
});

/** Rooms whose every file is a front door. */
const OPEN = ['domain', 'contract'];
/** Rooms whose front door is not the file named like them. */
const FRONT_DOORS: Readonly<Record<string, readonly string[]>> = {
  backends: ['backends/backend.ts'],
  engine: ['engine/gateway.ts'],
  config: ['config.ts'],
  main: ['main.ts'],
};

test('rooms are entered through their front doors, so that what lies behind them can be moved', () => {
  const wrong = own.filter(({ from, to }) => {
    const room = roomOf(to);
    if (room === roomOf(from) || COMPOSERS.includes(roomOf(from)) || OPEN.includes(room)) return false;
    return !(FRONT_DOORS[room] ?? [`${room}/${room}.ts`]).includes(to);
  });
  expect(show(wrong)).toEqual([]);
});

test('backends do not know each other, so that one can be added or thrown away alone; providers share backends/hosted', () => {
  const kindOf = (path: string) => /^backends\/([^/]+)\//.exec(path)?.[1];
  const wrong = own.filter(
    (i) => kindOf(i.from) !== undefined && ![undefined, 'hosted', kindOf(i.from)].includes(kindOf(i.to)),
  );
  expect(show(wrong)).toEqual([]);
});

test('no file reaches itself through its imports, types included', () => {
  expect(cycles(new Map(files.map((file) => [file, own.filter((i) => i.from === file).map((i) => i.to)])))).toEqual([]);
});

/** Each cycle once, as `a → b → a`. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) found.push([...path.slice(at), file].join(' → '));
    if (at >= 0 || done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return found;
}

test('the domain is pure, so that its tests are tables', () => {
  const impure = imports.filter((i) => roomOf(i.from) === 'domain' && !i.own);
  const timed = files.filter(
    (f) => roomOf(f) === 'domain' && /\bDate\.now\(|\bMath\.random\(|\bnew Date\(\)/.test(sources.get(f) ?? ''),
  );
  expect([...show(impure), ...timed]).toEqual([]);
});

test('contract, client and console run in a browser, so nothing of Node comes in', () => {
  const wrong = imports.filter(
    (i) => ['contract', 'client', 'console'].includes(roomOf(i.from)) && /^node:/.test(i.to),
  );
  expect(show(wrong)).toEqual([]);
});

test('only the composition root reads the environment, so that settings are checked in one place', () => {
  const readers = files.filter((file) => /\bprocess\.env\b/.test(withoutComments(sources.get(file) ?? '')));
  expect(readers.filter((file) => ![...COMPOSERS, 'config'].includes(roomOf(file)))).toEqual([]);
});

test('time and chance come in through system, so that tests can drive them', () => {
  const wild = /\bDate\.now\(|\bMath\.random\(|\bsetTimeout\(|\bsetInterval\(|\bnew Date\(\)/;
  const inside = files.filter((file) => !['system', 'cli', 'client', 'console', 'main'].includes(roomOf(file)));
  expect(inside.filter((file) => wild.test(withoutComments(sources.get(file) ?? '')))).toEqual([]);
});

test('names say what is inside', () => {
  const empty = /(^|\/)(utils?|helpers?|common|shared|misc|types|index)(\/|\.tsx?$)/;
  expect(files.filter((file) => empty.test(file))).toEqual([]);
});

test('files stay short enough to be read at once', () => {
  const long = files.filter((file) => (sources.get(file) ?? '').split('\n').length > 401);
  expect(long).toEqual([]);
});

test('every file opens by saying what it owns', () => {
  expect(files.filter((file) => !/^(#!.*\n)?\/\/ /.test(sources.get(file) ?? ''))).toEqual([]);
});

describe('the reader of imports', () => {
  test('sees every way to import, types and re-exports included, and no comment', () => {
    const text = [
      "import type { A } from './a.ts';",
      "import {\n  b,\n} from '../domain/b.ts';",
      "export { c } from './c.ts';",
      "export * from './d.ts';",
      "import './e.ts';",
      "const f = await import('./f.ts');",
      "// import { g } from './g.ts';",
      "import express from 'express';",
    ].join('\n');
    const seen = importsOf('store/x.ts', text).map((i) => i.to);
    expect(seen).toEqual([
      'store/a.ts',
      'domain/b.ts',
      'store/c.ts',
      'store/d.ts',
      'store/e.ts',
      'store/f.ts',
      'express',
    ]);
  });

  test('finds a circle', () => {
    expect(
      cycles(
        new Map([
          ['a', ['b']],
          ['b', ['c']],
          ['c', ['b']],
        ]),
      ),
    ).toEqual(['b → c → b']);
  });
});
