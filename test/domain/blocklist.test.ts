import { describe, expect, it } from 'vitest';
import { BlocklistError, createBlocklist, MAX_ENTRIES, MAX_ENTRY_CHARS } from '../../src/domain/blocklist.ts';

const found = (entry: string, prompt: string) => createBlocklist([entry]).hit(prompt)?.found ?? null;
const refusal = (...entries: string[]) => {
  try {
    createBlocklist(entries);
  } catch (error) {
    if (error instanceof BlocklistError) return { index: error.index, message: error.message };
    throw error;
  }
  return null;
};

describe('a term', () => {
  it.each([
    ['gun', 'a man with a gun'],
    ['gun', 'GUN'],
    ['gun', '(gun:1.3), smoke'],
    ['gun', 'a “gun”'],
    ['gun', 'gun\nsmoke'],
    ['Émile Zola', 'portrait of emile zola'],
    ['emile zola', 'ÉMILE ZOLA'],
    ['emile zola', 'E\u0301mile Zola'],
    ['gun', 'ｇｕｎ'],
    ['gun', 'g\u200bu\u00adn'],
    ['mickey mouse', 'Mickey-Mouse'],
    ['mickey mouse', 'mickey_mouse, running'],
    ['mickey-mouse', 'mickey \n mouse'],
    ['strasse', 'die Straße'],
    ['Straße', 'STRASSE'],
    ['łodz', 'in Lodz'],
    ['ΣΑΣ', 'σας'],
    ['c++', 'a book on C++ and tea'],
    ['裸体', '美しい裸体画'],
    ['ガン', 'レーザーｶﾞﾝの絵'],
    ['한국', '한국 지도'],
    ['हिंसा', 'बहुत हिंसा है'],
  ])('%s is found in %j', (entry, prompt) => {
    expect(createBlocklist([entry]).hit(prompt)?.entry).toBe(entry);
  });

  it.each([
    ['gun', 'gunmetal grey'],
    ['gun', 'a shogun in armour'],
    ['gun', 'gun2 of the set'],
    ['gun', ''],
    ['mickey mouse', 'mickey the mouse'],
    ['mickey mouse', 'mickeymouse'],
    ['c++', 'a book on C and tea'],
    ['ガン', 'カンガルー'],
    ['हिंसा', 'अहिंसा परमो धर्म'],
    ['한국', '한국어'],
  ])('%s is not found in %j', (entry, prompt) => {
    expect(found(entry, prompt)).toBeNull();
  });

  it('is told as it stands in the list, with what was found', () => {
    expect(createBlocklist(['Nuke', 'Gün']).hit('no GUN here')).toEqual({ entry: 'Gün', found: 'gun' });
  });

  it('the first of the list is told, not the first of the prompt', () => {
    expect(createBlocklist(['gun', 'knife']).hit('a knife and a gun')?.entry).toBe('gun');
  });

  it('an empty list blocks nothing', () => {
    expect(createBlocklist([]).hit('anything')).toBeNull();
  });
});

