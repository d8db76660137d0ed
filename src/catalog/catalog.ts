// models.yaml and workflows → models, limits, recipes, prices. The last good catalog keeps serving when an edit is bad.
//
// Files are watched; whatever happens to them, they are read again as a whole and compared, so it does not matter how
// an editor saves. A reading becomes a snapshot entirely or not at all.

import { basename, dirname } from 'node:path';
import { watch as watchFiles } from 'chokidar';
import type { Recipe } from '../domain/model.ts';
import type { Millis } from '../domain/units.ts';
import { type Clock, type Log, startLoop, YamlError } from '../system/system.ts';
import { type Reading, readFiles } from './files.ts';
import { parseModels } from './parse.ts';
import { asOf, nextRetirement, type Snapshot } from './snapshot.ts';
import { parseWorkflow } from './workflow.ts';

export { requestHash } from './hash.ts';
export { resolveParams } from './resolve.ts';
export { recipeFor, routesFor } from './routes.ts';
export { findModel, type Snapshot } from './snapshot.ts';

export interface CatalogStatus {
  readonly ok: boolean;
  /** `models.yaml:LINE: PATH: expected …` of the refused edit, or null. */
  readonly error: string | null;
  readonly loadedAt: Millis;
}

export interface Catalog {
  readonly current: Snapshot;
  readonly status: CatalogStatus;
  /** Called after every successful reload. */
  onChange(listener: () => void): Disposable;
  close(): Promise<void>;
}

export interface CatalogOptions {
  /** Path of models.yaml. */
  readonly models: string;
  /** Directories of workflows; the first that has a name wins. */
  readonly workflows: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  /** Follow edits of the files. Default true. */
  readonly watch?: boolean;
}

/** How long files must be left alone before an edit is read: editors write in several steps. */
const SETTLE_MS = 200;
/** Longer than this no wait for a day is, since wall clocks are set. */
const LONGEST_WAIT_MS = 3_600_000;

/** Reads the catalog. Throws an Error whose message names every mistake by file and line: a bad one does not start. */
export async function openCatalog({ models, workflows, clock, log, watch = true }: CatalogOptions): Promise<Catalog> {
  const first = await readFiles(models, workflows);
  let current = asOf(toSnapshot(first, clock.now()), clock.now());
  let good = first.digest;
  let error: string | null = null;
  const listeners = new Set<() => void>();

  let calendar: Disposable | null = null;
  const become = (next: Snapshot) => {
    current = next;
    turnPages();
    for (const listener of [...listeners]) listener();
  };
  /** Looks again on the day the next model retires. */
  const turnPages = () => {
    calendar?.[Symbol.dispose]();
    const wait = Math.min(LONGEST_WAIT_MS, nextRetirement(current) - clock.now());
    calendar =
      nextRetirement(current) === Infinity
        ? null
        : clock.timer(Math.max(1, wait), () => {
            const now = asOf(current, clock.now());
            if (now === current) turnPages();
            else become(now);
          });
  };
  turnPages();

  const refuse = (complaints: readonly string[]) => {
    error = complaints[0] ?? 'the catalog cannot be read';
    log.error({ complaints }, `catalog edit refused, the last good one keeps serving: ${error}`);
  };
  const reload = async () => {
    try {
      const reading = await readFiles(models, workflows);
      if (reading.digest === good && error === null) return;
      const read = toSnapshot(reading, clock.now());
      good = reading.digest;
      error = null;
      log.info({ models: read.models.size, workflows: read.recipes.size }, 'catalog reloaded');
      become(asOf(read, clock.now()));
    } catch (thrown) {
      if (!(thrown instanceof YamlError)) throw thrown;
      if (thrown.complaints[0] !== error) refuse(thrown.complaints);
    }
  };
  const follower = watch ? await follow([dirname(models), ...workflows], { clock, log, reload }) : null;
  return {
    get current() {
      return current;
    },
    get status() {
      return { ok: error === null, error, loadedAt: current.loadedAt };
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async close() {
      listeners.clear();
      await follower?.();
      calendar?.[Symbol.dispose]();
    },
  };
}

function toSnapshot(reading: Reading, loadedAt: Millis): Snapshot {
  const recipes = new Map<string, Recipe>();
  const complaints: string[] = [];
  for (const text of reading.workflows) {
    try {
      recipes.set(text.name, parseWorkflow(text));
    } catch (error) {
      if (!(error instanceof YamlError)) throw error;
      complaints.push(...error.complaints);
    }
  }
  if (complaints.length > 0) throw new YamlError(complaints);
  return {
    ...parseModels(reading.models, reading.modelsFile, { recipes, unusable: reading.unusable }),
    recipes,
    loadedAt,
  };
}

interface Following {
  readonly clock: Clock;
  readonly log: Log;
  readonly reload: () => Promise<void>;
}

/** Calls `reload` once things have been quiet for a moment. Answers how to stop. */
async function follow(directories: readonly string[], { clock, log, reload }: Following): Promise<() => Promise<void>> {
  const loop = startLoop({
    name: 'catalog',
    clock,
    log,
    tick: async () => {
      await reload();
      return null;
    },
  });
  let quiet: Disposable | null = null;
  const watcher = watchFiles([...directories], {
    depth: 0,
    ignoreInitial: true,
    ignored: (path) => ['node_modules', '.git'].includes(basename(path)),
  });
  watcher.on('all', () => {
    quiet?.[Symbol.dispose]();
    quiet = clock.timer(SETTLE_MS, loop.wake);
  });
  watcher.on('error', (error) =>
    log.warn({ err: error }, 'cannot follow the catalog files; edits are seen at the next start'),
  );
  await new Promise<void>((resolve) => watcher.once('ready', () => resolve()));
  return async () => {
    quiet?.[Symbol.dispose]();
    await watcher.close();
    await loop.stop();
  };
}
