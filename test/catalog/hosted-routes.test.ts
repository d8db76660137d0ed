// The hosted routes of the catalog that ships, against the providers' own adapters: what a model says it can do is what
// each of its routes is asked for, and a request that says nothing special is taken whole.

import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Order, Provider } from '../../src/backends/hosted/provider.ts';
import { openCatalog, resolveParams, type Snapshot } from '../../src/catalog/catalog.ts';
import { isHosted, type Model, type Route } from '../../src/domain/model.ts';
import { quote } from '../../src/domain/price.ts';
import { silentLog } from '../../src/system/system.ts';
import { ManualClock } from '../harness/manual-clock.ts';

const HOUSE = resolve(import.meta.dirname, '../..');
let catalog: Snapshot;

beforeAll(async () => {
  const { current } = await openCatalog({
    models: resolve(HOUSE, 'models.yaml'),
    workflows: [resolve(HOUSE, 'config/workflows')],
    clock: new ManualClock(),
    log: silentLog,
    watch: false,
  });
  catalog = current;
});

const hostedRoutes = (): readonly (readonly [Model, Route])[] =>
  [...catalog.models.values()].flatMap((m) => m.routes.filter((r) => isHosted(r.backend)).map((r) => [m, r] as const));

async function providerOf({ backend }: Route): Promise<Provider> {
  const room = (await import(`../../src/backends/${backend}/provider.ts`)) as Record<string, Provider>;
  const provider = room[backend];
  if (provider === undefined) throw new Error(`no adapter for ${backend}`);
  return provider;
}

function orderOf(model: Model, route: Route, request: object = {}): Order {
  const pictures = { initImage: null, mask: null };
  const { params } = resolveParams(catalog, model, { prompt: 'a fox', ...request }, 7, pictures);
  const job = {
    id: 'gen_1',
    attempt: 1,
    kind: model.kind,
    route,
    recipe: null,
    params,
    files: [],
    previews: false,
  } as const;
  return { job, remote: route.remote ?? '', params, n: 1, seed: 7, initImage: null, mask: null, marker: 'm' };
}

/** Models that make something of words alone. */
const fromText = ({ capabilities }: Model) => capabilities.has('text-to-image') || capabilities.has('text-to-video');

/** Defaults for the studio's own boxes that mean nothing to a provider. */
const OF_THE_STUDIO = /does not take (guidance|sampler|scheduler); it was left out/;

test('every route names a model that its provider is asked for, and nothing of a plain request is lost', async () => {
  const lost: string[] = [];
  for (const [model, route] of hostedRoutes().filter(([m]) => fromText(m))) {
    const { call, warnings } = await (await providerOf(route)).submit(orderOf(model, route));
    expect(call.method, `${model.id} at ${route.backend}`).toBe('POST');
    lost.push(...warnings.map((warning) => `${model.id} at ${route.backend}: ${warning}`));
  }
  expect(lost.filter((line) => !OF_THE_STUDIO.test(line))).toEqual([]);
});

describe('video', () => {
  const clips = () => hostedRoutes().filter(([m]) => m.kind === 'video');
  test('there is a clip from Luma and one from Runway, from text and from a first frame', () => {
    expect(clips().map(([, r]) => r.backend)).toEqual(['luma', 'runway']);
    for (const [{ capabilities, id }] of clips())
      expect([...capabilities], id).toEqual(expect.arrayContaining(['text-to-video', 'image-to-video']));
  });
  test('costs by the second, whether a length is asked for or not', () => {
    for (const [model, route] of clips()) {
      const price = (request?: object) => quote(model.price, orderOf(model, route, request).params, 1).perOutput;
      expect(price(), model.id).toBe(model.price.perSecond * 5);
      expect(price({ inputs: { seconds: 9 } }), model.id).toBe(model.price.perSecond * 9);
    }
  });
  test('every length that may be asked for is made, and no other may be asked for', async () => {
    for (const [model, route] of clips()) {
      const provider = await providerOf(route);
      const { seconds = [] } = model.limits;
      expect(seconds, model.id).not.toEqual([]);
      for (const length of seconds) await provider.submit(orderOf(model, route, { inputs: { seconds: length } }));
      for (const length of [0, 2.5, 11, 100_000])
        expect(() => orderOf(model, route, { inputs: { seconds: length } }), `${length}`).toThrow(/inputs\.seconds/);
    }
  });
  test('the length that is asked for reaches the provider, and no frame is dearer than the price is for', async () => {
    for (const [model, route] of clips()) {
      const provider = await providerOf(route);
      for (const aspect_ratio of ['16:9', '9:16', '1:1', '21:9']) {
        const { call } = await provider.submit(orderOf(model, route, { aspect_ratio, inputs: { seconds: 9 } }));
        const { duration, resolution = '720p' } = call.json as { duration: unknown; resolution?: string };
        expect([Number.parseInt(String(duration), 10), resolution], `${model.id} ${aspect_ratio}`).toEqual([9, '720p']);
      }
    }
  });
});

test('retired names are served by what replaced them', () => {
  const heirs = {
    'imagen-3': 'imagen',
    'imagen-4': 'imagen',
    'ideogram-v2': 'ideogram',
    'playground-v3': 'playground',
  };
  for (const [name, heir] of Object.entries(heirs)) expect(catalog.aliases.get(name), name).toBe(heir);
});
