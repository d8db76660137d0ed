// The fleet, for operators.

import { ListQuery } from '../../contract/lists.ts';
import { NodeBody, NodeList, NodeRequest, renderNode } from '../../contract/nodes.ts';
import type { Gateway } from '../../engine/gateway.ts';
import { shortList } from './lists.ts';
import { json, nothing, type Route, route } from './route.ts';

const TAG = 'Nodes';

export function nodeRoutes(gateway: Gateway): readonly Route[] {
  const act = (verb: 'drain' | 'resume', summary: string) =>
    route({
      method: 'post',
      path: `/v1/nodes/:id/${verb}`,
      tag: TAG,
      summary,
      scope: 'admin',
      answers: { 200: NodeBody },
      async run({ params }) {
        const id = params.id as string;
        return json(renderNode(await (verb === 'drain' ? gateway.drainNode(id) : gateway.resumeNode(id))));
      },
    });
  return [
    route({
      method: 'get',
      path: '/v1/nodes',
      tag: TAG,
      summary: 'Every node and how it is',
      scope: 'admin',
      query: ListQuery,
      answers: { 200: NodeList },
      run: ({ query }) => json(shortList(gateway.nodes().map(renderNode), (n) => n.id, query)),
    }),
    route({
      method: 'post',
      path: '/v1/nodes',
      tag: TAG,
      summary: 'Add a node',
      description: 'The same object as in config/darkroom.yaml. It is kept even if it is down.',
      scope: 'admin',
      body: NodeRequest,
      answers: { 201: NodeBody },
      run: async ({ body }) => json(renderNode(await gateway.addNode(body)), 201),
    }),
    act('drain', 'Give a node no new work'),
    act('resume', 'Give it work again'),
    route({
      method: 'delete',
      path: '/v1/nodes/:id',
      tag: TAG,
      summary: 'Remove a node',
      scope: 'admin',
      answers: { 204: 'Gone.' },
      async run({ params }) {
        await gateway.removeNode(params.id as string);
        return nothing;
      },
    }),
  ];
}
