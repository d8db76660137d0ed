// Which routes can take a request's pictures, and which workflow each of them runs then. One route may stand for
// several workflows: text to image, and its variants for an init image or a mask.

import type { Model, Recipe, Route } from '../domain/model.ts';
import type { Snapshot } from './snapshot.ts';

/** Only whether they are given matters here. */
interface Pictures {
  readonly initImage: object | null;
  readonly mask: object | null;
}

export type Recipes = Pick<Snapshot, 'recipes'>;

/** The recipe a route runs for these pictures: its workflow, or the variant with the slots for them. Null: not a workflow, or none fits. */
export function recipeFor({ recipes }: Recipes, route: Route, pictures: Pictures): Recipe | null {
  const base = route.workflow === null ? undefined : recipes.get(route.workflow);
  if (base === undefined) return null;
  const { initImage = null, mask = null } = base.variants ?? {};
  const tried = [base.name, pictures.mask === null ? initImage : mask];
  const fitting = tried.map((name) => (name === null ? undefined : recipes.get(name)));
  return fitting.find((recipe) => recipe !== undefined && fits(recipe, pictures)) ?? null;
}

function fits(recipe: Recipe, { initImage, mask }: Pictures): boolean {
  const given = { init_image: initImage !== null, mask: mask !== null };
  return (['init_image', 'mask'] as const).every((name) => {
    const slot = recipe.slots.find((s) => s.name === name);
    return slot === undefined ? !given[name] : given[name] || !slot.required;
  });
}

/** The model's routes that can take these pictures, in order. */
export function routesFor(snapshot: Recipes, model: Model, pictures: Pictures): readonly Route[] {
  return model.routes.filter((route) => route.workflow === null || recipeFor(snapshot, route, pictures) !== null);
}
