// A minimal stroke alphabet, so that the label needs no font (a container may have none). A glyph is strokes separated
// by spaces; a stroke is points "xy" on a grid 4 wide and 6 high.

const GLYPHS: Readonly<Record<string, string>> = {
  A: '062046 1434',
  B: '003041423303 3344453606 0006',
  C: '4130100105163645',
  D: '00304145360600',
  E: '40000646 0333',
  F: '400006 0333',
  G: '41301001051636454323',
  H: '0006 4046 0343',
  I: '2026',
  J: '4045361605',
  K: '0006 400346',
  L: '000646',
  M: '0600234046',
  N: '06004640',
  O: '103041453616050110',
  P: '06003041423303',
  Q: '103041453616050110 2446',
  R: '06003041423303 2346',
  S: '413010010213334445361605',
  T: '0040 2026',
  U: '000516364540',
  V: '002640',
  W: '0016233640',
  X: '0046 4006',
  Y: '002340 2326',
  Z: '00400646',
  0: '103041453616050110 1531',
  1: '112026',
  2: '01103041420646',
  3: '01103041423323 334445361605',
  4: '36300444',
  5: '4000033344453606',
  6: '30100105163645443303',
  7: '004016',
  8: '103041423313020110 1304051636454433',
  9: '43130201103041453616',
  '·': '2324',
  '.': '2526',
  ',': '2516',
  '-': '1333',
  '!': '2024 2526',
  '?': '01103041422324 2526',
  ':': '2122 2425',
  '/': '0640',
  '(': '30212536',
  ')': '10212516',
  "'": '2021',
};

const ADVANCE = 6;

/** Text in the letters we have: upper case without accents; what cannot be written is left out. */
export function writable(text: string): string {
  const plain = text.normalize('NFKD').toUpperCase();
  return [...plain]
    .filter((letter) => letter === ' ' || letter in GLYPHS)
    .join('')
    .replace(/ +/g, ' ')
    .trim();
}

/** Path data of `text` (made `writable` before) with its top left at (x, y); one grid unit is `unit` pixels. */
export function strokes(text: string, x: number, y: number, unit: number): string {
  return [...text].map((letter, i) => glyphPath(GLYPHS[letter] ?? '', x + i * ADVANCE * unit, y, unit)).join('');
}

export const widthOf = (text: string, unit: number): number => Math.max(0, text.length * ADVANCE - 2) * unit;

function glyphPath(glyph: string, x: number, y: number, unit: number): string {
  const round = (value: number) => Math.round(value * 10) / 10;
  return glyph
    .split(' ')
    .flatMap((stroke) => {
      const points = stroke.match(/\d\d/g) ?? [];
      return points.map(
        (p, i) => `${i === 0 ? 'M' : 'L'}${round(x + Number(p[0]) * unit)} ${round(y + Number(p[1]) * unit)}`,
      );
    })
    .join('');
}