describe('a pattern', () => {
  it.each([
    ['/gun/i', 'a shoGUN', 'gun'],
    ['/\\bguns?\\b/i', 'two GUNS', 'guns'],
    ['/\\bguns?\\b/i', 'gunship', null],
    ['/kni(fe|ves)/i', 'Knives out', 'knives'],
    ['/colou?r/i', 'color', 'color'],
    ['/^nude/i', 'nude study', 'nude'],
    ['/^nude/i', 'a nude study', null],
    ['/study$/i', 'nude study', 'study'],
    ['/a.b/i', 'a\nb', 'a\nb'],
    ['/[0-9]{2,3}mm/i', '35MM film', '35mm'],
    ['/\\d{4}/i', '１９４５', '1945'],
    ['/[^a-z ]+x/i', 'aa 12x', '12x'],
    ['/[A-C]at/i', 'BAT', 'bat'],
    ['/café/i', 'CAFE', 'cafe'],
    ['/stra(ß)e/i', 'STRASSE', 'strasse'],
    ['/a{2}/i', 'a aa', 'aa'],
    ['/a{2,}b/i', 'aaaab', 'aaaab'],
    ['/(?:ab){2}/i', 'xabab', 'abab'],
    ['/a+?b/i', 'aab', 'aab'],
    ['/\\w+@\\w+\\.com/i', 'mail bob@example.com', 'bob@example.com'],
    ['/x|y|z/i', 'a big z', 'z'],
    ['/[\\]\\-a]q/i', ']q', ']q'],
    ['/[a-]q/i', '-q', '-q'],
    ['/\\Bun/i', 'gun', 'un'],
    ['/\\Bun/i', 'un', null],
    ['/\\S\\s\\S/i', 'a b', 'a b'],
    ['/a\\/b/i', 'a/b', 'a/b'],
    ['/👍🏽?/i', 'ok 👍', '👍'],
    ['/(a|b)*c/i', 'xababc', 'ababc'],
  ])('%s in %j: %j', (entry, prompt, expected) => {
    expect(found(entry, prompt)).toBe(expected);
  });

  it('agrees with the expressions of the language on what it understands', () => {
    let state = 7;
    const chance = (n: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return (state >>> 8) % n;
    };
    const pick = (list: readonly string[]) => list[chance(list.length)] ?? '';
    const part = (depth: number): string =>
      depth === 0 || chance(3) === 0
        ? pick(['a', 'b', 'c', '.', '[ab]', '[^a]', '\\w', '\\b', '\\s'])
        : pick([
            `${part(depth - 1)}${part(depth - 1)}`,
            `(${part(depth - 1)}|${part(depth - 1)})`,
            `(?:${part(depth - 1)}a)${pick(['*', '+', '?', '{2}', '{1,3}', '{2,}'])}`,
          ]);
    let compared = 0;
    for (let k = 0; k < 3000; k++) {
      const source = part(4);
      const list = refusal(`/${source}/i`) === null ? createBlocklist([`/${source}/i`]) : null;
      for (let j = 0; list !== null && j < 5; j++) {
        const text = Array.from({ length: chance(8) }, () => pick(['a', 'b', 'c', ' '])).join('');
        expect([source, text, list.hit(text) !== null]).toEqual([source, text, new RegExp(source, 'isu').test(text)]);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(5000);
  });

  it.each(['/(a+)+b/i', '/(a|a)*b/i', '/(a*)*b/i', '/a*a*a*a*a*a*b/i', '/(.{1,10}){1,10}b/i'])(
    '%s comes to an end on ten thousand letters, where the expressions of the language do not',
    (entry) => {
      expect(found(entry, 'a'.repeat(10_000))).toBeNull();
    },
  );
});

describe('an entry that cannot be used is named, with the reason', () => {
  it.each([
    ['', /it is empty/],
    [' - ', /it is empty/],
    ['\u200b', /it is empty/],
    ['x'.repeat(MAX_ENTRY_CHARS + 1), /longer than 200/],
    ['/gun/', /written \/…\/i/],
    ['/gun/g', /written \/…\/i/],
    ['/(a)\\1/i', /\\1 is not understood/],
    ['/(?=a)b/i', /only \(…\) and \(\?:…\)/],
    ['/(?<n>a)/i', /only \(…\)/],
    ['/a**/i', /repetition cannot be repeated/],
    ['/*a/i', /nothing to repeat/],
    ['/a{1,101}/i', /counts to 100/],
    ['/a{3,2}/i', /counts upwards/],
    ['/a{x}/i', /write \\\{ for the sign/],
    ['/((a{100}){100})/i', /too large/],
    ['/a((((){100}){100}){100})/i', /empty; use \?/],
    ['/((((a{0}){100}){100}){100})b/i', /can be left out/],
    ['/a|/i', /empty; use \?/],
    ['/a*/i', /even without a single character/],
    ['/\\b/i', /even without a single character/],
    ['/\\b*a/i', /an edge cannot be repeated/],
    ['/(a/i', /not closed/],
    ['/a)/i', /closed that was not opened/],
    ['/[a/i', /a set is not closed/],
    ['/[]/i', /a set is empty/],
    ['/[z-a]/i', /goes upwards/],
    ['/[ß]/i', /cannot stand in a set/],
    ['/a\\/i', /ends in a backslash/],
    ['/\\q/i', /\\q is not understood/],
    ['/a\u200bb/i', /cannot be seen/],
  ])('%j', (entry, message) => {
    expect(refusal('gun', entry)).toEqual({ index: 1, message: expect.stringMatching(message) });
  });

  it('patterns are bounded together, and so are entries', () => {
    expect(refusal(...Array<string>(20).fill('/(abc){100}/i'))?.message).toMatch(/too large/);
    expect(refusal(...Array<string>(25).fill('/a{99}b/i'))).toMatchObject({ message: /together/ });
    expect(refusal(...Array<string>(MAX_ENTRIES + 1).fill('gun'))).toMatchObject({ index: MAX_ENTRIES });
    expect(refusal(...Array<string>(MAX_ENTRIES).fill('gun'))).toBeNull();
  });
});
