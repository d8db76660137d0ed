// Reads the catalog's files: models.yaml and the workflow directories, bounded, and as one reading. What is read is a
// value; whether it makes a catalog is for others to say.

import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { YamlError } from '../system/system.ts';
import type { WorkflowText } from './workflow.ts';

export interface Reading {
  readonly modelsFile: string;
  readonly models: string;
  readonly workflows: readonly WorkflowText[];
  /** Graphs that cannot be used, and why. */
  readonly unusable: ReadonlyMap<string, string>;
  /** Equal for equal files. */
  readonly digest: string;
}

const MAX_MODELS_BYTES = 1024 * 1024;
const MAX_GRAPH_BYTES = 8 * 1024 * 1024;
const MAX_WORKFLOWS = 500;

/** Throws YamlError when a file cannot be read or is too big. A missing workflow directory is an empty one. */
export async function readFiles(models: string, directories: readonly string[]): Promise<Reading> {
  const text = await readBounded(models, MAX_MODELS_BYTES);
  const workflows: WorkflowText[] = [];
  const unusable = new Map<string, string>();
  for (const directory of directories) {
    const known = new Set([...workflows.map((w) => w.name), ...unusable.keys()]);
    const names = await list(directory);
    for (const name of names.filter((n) => n.endsWith('.json')).map((n) => n.slice(0, -'.json'.length))) {
      if (known.has(name)) continue;
      if (names.includes(`${name}.slots.yaml`)) workflows.push(await readWorkflow(directory, name));
      else unusable.set(name, `${name}.json has no ${name}.slots.yaml beside it`);
    }
  }
  if (workflows.length > MAX_WORKFLOWS) throw new YamlError([`workflows: expected at most ${MAX_WORKFLOWS}`]);
  const digest = createHash('sha256')
    .update(JSON.stringify([text, workflows, [...unusable]]))
    .digest('hex');
  return { modelsFile: basename(models), models: text, workflows, unusable, digest };
}

async function readWorkflow(directory: string, name: string): Promise<WorkflowText> {
  const [graphFile, slotsFile] = [`${name}.json`, `${name}.slots.yaml`];
  const [graph, slots] = await Promise.all([
    readBounded(join(directory, graphFile), MAX_GRAPH_BYTES),
    readBounded(join(directory, slotsFile), MAX_MODELS_BYTES),
  ]);
  return { name, graphFile, graph, slotsFile, slots };
}

async function readBounded(path: string, limit: number): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > limit) throw new YamlError([`${basename(path)}:1: expected at most ${limit} bytes, found ${size}`]);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof YamlError) throw error;
    throw new YamlError([`${basename(path)}:1: expected a readable file (${codeOf(error)})`]);
  }
}

async function list(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw new YamlError([`${basename(directory)}:1: expected a readable directory (${codeOf(error)})`]);
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
