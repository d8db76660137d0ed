// Judges what callers pay against what providers ask: routes that cost more than they bring in, and prices that nobody has
// looked at for long. Only of routes that an account serves: the others cost nothing.

import type { ModelBody } from '../../contract/models.ts';
import { serves } from './accounts.ts';
import { type Finding, warn } from './finding.ts';
import type { Survey } from './survey.ts';

const OLD_MS = 183 * 86_400_000;
/** Fractions of a cent are no loss, but rounding. */
const SLACK_USD = 1e-6;

export function judgePrices(survey: Survey, now = Date.now()): readonly Finding[] {
  return [...survey.models.flatMap((m) => losses(m, survey)), ...stale(survey, now)];
}

const paidRoutes = ({ routes }: ModelBody, { accounts }: Survey) =>
  routes.filter((route) => accounts.some((account) => serves(account, route)));

function losses(model: ModelBody, survey: Survey): readonly Finding[] {
  const charged = perOutput(model) * survey.usdPerCredit;
  return paidRoutes(model, survey).flatMap(({ backend, remote, usd }) =>
    usd === null || usd <= charged + SLACK_USD
      ? []
      : [
          warn(
            `${model.id}: an output by ${backend} (${remote}) costs $${usd}, and callers are charged $${Number(charged.toFixed(6))}`,
            'Raise its price in models.yaml, take that route out, or correct its usd.',
          ),
        ],
  );
}

/** Credits for one output at the model's defaults. */
function perOutput({ price, defaults, estimate_seconds }: ModelBody): number {
  const { width, height, steps, inputs } = defaults;
  const seconds = Number(inputs.seconds ?? inputs.duration ?? 0) || 0;
  return (
    price.per_output +
    price.per_megapixel * (((width ?? 0) * (height ?? 0)) / 1e6) +
    price.per_step * (steps ?? 0) +
    price.per_second * seconds +
    price.per_node_second * estimate_seconds
  );
}

function stale(survey: Survey, now: number): readonly Finding[] {
  const old = survey.models.filter((m) => {
    const read = paidRoutes(m, survey).map((r) => r.price_as_of ?? m.price_as_of);
    return read.some((day) => day !== null && Date.parse(day) < now - OLD_MS);
  });
  if (old.length === 0) return [];
  const names = old.map((m) => m.id).join(', ');
  return [
    warn(
      `prices read more than 6 months ago: ${names}`,
      "Compare them with the providers' lists, then correct price, usd and price_as_of in models.yaml.",
    ),
  ];
}
