// Writes the list of a night's work: every product in four shots, one line each, as `darkroom batch run` reads it.
//
//   node overnight-shots.mjs 500 > shots.jsonl

const products = Number(process.argv[2] ?? 500);
const SHOTS = {
  hero: 'on a walnut desk at dawn, 35 mm, soft shadows',
  detail: 'macro of the material, shallow depth of field',
  packshot: 'centred on seamless white, even light',
  lifestyle: 'in a lived-in room, late afternoon sun',
};

for (let product = 1; product <= products; product++) {
  const sku = `LAMP-${String(product).padStart(4, '0')}`;
  for (const [variant, style] of Object.entries(SHOTS)) {
    const line = { sku, variant, prompt_version: 3, prompt: `desk lamp no. ${product}, ${style}`, size: '768x768' };
    console.log(JSON.stringify(line));
  }
}
