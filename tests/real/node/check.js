// What an ordinary Node.js program does with the ordinary client, unmodified. Prints "node client: ok" at the end.
const assert = require('node:assert');
const { createClient, WatchError } = require('redis');

async function main() {
  const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  client.on('error', (e) => { throw e; });
  await client.connect();
  assert.equal(await client.ping(), 'PONG');
  assert.equal(await client.set('key', 'value', { EX: 100 }), 'OK');
  assert.equal(await client.get('key'), 'value');
  assert.equal(await client.get('missing'), null);
  assert.ok((await client.ttl('key')) > 90);
  assert.equal(await client.incrBy('n', 5), 5);
  assert.equal(await client.incrByFloat('n', 0.5), '5.5');
  assert.equal(await client.set('key', 'other', { NX: true }), null);
  assert.deepEqual(await client.mGet(['key', 'missing', 'n']), ['value', null, '5.5']);
  assert.equal(await client.append('key', '!'), 6);
  assert.equal(await client.getRange('key', 0, 2), 'val');

  const many = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set(`many:${i}`, `${i}`)));
  assert.ok(many.every((r) => r === 'OK'));
  const keys = new Set();
  for await (const found of client.scanIterator({ MATCH: 'many:*', COUNT: 100 })) {
    for (const key of [].concat(found)) keys.add(key);
  }
  assert.equal(keys.size, 1000);

  assert.deepEqual(await client.multi().set('t', '1').incr('t').get('t').exec(), ['OK', 2, '2']);
  const other = client.duplicate();
  await other.connect();
  await client.watch('t');
  await other.set('t', '9');
  await assert.rejects(client.multi().incr('t').exec(), WatchError);

  await assert.rejects(client.incr('key'), /not an integer/);
  assert.equal(await client.sendCommand(['OBJECT', 'ENCODING', 'n']), 'embstr');
  assert.equal(await client.del(['key', 'n', 'missing']), 2);
  const big = 'x'.repeat(3 << 20);
  await client.set('big', big);
  assert.equal(await client.get('big'), big);
  await other.quit();
  await client.quit();
  console.log('node client: ok');
}

main().catch((e) => { console.error(e); process.exit(1); });
