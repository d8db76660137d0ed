// What may be asked for, and what can run now.

import { ListQuery } from '../../contract/lists.ts';
import { ModelAnswer, ModelList, renderCatalog, renderModel } from '../../contract/models.ts';
import { may } from '../../domain/caller.ts';
import type { Gateway } from '../../engine/gateway.ts';
import { shortList } from './lists.ts';
import { json, type Route, route } from './route.ts';

export function modelRoutes(gateway: Gateway): readonly Route[] {
  return [
    route({
      method: 'get',
      path: '/v1/models',
      tag: 'Models',
      summary: 'The catalog',
      description: 'Every model, its price, its limits, and whether it is usable now.',
      scope: 'read',
      query: ListQuery,
      answers: { 200: ModelList },
      run({ query, caller }) {
        const { data, catalog } = gateway.models();
        const rendered = data.map((m) => renderModel(m, { lists: may(caller, 'admin') }));
        return json({ ...shortList(rendered, (m) => m.id, query), catalog: renderCatalog(catalog) });
      },
    }),
    route({
      method: 'get',
      path: '/v1/models/:id',
      tag: 'Models',
      summary: 'One model',
      scope: 'read',
      answers: { 200: ModelAnswer },
      run({ params, caller }) {
        return json({
          ...renderModel(gateway.model(params.id as string), { lists: may(caller, 'admin') }),
          catalog: renderCatalog(gateway.models().catalog),
        });
      },
    }),
  ];
}
