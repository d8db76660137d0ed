// YAML files that an operator writes: text → plain data that remembers its lines, so that every complaint can say
// `file:LINE: PATH: expected …`. Bounded: size, alias expansion, and duplicate keys are refused.

import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import type { z } from 'zod';

export interface YamlSource {
  readonly data: unknown;
  /** The line where `path` stands; of its nearest ancestor where it does not. */
  lineOf(path: readonly PropertyKey[]): number;
  /** `FILE:LINE: PATH: MESSAGE`. */
  complaint(path: readonly PropertyKey[], message: string): string;
}

export interface YamlOptions {
  /** What complaints call it. */
  readonly file: string;
  /** Changes a text value before it is used. Throws YamlError to refuse. */
  readonly replace?: (text: string, fail: (message: string) => never) => string;
}

/** A file that cannot be used; `complaints` says every reason, first things first. */
export class YamlError extends Error {
  readonly complaints: readonly string[];
  constructor(complaints: readonly string[]) {
    super(complaints.join('\n'));
    this.name = 'YamlError';
    this.complaints = complaints;
  }
}

const MAX_CHARS = 1024 * 1024;
const MAX_ALIASES = 100;

/** Throws YamlError. */
export function readYaml(text: string, { file, replace }: YamlOptions): YamlSource {
  if (text.length > MAX_CHARS) throw new YamlError([`${file}:1: expected at most ${MAX_CHARS} characters`]);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineAt = (offset: number) => lines.linePos(offset).line;
  if (document.errors.length > 0) {
    throw new YamlError(document.errors.map((e) => `${file}:${lineAt(e.pos[0])}: expected valid YAML: ${e.message}`));
  }
  if (replace) {
    const failures: string[] = [];
    visit(document, {
      Scalar(key, node) {
        if (key === 'key' || typeof node.value !== 'string') return;
        const line = lineAt(node.range?.[0] ?? 0);
        const fail = (message: string): never => {
          throw new YamlError([`${file}:${line}: ${message}`]);
        };
        try {
          node.value = replace(node.value, fail);
        } catch (error) {
          if (!(error instanceof YamlError)) throw error;
          failures.push(...error.complaints);
        }
      },
    });
    if (failures.length > 0) throw new YamlError(failures);
  }
  const lineOf = (path: readonly PropertyKey[]) => {
    let node = document.contents as Node | null;
    let line = 1;
    for (const part of path) {
      const step = descend(isAlias(node) ? (node.resolve(document) ?? null) : node, part);
      if (step === null) break;
      if (step.at !== undefined) line = lineAt(step.at);
      node = step.value;
    }
    return line;
  };
  return {
    data: toData(document, file),
    lineOf,
    complaint: (path, message) => {
      const where = path.length > 0 ? `${path.map(String).join('.')}: ` : '';
      return `${file}:${lineOf(path)}: ${where}${message}`;
    },
  };
}

function toData(document: ReturnType<typeof parseDocument>, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown;
  } catch (error) {
    throw new YamlError([`${file}:1: expected valid YAML: ${error instanceof Error ? error.message : 'unreadable'}`]);
  }
}

function descend(node: Node | null, part: PropertyKey): { value: Node | null; at: number | undefined } | null {
  if (isMap(node)) {
    const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
    if (pair === undefined) return null;
    return { value: pair.value as Node | null, at: isScalar(pair.key) ? pair.key.range?.[0] : undefined };
  }
  if (isSeq(node)) {
    const item = node.items[Number(part)] as Node | undefined;
    return item === undefined ? null : { value: item, at: item.range?.[0] };
  }
  return null;
}

/** The data as `schema` says, or YamlError with one complaint per place, in the order of the file. */
export function checkYaml<T extends z.ZodType>(source: YamlSource, schema: T): z.infer<T> {
  const result = schema.safeParse(source.data, { error: expectation });
  if (result.success) return result.data;
  const found = result.error.issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...issue.path, key], message: 'expected no such key' }));
    }
    return [{ path: issue.path, message: issue.message }];
  });
  const sorted = found.map((f) => ({ ...f, line: source.lineOf(f.path) })).sort((a, b) => a.line - b.line);
  throw new YamlError(sorted.map(({ path, message }) => source.complaint(path, message)));
}

type RawIssue = Parameters<z.core.$ZodErrorMap>[0];

/** zod's complaint in the words of this house: what was expected. */
function expectation(issue: RawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${nameOfType(issue.expected)}${issue.input === undefined ? ', found nothing' : ''}`;
    case 'invalid_value':
      return `expected ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`;
    case 'too_small':
      return `expected ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${unitOf(issue.origin)}`;
    case 'too_big':
      return `expected ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}${unitOf(issue.origin)}`;
    case 'not_multiple_of':
      return `expected a multiple of ${issue.divisor}`;
    case 'invalid_key':
      return 'expected a name of lower-case letters, digits, ".", "_" and "-"';
    default:
      return undefined;
  }
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  record: 'a mapping',
  object: 'a mapping',
  array: 'a list',
  int: 'a whole number',
  string: 'text',
  boolean: 'true or false',
};
const nameOfType = (expected: string): string => TYPE_NAMES[expected] ?? `a ${expected}`;
const unitOf = (origin: string): string => (origin === 'string' ? ' characters' : origin === 'array' ? ' entries' : '');
