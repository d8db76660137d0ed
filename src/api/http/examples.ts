// A body for every door that takes JSON, as the document and its page show it: small, safe to paste, and soon over.

/** By method and path. */
export const EXAMPLES: Readonly<Record<string, object>> = {
  'post /v1/generations': { model: 'sketch', prompt: 'a lighthouse in fog', size: '1024x1024' },
  'post /v1/batches': {
    name: 'two lighthouses',
    items: [
      { model: 'sketch', prompt: 'a lighthouse at dawn' },
      { model: 'sketch', prompt: 'a lighthouse at night' },
    ],
    max_credits: 10,
  },
  'post /v1/batches/{id}/items': { items: [{ model: 'sketch', prompt: 'a lighthouse in snow' }] },
  'post /v1/webhooks': {
    url: 'https://tools.example.com/darkroom',
    events: ['generation.succeeded', 'batch.finished'],
  },
  'patch /v1/webhooks/{id}': { events: ['generation.succeeded', 'generation.failed'] },
  'post /v1/nodes': { id: 'rack-1', kind: 'comfyui', url: 'http://10.0.0.11:8188' },
  'post /v1/admin/workspaces': { name: 'campaigns', credits: 500 },
  'post /v1/admin/workspaces/{id}/keys': { name: 'agent', scopes: ['generate'] },
  'post /v1/admin/workspaces/{id}/credits': { amount: 250, note: 'May' },
};
