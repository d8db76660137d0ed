import { describe, expect, test } from 'vitest';
import { complaintAbout, isAddressRange, nodeAddress, publicAddress } from '../../src/system/system.ts';

describe('a URL that callers name', () => {
  test.each([
    'https://example.com/a.png',
    'http://example.com:8080/',
    'https://8.8.8.8/x',
    'https://[2606:4700::1111]/',
    'https://10.example.com/',
  ])('may be public: %s', (url) => {
    expect(complaintAbout(url, publicAddress([]))).toBeNull();
  });

  test.each([
    'http://127.0.0.1/',
    'http://127.1/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0177.0.0.1/',
    'http://127.0.0.1./',
    'http://0/',
    'http://10.1.2.3/',
    'http://172.31.0.1/',
    'http://192.168.1.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://100.64.0.1/',
    'http://224.0.0.1/',
    'http://255.255.255.255/',
    'http://[::1]/',
    'http://[::]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:a9fe:a9fe]/',
    'http://[64:ff9b::7f00:1]/',
    'http://[2002:7f00:1::]/',
    'http://[fe80::1]/',
    'http://[fd00::1]/',
    'http://[ff02::1]/',
    'http://localhost:8188/',
    'http://LOCALHOST./',
    'http://node.localhost/',
    'http://metadata.google.internal./',
    'http://１２７.０.０.１/',
  ])('is refused when it is private in any spelling: %s', (url) => {
    expect(complaintAbout(url, publicAddress([]))).toBe('points at a private or reserved address');
  });

  test.each([
    ['ftp://example.com/', 'must start with https: or http:'],
    ['file:///etc/passwd', 'must start with https: or http:'],
    ['nonsense', 'is not a URL'],
    ['https://user:secret@example.com/', 'must not carry a user name or password'],
  ])('is refused for what it is: %s', (url, why) => {
    expect(complaintAbout(url, publicAddress([]))).toBe(why);
  });

  test('may be private where the operator allows it', () => {
    const allowed = ['10.0.0.0/8', '192.168.1.5', 'fd00::/8', '127.0.0.0/8'];
    for (const url of ['http://10.9.8.7/', 'http://192.168.1.5/', 'http://[fd00::1]/', 'http://localhost/']) {
      expect(complaintAbout(url, publicAddress(allowed))).toBeNull();
    }
    expect(complaintAbout('http://192.168.1.6/', publicAddress(allowed))).not.toBeNull();
  });
});

describe('the URL of a node', () => {
  test.each([
    'http://127.0.0.1:8188',
    'http://localhost:8188',
    'http://10.0.0.11:8188',
    'http://[fd12::1]:7860',
    'https://gpu.lan/comfy',
    'http://metadata-rack.lan',
  ])('may be private: %s', (url) => {
    expect(complaintAbout(url, nodeAddress)).toBeNull();
  });

  test.each([
    'http://169.254.169.254/latest',
    'http://2852039166/',
    'http://0xa9.254.169.254/',
    'http://[::ffff:169.254.169.254]/',
    'http://[fe80::1]:8188/',
    'http://[fd00:ec2::254]/',
    'http://100.100.100.200/',
    'http://224.0.0.1/',
    'http://0.0.0.0:8188/',
    'http://[::]:8188/',
    'http://metadata/',
    'http://METADATA.google.internal./',
    'http://instance-data/',
  ])('is refused when clouds keep their credentials there, or nobody lives there: %s', (url) => {
    expect(complaintAbout(url, nodeAddress)).toMatch(/not link-local, multicast or a metadata service$/);
  });
});

test('an address range is an address, or one with as many bits as its family has', () => {
  expect(['10.0.0.0/8', '10.1.2.3', 'fd00::/8', '::1/128', '0.0.0.0/0'].filter(isAddressRange)).toHaveLength(5);
  const wrong = ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/9', '10.0.0', 'fd00::/129', 'lan', '10.0.0.0/-1', ''];
  expect(wrong.filter(isAddressRange)).toEqual([]);
  for (const range of wrong) expect(() => publicAddress([range])).toThrow('is not an address range');
});
