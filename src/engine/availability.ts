// What could run where, right now, and why not: the same rules as placement, told to people.

import { type Catalog, findModel, recipeFor, routesFor, type Snapshot } from '../catalog/catalog.ts';
import { GatewayError } from '../domain/failure.ts';
import type { Lane } from '../domain/lane.ts';
import { isHosted, type Model, type Route, retiredText } from '../domain/model.ts';
import { type Given, matches, type NodeView } from '../domain/node.ts';
import { barred, hasLost, obstacle, type RouteNeeds } from '../domain/placement.ts';
import type { Millis } from '../domain/units.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { equivalents } from './fallback.ts';

export interface RouteView {
  readonly route: Route;
  readonly usable: boolean;
  readonly whyNot: string | null;
  /** When an account of its said that the provider no longer has it; it may be due to be asked again. */
  readonly goneSince?: Millis | null;
}

export interface ModelView {
  readonly model: Model;
  readonly aliases: readonly string[];
  readonly usable: boolean;
  readonly whyNot: string | null;
  readonly routes: readonly RouteView[];
}

/** Per catalog reading, since the same objects let placement remember its answers. */
const worked = new WeakMap<Snapshot, Map<string, readonly RouteNeeds[]>>();

/** The routes of a model that can take these pictures, with what their workflows need of a node. None: it was retired. */
export function needsOf(catalog: Catalog, model: Model, pictures: Lane['pictures'] = []): readonly RouteNeeds[] {
  return model.retired === true ? [] : workedOut(catalog, model, pictures);
}

function workedOut({ current }: Catalog, model: Model, pictures: Lane['pictures']): readonly RouteNeeds[] {
  const mine = worked.get(current) ?? new Map<string, readonly RouteNeeds[]>();
  worked.set(current, mine);
  const key = [model.id, ...pictures].join(' ');
  const known = mine.get(key);
  if (known !== undefined) return known;
  const given = { initImage: pictures.includes('init_image') ? {} : null, mask: pictures.includes('mask') ? {} : null };
  const needs = routesFor(current, model, given).map((route) => {
    const recipe = recipeFor(current, route, given);
    return { route, classes: recipe?.classes ?? [], files: recipe?.files ?? [], pictures };
  });
  mine.set(key, needs);
  return needs;
}

/** Could any configured node ever serve this model? Health and files do not matter here. */
export function servable(fleet: Fleet, model: Model): boolean {
  return kinOf(fleet, model.routes).length > 0 && !isOver(fleet, model);
}

/** Nothing serves it any more: its day has come, or whoever served it said not long ago that it no longer does. */
export function isOver(fleet: Fleet, { retired, routes }: Model): boolean {
  if (retired === true || !routes.some(({ backend }) => isHosted(backend))) return retired === true;
  const kin = kinOf(fleet, routes);
  return kin.length > 0 && kin.every(([node, route]) => hasLost(node, route));
}

const kinOf = (fleet: Fleet, routes: readonly Route[]): readonly (readonly [NodeView, Route])[] =>
  fleet.views().flatMap((n) => routes.filter((route) => matches(n, route)).map((route) => [n, route] as const));

/** "flux-dev was retired on 2026-06-30", as far as it is known. */
export const overText = (model: Model): string =>
  `${model.id} ${model.retired === true ? retiredText(model) : 'is no longer offered by its provider'}`;

/** Why nothing configured could ever serve it with what is given, whatever its health and files; null where something could. */
export function whyNever(catalog: Catalog, fleet: Fleet, model: Model, { pictures, loras }: Given): string | null {
  const reasons = needsOf(catalog, model, pictures).flatMap((needs) =>
    fleet
      .views()
      .filter((n) => matches(n, needs.route))
      .map((n) => ({ id: n.id, why: barred(n, needs, loras) })),
  );
  if (reasons.length === 0 || reasons.some(({ why }) => why === null)) return null;
  return [...new Set(reasons.map(({ id, why }) => `${id} ${why}`))].join('; ');
}

function whyNot(fleet: Fleet, needs: RouteNeeds, nodes: readonly NodeView[]): string | null {
  const { route } = needs;
  const kin = nodes.filter((n) => matches(n, route));
  if (kin.length === 0 && isHosted(route.backend)) {
    return route.account === null
      ? `no account for ${route.backend} is configured`
      : `the account ${route.account} is not configured`;
  }
  if (kin.length === 0) {
    const labels = route.labels.length ? ` with the labels ${route.labels.join(', ')}` : '';
    return `no ${route.backend} node${labels} is configured`;
  }
  const reasons = kin.map((n) => [n, obstacle(n, needs)] as const);
  if (reasons.some(([, reason]) => reason === null)) return null;
  return reasons.map(([n, reason]) => `${n.id} ${n.setAside ? setAside(fleet, n) : reason}`).join('; ');
}

/** Its circuit is open; what opened it is a failure's message, which callers may read. */
function setAside(fleet: Fleet, { id }: NodeView): string {
  const why = fleet.node(id)?.why ?? 'something failed there';
  return `takes nothing for now: ${why.replace(/\.$/, '')}`;
}

/** Every route once, whatever pictures it wants: none in particular. */
function allNeeds(catalog: Catalog, model: Model): readonly RouteNeeds[] {
  const every = ([[], ['init_image'], ['init_image', 'mask']] as const).flatMap((pictures) =>
    workedOut(catalog, model, pictures),
  );
  return model.routes.flatMap((route) => {
    const needs = every.find((one) => one.route === route);
    return needs === undefined ? [] : [{ route, classes: needs.classes, files: needs.files }];
  });
}

export function viewModel(catalog: Catalog, fleet: Fleet, model: Model): ModelView {
  const nodes = fleet.views();
  const retired = model.retired === true ? retiredText(model) : null;
  const routes = allNeeds(catalog, model).map((needs) => {
    const why = retired ?? whyNot(fleet, needs, nodes);
    const gone = nodes.filter((n) => matches(n, needs.route)).flatMap((n) => n.gone?.(needs.route)?.since ?? []);
    return { route: needs.route, usable: why === null, whyNot: why, goneSince: gone[0] ?? null };
  });
  const usable = routes.some((r) => r.usable);
  const aliases = [...catalog.current.aliases].filter(([, id]) => id === model.id).map(([alias]) => alias);
  const whyNone =
    retired === null ? routes.map((r) => r.whyNot).join('; ') : `${retired}; ${heirText(catalog, fleet, model)}`;
  return { model, aliases, usable, whyNot: usable ? null : whyNone, routes };
}

function heirText(catalog: Catalog, fleet: Fleet, model: Model): string {
  const heir = equivalents(catalog, model).find((m) => servable(fleet, m));
  return heir === undefined ? 'nothing stands in for it' : `${heir.id} stands in for it`;
}

/** The model a name stands for. Throws GatewayError('unknown_model') naming what is near. */
export function modelNamed(catalog: Catalog, name: string): Model {
  const model = findModel(catalog.current, name);
  if (model) return model;
  const known = [...catalog.current.models.keys()];
  const near = known.filter((id) => id.includes(name) || name.includes(id) || id.split('-')[0] === name.split('-')[0]);
  throw new GatewayError(
    'unknown_model',
    `There is no model "${name}".${near.length ? ` Did you mean ${near.join(' or ')}?` : ''}`,
    {
      details: [{ path: 'model', message: `expected one of ${known.join(', ')}` }],
    },
  );
}
