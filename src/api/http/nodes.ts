// The fleet, for operators.

import { ListQuery } from '../../contract/lists.ts';
import { MemberBody, NodeBody, NodeList, NodeRequest, renderMember, renderNode } from '../../contract/nodes.ts';
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
      answers: { 200: MemberBody },
      async run({ params }) {
        const id = params.id as string;
        return json(renderMember(await (verb === 'drain' ? gateway.drainNode(id) : gateway.resumeNode(id))));
      },
    });
  return [
    route({
      method: 'get',
      path: '/v1/nodes',
      tag: TAG,
      summary: 'Every node and account, and how it is',
      scope: 'admin',
      query: ListQuery,
      answers: { 200: NodeList },
      run: ({ query }) => json(shortList(gateway.nodes().map(renderMember), (n) => n.id, query)),
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
    act('drain', 'Give a node or an account no new work'),
    act('resume', 'Give it work again; an account whose circuit is open is tried at once'),
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
